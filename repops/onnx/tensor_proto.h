// Tensors of the ONNX format: elements as raw bytes, in typed fields, or in a file beside the
// model.
#pragma once

#include <string>

#include <verbatim/core/codec.h>
#include <verbatim/core/tensor.h>

namespace google::protobuf {
class MessageLite;
}

namespace verbatim::onnx {

class TensorProto;

// Bounded: size below 2 GiB, recursion below a small depth. The error names the byte at which the
// parser gave up.
Status parse_message(ByteView bytes, const std::string& source,
                     google::protobuf::MessageLite& message);

// Where external data may lie; nullptr where it may not.
Result<Tensor> convert_tensor(const TensorProto& proto, const std::string* folder);

}  // namespace verbatim::onnx
