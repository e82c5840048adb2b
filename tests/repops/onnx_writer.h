// Writes ONNX models for tests, byte by byte from the public format (protobuf's wire encoding), so
// that the importer is tested against something other than the parser it uses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <verbatim/core/tensor_root.h>

namespace verbatim::testing {

class Message {
 public:
  Message& number(uint32_t field, int64_t value) {
    tag(field, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& text(uint32_t field, const std::string& value) {
    tag(field, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(uint32_t field, const Message& value) { return text(field, value.bytes_); }
  Message& real(uint32_t field, float value) {
    tag(field, 5);
    std::byte b[4];
    store_le(b, std::bit_cast<uint32_t>(value));
    bytes_ += as_chars(b);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void tag(uint32_t field, uint32_t wire) { varint(field << 3 | wire); }
  void varint(uint64_t v) {
    for (; v >= 0x80; v >>= 7) bytes_ += static_cast<char>(v | 0x80);
    bytes_ += static_cast<char>(v);
  }
  std::string bytes_;
};

inline Message tensor_message(const Tensor& t, const std::string& name = "") {
  Message m;
  for (int64_t d : t.shape().dims()) m.number(1, d);
  m.number(2, static_cast<int64_t>(t.dtype()));
  if (!name.empty()) m.text(8, name);
  return m.text(9, std::string(as_chars(little_endian_bytes(*t.reshaped(Shape{t.elements()})))));
}

inline Message attribute(const std::string& name, int64_t v) {
  return Message().text(1, name).number(3, v).number(20, 2);
}
inline Message attribute(const std::string& name, float v) {
  return Message().text(1, name).real(2, v).number(20, 1);
}
inline Message attribute(const std::string& name, const std::string& v) {
  return Message().text(1, name).text(4, v).number(20, 3);
}
inline Message attribute(const std::string& name, const Tensor& v) {
  return Message().text(1, name).message(5, tensor_message(v)).number(20, 4);
}
inline Message attribute(const std::string& name, const std::vector<int64_t>& v) {
  Message m = Message().text(1, name);
  for (int64_t x : v) m.number(8, x);
  return m.number(20, 7);
}
inline Message attribute(const std::string& name, const std::vector<float>& v) {
  Message m = Message().text(1, name);
  for (float x : v) m.real(7, x);
  return m.number(20, 6);
}

inline Message node(const std::string& op, const std::vector<std::string>& inputs,
                    const std::vector<std::string>& outputs,
                    const std::vector<Message>& attributes = {}, const std::string& name = "") {
  Message m;
  for (const std::string& s : inputs) m.text(1, s);
  for (const std::string& s : outputs) m.text(2, s);
  if (!name.empty()) m.text(3, name);
  m.text(4, op);
  for (const Message& a : attributes) m.message(5, a);
  return m;
}

// A named tensor type; a dimension of -1 is a symbol.
inline Message value_info(const std::string& name, DType dtype, const std::vector<int64_t>& dims) {
  Message shape;
  for (int64_t d : dims) shape.message(1, d < 0 ? Message().text(2, "n") : Message().number(1, d));
  return Message().text(1, name).message(
      2, Message().message(1, Message().number(1, static_cast<int64_t>(dtype)).message(2, shape)));
}

struct ModelParts {
  int64_t opset = 18;
  std::vector<Message> nodes, inputs, outputs, initializers;
};

inline Message graph_message(const ModelParts& parts) {
  Message graph;
  for (const Message& n : parts.nodes) graph.message(1, n);
  graph.text(2, "graph");
  for (const Message& t : parts.initializers) graph.message(5, t);
  for (const Message& i : parts.inputs) graph.message(11, i);
  for (const Message& o : parts.outputs) graph.message(12, o);
  return graph;
}
// A branch of an If.
inline Message attribute(const std::string& name, const ModelParts& graph) {
  return Message().text(1, name).message(6, graph_message(graph)).number(20, 5);
}

inline std::string model_bytes(const ModelParts& parts) {
  return Message()
      .number(1, 8)
      .message(7, graph_message(parts))
      .message(8, Message().text(1, "").number(2, parts.opset))
      .bytes();
}

}  // namespace verbatim::testing
