// ONNX models as graphs. Operator sets 1 to 27 become one: every operator has the meaning of the
// newest, older forms (an axis as an attribute, Softmax of a matrix, Upsample) being rewritten
// while the graph is built (lower.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include <verbatim/core/codec.h>
#include <verbatim/repops/graph.h>

namespace verbatim {

inline constexpr int64_t kMaxOnnxOpset = 27;

// A graph, and names of the file that the graph does not keep: they are no part of the program.
struct OnnxModel {
  Graph graph;
  // Every named value but those of bodies. kAbsent: two branches use the name.
  std::map<std::string, ValueId> values;
  // For each input of the graph, for each dimension: its symbol, or "" where there is none.
  std::vector<std::vector<std::string>> dims;
};

// The graph of a serialised ModelProto, validated. `source` names the model in errors; tensors kept
// outside it are read from below `folder` and nowhere else. Initializers that are also inputs are
// constants, and so are the inputs of one element to which `fixed` gives a number. Nodes may come
// in any order: where the file's is not topological, the least index that is ready comes next. An
// If whose condition follows from constants is the branch that it chooses, and a sequence whose
// length and positions do is the list of its tensors (sequences.h). Errors: bad_input (with the
// byte offset of the item at fault), unsupported (operators, types), limit, usage (`fixed` names no
// such input).
Result<OnnxModel> import_onnx_model(ByteView bytes, const std::string& source,
                                    const std::string& folder,
                                    const std::map<std::string, std::string>& fixed = {});
Result<Graph> import_onnx(ByteView bytes, const std::string& source, const std::string& folder);

// A serialised TensorProto whose elements it holds itself.
Result<Tensor> parse_onnx_tensor(ByteView bytes, const std::string& source);

// Its name, which may be empty.
Result<std::string> parse_onnx_tensor_name(ByteView bytes, const std::string& source);

}  // namespace verbatim
