// ONNX models as graphs. Operator sets 1 to 27 become one: every operator has the meaning of the
// newest, older forms (an axis as an attribute, Softmax of a matrix, Upsample) being rewritten
// while the graph is built (lower.h).
#pragma once

#include <string>

#include <verbatim/core/codec.h>
#include <verbatim/repops/graph.h>

namespace verbatim {

inline constexpr int64_t kMaxOnnxOpset = 27;

// The graph of a serialised ModelProto, validated. `source` names the model in errors; tensors kept
// outside it are read from below `folder` and nowhere else. Initializers that are also inputs are
// constants. Nodes may come in any order: where the file's is not topological, the least index that
// is ready comes next. Errors: bad_input (with the byte offset of the item at fault), unsupported
// (operators, types), limit.
Result<Graph> import_onnx(ByteView bytes, const std::string& source, const std::string& folder);

// A serialised TensorProto whose elements it holds itself.
Result<Tensor> parse_onnx_tensor(ByteView bytes, const std::string& source);

// Its name, which may be empty.
Result<std::string> parse_onnx_tensor_name(ByteView bytes, const std::string& source);

}  // namespace verbatim
