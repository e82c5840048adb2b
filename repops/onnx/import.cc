#include <verbatim/repops/onnx/import.h>

#include <optional>

#include <verbatim/repops/onnx/graph_reader.h>
#include <verbatim/repops/onnx/tensor_proto.h>

#include "model_proto.pb.h"

namespace verbatim {
namespace {

// Where things are in the file: protobuf's parser does not tell.
constexpr uint32_t kGraphField = 7;

// Steps through the fields of one message; stops at malformed bytes.
class FieldWalk {
 public:
  FieldWalk(ByteView bytes, size_t begin, size_t end) : bytes_(bytes), at_(begin), end_(end) {}
  // The next length-delimited field: its number and the range of its content.
  bool next(uint32_t& field, size_t& begin, size_t& end) {
    while (at_ < end_) {
      uint64_t tag = 0, value = 0;
      if (!varint(tag)) return false;
      switch (tag & 7) {
        case 0:
          if (!varint(value)) return false;
          break;
        case 1:
          at_ += 8;
          break;
        case 5:
          at_ += 4;
          break;
        case 2:
          if (!varint(value) || value > end_ - at_) return false;
          field = static_cast<uint32_t>(tag >> 3);
          begin = at_;
          end = at_ += static_cast<size_t>(value);
          return true;
        default:
          return false;
      }
    }
    return false;
  }

 private:
  bool varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && at_ < end_; shift += 7) {
      const auto byte = static_cast<uint64_t>(bytes_[at_++]);
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  ByteView bytes_;
  size_t at_, end_;
};

// The offset of item `index` of a repeated field of the model's graph; 0 where it is not found.
uint64_t offset_of(ByteView model, uint32_t wanted, int index) {
  FieldWalk outer(model, 0, model.size());
  uint32_t field = 0;
  size_t begin = 0, end = 0;
  while (outer.next(field, begin, end)) {
    if (field != kGraphField) continue;
    FieldWalk inner(model, begin, end);
    size_t from = 0, to = 0;
    while (inner.next(field, from, to))
      if (field == wanted && index-- == 0) return from;
  }
  return 0;
}

// Of ONNX's own operators.
Result<int64_t> read_version(const onnx::ModelProto& model) {
  std::optional<int64_t> stated;
  std::string others;
  for (const onnx::OperatorSetProto& set : model.opset_import())
    if (set.domain().empty() || set.domain() == "ai.onnx")
      stated = set.version();
    else if (others.empty())
      others = onnx::text_of(set.domain());
  if (!stated && !others.empty())
    return unsupported("operators of domain '" + others + "', none of ONNX's own");
  const int64_t version = stated.value_or(1);
  if (version < 1 || version > kMaxOnnxOpset)
    return unsupported("operator set " + std::to_string(version) + " (1 to " +
                       std::to_string(kMaxOnnxOpset) + " are supported)");
  return version;
}

}  // namespace

Result<OnnxModel> import_onnx_model(ByteView bytes, const std::string& source,
                                    const std::string& folder,
                                    const std::map<std::string, std::string>& fixed) {
  onnx::ModelProto model;
  VB_TRY(onnx::parse_message(bytes, source, model));
  if (!model.has_graph()) return bad_input_at(source, 0, "no graph: not an ONNX model");
  const Result<int64_t> version = read_version(model);
  if (!version.ok()) return version.status().with_context(source);
  if (model.functions_size() > 0) return unsupported(source + ": functions defined by the model");
  const auto place = [&](uint32_t field, int index) {
    return source + ": byte " + std::to_string(offset_of(bytes, field, index));
  };
  onnx::Emitter emitter;
  onnx::GraphReader reader(source, *version, folder, place, fixed);
  VB_TRY(reader.read(model.graph(), emitter));
  Result<Graph> graph = emitter.finish();
  if (!graph.ok()) return graph.status().with_context(source);
  return OnnxModel{*std::move(graph), reader.names(), reader.symbols()};
}

Result<Graph> import_onnx(ByteView bytes, const std::string& source, const std::string& folder) {
  VB_ASSIGN(OnnxModel model, import_onnx_model(bytes, source, folder));
  return std::move(model.graph);
}

Result<Tensor> parse_onnx_tensor(ByteView bytes, const std::string& source) {
  onnx::TensorProto proto;
  VB_TRY(onnx::parse_message(bytes, source, proto));
  Result<Tensor> t = onnx::convert_tensor(proto, nullptr);
  if (!t.ok()) return t.status().with_context(source + ": byte 0");
  return t;
}

Result<std::string> parse_onnx_tensor_name(ByteView bytes, const std::string& source) {
  onnx::TensorProto proto;
  VB_TRY(onnx::parse_message(bytes, source, proto));
  return onnx::text_of(proto.name());
}

}  // namespace verbatim
