#include <verbatim/repops/onnx/import.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <queue>
#include <set>

#include <verbatim/repops/onnx/lower.h>
#include <verbatim/repops/onnx/tensor_proto.h>

#include "model_proto.pb.h"

namespace verbatim {
namespace {

using onnx::Emitter;

constexpr int kMaxNodes = 1 << 18;
constexpr int kMaxValues = 1 << 20;
constexpr int kMaxEdges = 1 << 12;  // inputs or outputs of one node
constexpr int kMaxAttributes = 64;
constexpr size_t kMaxName = 512;
constexpr int kMaxList = 1 << 20;  // elements of an attribute

// Text of the file as it may be shown and hashed.
std::string text_of(const std::string& s) {
  return printable(std::string_view(s).substr(0, kMaxName));
}

// --- where things are in the file: protobuf's parser does not tell
// ----------------------------------------------------------

constexpr uint32_t kGraphField = 7, kNodeField = 1, kInitializerField = 5, kInputField = 11;

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

// --- pieces
// -----------------------------------------------------------------------------------------------------------------

Result<Attribute> convert_attribute(const onnx::AttributeProto& a, const std::string& folder) {
  enum Kind { kUnknown, kFloat, kInt, kString, kTensor, kGraph, kFloats, kInts, kStrings };
  if (a.has_ref_attr_name() && !a.ref_attr_name().empty())
    return unsupported("it refers to a function's attribute");
  int kind = a.type();
  if (kind == kUnknown)  // files older than the field
    kind = a.has_f()              ? kFloat
           : a.has_i()            ? kInt
           : a.has_s()            ? kString
           : a.has_t()            ? kTensor
           : a.has_g()            ? kGraph
           : a.floats_size() > 0  ? kFloats
           : a.ints_size() > 0    ? kInts
           : a.strings_size() > 0 ? kStrings
                                  : kUnknown;
  if (a.floats_size() > kMaxList || a.ints_size() > kMaxList || a.strings_size() > kMaxList)
    return over_limit("a list of more than " + std::to_string(kMaxList));
  switch (kind) {
    case kFloat:
      return Attribute(a.f());
    case kInt:
      return Attribute(a.i());
    case kString:
      return Attribute(a.s());
    case kTensor: {
      VB_ASSIGN(Tensor t, onnx::convert_tensor(a.t(), &folder));
      return Attribute(std::move(t));
    }
    case kGraph:
      return unsupported("it is a graph: of control flow, If alone is supported");
    case kFloats:
      return Attribute(std::vector<float>(a.floats().begin(), a.floats().end()));
    case kInts:
      return Attribute(std::vector<int64_t>(a.ints().begin(), a.ints().end()));
    case kStrings:
      return Attribute(std::vector<std::string>(a.strings().begin(), a.strings().end()));
    default:
      return unsupported("its type " + std::to_string(kind) + " is not supported");
  }
}

// The names that a branch reads and does not produce.
void captured_names(const onnx::GraphProto& branch, std::set<std::string>& names) {
  std::set<std::string> read, own;
  for (const onnx::TensorProto& t : branch.initializer()) own.insert(t.name());
  for (const onnx::NodeProto& node : branch.node()) {
    read.insert(node.input().begin(), node.input().end());
    own.insert(node.output().begin(), node.output().end());
    for (const onnx::AttributeProto& a : node.attribute())
      if (a.has_g()) captured_names(a.g(), read);
  }
  for (const onnx::ValueInfoProto& out : branch.output()) read.insert(out.name());
  for (const std::string& name : read)
    if (!own.contains(name)) names.insert(name);
}

// All that a node reads.
std::set<std::string> names_read(const onnx::NodeProto& node) {
  std::set<std::string> names(node.input().begin(), node.input().end());
  for (const onnx::AttributeProto& a : node.attribute())
    if (a.has_g()) captured_names(a.g(), names);
  names.erase("");
  return names;
}

// The order in which nodes are read: the file's where it is topological, else always the least
// index that is ready.
Result<std::vector<int>> node_order(const onnx::GraphProto& graph,
                                    const std::map<std::string, ValueId>& given) {
  std::map<std::string, int> producer;
  for (int i = 0; i < graph.node_size(); ++i)
    for (const std::string& name : graph.node(i).output())
      if (!name.empty() && (given.contains(name) || !producer.emplace(name, i).second))
        return bad_input("value '" + text_of(name) + "' is produced twice");
  std::vector<int> missing(static_cast<size_t>(graph.node_size()), 0), order;
  std::vector<std::vector<int>> users(missing.size());
  for (int i = 0; i < graph.node_size(); ++i)
    for (const std::string& name : names_read(graph.node(i))) {
      if (given.contains(name)) continue;
      const auto it = producer.find(name);
      if (it == producer.end())
        return bad_input("node " + std::to_string(i) + " reads '" + text_of(name) +
                         "', which nothing produces");
      users[it->second].push_back(i);
      ++missing[i];
    }
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (int i = 0; i < graph.node_size(); ++i)
    if (missing[i] == 0) ready.push(i);
  while (!ready.empty()) {
    const int i = ready.top();
    ready.pop();
    order.push_back(i);
    for (int user : users[i])
      if (--missing[user] == 0) ready.push(user);
  }
  if (order.size() != missing.size()) return bad_input("the graph has a cycle");
  return order;
}

// The number that `text` is, as a tensor of one element.
template <class T>
Result<Tensor> parse_number(const std::string& text, const Shape& shape) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || last != end)
    return usage_error("'" + text_of(text) + "' is no " + std::string(name_of(dtype_of<T>())));
  return Tensor::from<T>(shape, std::vector<T>{value});
}

Result<Tensor> fixed_tensor(const std::string& text, DType dtype, std::vector<int64_t> dims) {
  for (int64_t& d : dims) d = d < 0 ? 1 : d;
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  if (shape.elements() != 1) return usage_error("only an input of one element can be fixed");
  switch (dtype) {
    case DType::i32:
      return parse_number<int32_t>(text, shape);
    case DType::i64:
      return parse_number<int64_t>(text, shape);
    case DType::f32:
      return parse_number<float>(text, shape);
    case DType::boolean: {
      if (text != "0" && text != "1") return usage_error("a bool is 0 or 1");
      VB_ASSIGN(Tensor t, Tensor::zeros(dtype, shape));
      t.mutable_bytes()[0] = std::byte{text == "1"};
      return t;
    }
    default:
      return unsupported("an input of type " + std::string(name_of(dtype)) + " cannot be fixed");
  }
}

class Importer {
 public:
  Importer(ByteView bytes, std::string source, std::string folder,
           std::map<std::string, std::string> fixed)
      : bytes_(bytes),
        source_(std::move(source)),
        folder_(std::move(folder)),
        fixed_(std::move(fixed)) {}

  Result<OnnxModel> run() {
    VB_TRY(onnx::parse_message(bytes_, source_, model_));
    if (!model_.has_graph()) return bad_input_at(source_, 0, "no graph: not an ONNX model");
    const Status status = read();
    if (!status.ok()) return status;
    Result<Graph> graph = emitter_.finish();
    if (!graph.ok()) return graph.status().with_context(source_);
    return OnnxModel{*std::move(graph), std::move(names_), std::move(dims_)};
  }

 private:
  Status read() {
    const onnx::GraphProto& g = model_.graph();
    VB_TRY(read_versions().with_context(source_));
    if (model_.functions_size() > 0)
      return unsupported(source_ + ": functions defined by the model");
    VB_TRY(check_size(g).with_context(source_));
    for (int i = 0; i < g.initializer_size(); ++i)
      VB_TRY(at(kInitializerField, i, "initializer", g.initializer(i).name(),
                read_initializer(g.initializer(i))));
    for (int i = 0; i < g.input_size(); ++i)
      VB_TRY(at(kInputField, i, "input", g.input(i).name(), read_input(g.input(i))));
    if (!fixed_.empty())
      return usage_error(source_ + ": no input '" + text_of(fixed_.begin()->first) + "' to fix");
    read_known_ranks(g);
    Result<std::vector<int>> order = node_order(g, values_);
    if (!order.ok()) return order.status().with_context(source_);
    for (int i : *order)
      VB_TRY(at(kNodeField, i, "node", g.node(i).op_type() + " " + g.node(i).name(),
                read_node(g.node(i))));
    for (const onnx::ValueInfoProto& out : g.output()) {
      const auto it = values_.find(out.name());
      if (it == values_.end())
        return bad_input(source_ + ": output '" + text_of(out.name()) + "' is not produced");
      emitter_.output(text_of(out.name()), it->second);
    }
    return {};
  }

  // Of the graph or of a branch: what is read of both together is bounded.
  Status check_size(const onnx::GraphProto& g) {
    if (g.sparse_initializer_size() > 0) return unsupported("sparse initializers");
    nodes_ += g.node_size();
    if (nodes_ > kMaxNodes || g.initializer_size() > kMaxValues || g.input_size() > kMaxValues ||
        g.output_size() > kMaxValues)
      return over_limit("more than " + std::to_string(kMaxNodes) + " nodes");
    return {};
  }

  // An item's error, with the item's place in front.
  Status at(uint32_t field, int index, const char* what, const std::string& name,
            Status status) const {
    if (status.ok()) return status;
    const std::string where = source_ + ": byte " + std::to_string(offset_of(bytes_, field, index));
    return status.with_context(where + ": " + what + " " + std::to_string(index) + " (" +
                               text_of(name) + ")");
  }

  Status read_versions() {
    for (const onnx::OperatorSetProto& set : model_.opset_import()) {
      if (!set.domain().empty() && set.domain() != "ai.onnx") continue;
      version_ = set.version();
    }
    if (version_ == 0 && model_.opset_import_size() == 0) version_ = 1;
    if (version_ < 1 || version_ > kMaxOnnxOpset)
      return unsupported("operator set " + std::to_string(version_) + " (1 to " +
                         std::to_string(kMaxOnnxOpset) + " are supported)");
    return {};
  }

  Status define(const std::string& name, ValueId value) {
    if (name.empty()) return bad_input("it has no name");
    if (!values_.emplace(name, value).second)
      return bad_input("value '" + text_of(name) + "' is produced twice");
    defined_.push_back(name);
    const auto [it, is_new] = names_.emplace(text_of(name), value);
    if (!is_new) it->second = kAbsent;
    return {};
  }

  Status read_initializer(const onnx::TensorProto& proto) {
    VB_ASSIGN(Tensor t, onnx::convert_tensor(proto, &folder_));
    return define(proto.name(), emitter_.constant(text_of(proto.name()), std::move(t)));
  }

  Status read_input(const onnx::ValueInfoProto& info) {
    if (values_.contains(info.name()) && emitter_.constant_of(values_[info.name()]) != nullptr)
      return {};  // its default
    if (!info.type().has_tensor_type()) return unsupported("inputs other than tensors");
    const onnx::TensorTypeProto& type = info.type().tensor_type();
    const DType dtype = dtype_from_onnx(type.elem_type());
    if (dtype == DType::undefined)
      return unsupported("tensors of ONNX element type " + std::to_string(type.elem_type()));
    if (!type.has_shape()) return unsupported("a tensor of unknown rank");
    if (type.shape().dim_size() > kMaxRank)
      return over_limit("rank " + std::to_string(type.shape().dim_size()));
    std::vector<int64_t> dims;
    for (const onnx::DimensionProto& d : type.shape().dim())
      dims.push_back(d.has_dim_value() && d.dim_value() >= 0 ? d.dim_value() : -1);
    if (const auto it = fixed_.find(info.name()); it != fixed_.end()) {
      VB_ASSIGN(Tensor t, fixed_tensor(it->second, dtype, std::move(dims)));
      fixed_.erase(it);
      return define(info.name(), emitter_.constant(text_of(info.name()), std::move(t)));
    }
    dims_.emplace_back();
    for (const onnx::DimensionProto& d : type.shape().dim())
      dims_.back().push_back(d.has_dim_value() ? "" : text_of(d.dim_param()));
    return define(info.name(), emitter_.input(text_of(info.name()), dtype, std::move(dims)));
  }

  // Ranks that the file states for inner values: only the rewriting of old forms looks at them.
  void read_known_ranks(const onnx::GraphProto& g) {
    for (const onnx::ValueInfoProto& info : g.value_info())
      if (info.type().tensor_type().has_shape())
        stated_ranks_.emplace(info.name(), info.type().tensor_type().shape().dim_size());
  }

  // The branch that the condition chooses, in place of the node.
  Status read_if(const onnx::NodeProto& proto) {
    const auto condition = proto.input_size() == 1 ? values_.find(proto.input(0)) : values_.end();
    if (condition == values_.end()) return bad_input("If has one input, its condition");
    const Tensor* known = emitter_.known(condition->second);
    if (known == nullptr)
      return unsupported(
          "control flow whose condition depends on inputs: fix those of one element with "
          "MODEL.onnx:NAME=VALUE");
    if (known->dtype() != DType::boolean || known->elements() != 1)
      return bad_input("its condition is " + known->describe() + ", not one bool");
    const std::string branch = known->data<bool>()[0] ? "then_branch" : "else_branch";
    for (const onnx::AttributeProto& a : proto.attribute())
      if (a.name() == branch && a.has_g()) return read_branch(proto, a.g()).with_context(branch);
    return bad_input("it has no " + branch);
  }

  Status read_branch(const onnx::NodeProto& proto, const onnx::GraphProto& g) {
    if (g.input_size() > 0) return bad_input("a branch has no inputs");
    if (g.output_size() != proto.output_size())
      return bad_input(std::to_string(g.output_size()) + " outputs for a node with " +
                       std::to_string(proto.output_size()));
    VB_TRY(check_size(g));
    const size_t outside = defined_.size();
    for (const onnx::TensorProto& t : g.initializer())
      VB_TRY(read_initializer(t).with_context("initializer '" + text_of(t.name()) + "'"));
    read_known_ranks(g);
    VB_ASSIGN(const std::vector<int> order, node_order(g, values_));
    for (int i : order)
      VB_TRY(read_node(g.node(i)).with_context("node " + std::to_string(i) + " (" +
                                               text_of(g.node(i).op_type()) + " " +
                                               text_of(g.node(i).name()) + ")"));
    std::vector<ValueId> outputs;
    for (const onnx::ValueInfoProto& out : g.output()) {
      const auto it = values_.find(out.name());
      if (it == values_.end())
        return bad_input("output '" + text_of(out.name()) + "' is not produced");
      outputs.push_back(it->second);
    }
    // Another branch may use the same names.
    for (; defined_.size() > outside; defined_.pop_back()) values_.erase(defined_.back());
    for (int i = 0; i < proto.output_size(); ++i)
      if (!proto.output(i).empty()) VB_TRY(define(proto.output(i), outputs[i]));
    return {};
  }

  Status read_node(const onnx::NodeProto& proto) {
    const std::string domain = proto.domain() == "ai.onnx" ? "" : proto.domain();
    if (!domain.empty())
      return unsupported("operator '" + text_of(proto.op_type()) + "' of domain '" +
                         text_of(domain) + "'");
    if (proto.input_size() > kMaxEdges || proto.output_size() > kMaxEdges ||
        proto.attribute_size() > kMaxAttributes)
      return over_limit("too many inputs, outputs or attributes");
    if (proto.op_type() == "If") return read_if(proto);
    onnx::SourceNode node;
    node.op = proto.op_type();
    node.version = version_;
    node.name =
        text_of(!proto.name().empty() || proto.output_size() == 0 ? proto.name() : proto.output(0));
    if (node.op == "Constant" && proto.output_size() > 0) node.name = text_of(proto.output(0));
    for (const std::string& name : proto.input()) {
      const auto it = values_.find(name);
      node.inputs.push_back(name.empty() ? kAbsent
                                         : it->second);  // node_order() made sure that it is there
    }
    while (!node.inputs.empty() && node.inputs.back() == kAbsent) node.inputs.pop_back();
    node.outputs = proto.output_size();
    while (node.outputs > 0 && proto.output(node.outputs - 1).empty()) --node.outputs;
    if (node.outputs == 0) return bad_input("it has no output");
    for (const onnx::AttributeProto& a : proto.attribute()) {
      const std::string name = text_of(a.name());
      Result<Attribute> value = convert_attribute(a, folder_);
      if (!value.ok()) return value.status().with_context("attribute '" + name + "'");
      if (node.attributes.has(name)) return bad_input("attribute '" + name + "' is given twice");
      node.attributes.set(name, *std::move(value));
    }
    VB_ASSIGN(const std::vector<ValueId> values, onnx::lower(std::move(node), emitter_));
    for (int i = 0; i < proto.output_size(); ++i) {
      if (proto.output(i).empty()) continue;
      if (i >= static_cast<int>(values.size()))
        return bad_input("output " + std::to_string(i) + " does not exist");
      if (values[i] == kAbsent) return bad_input("its input is missing");
      VB_TRY(define(proto.output(i), values[i]));
      const auto rank = stated_ranks_.find(proto.output(i));
      if (rank != stated_ranks_.end()) emitter_.set_rank(values[i], rank->second);
    }
    return {};
  }

  ByteView bytes_;
  std::string source_, folder_;
  std::map<std::string, std::string> fixed_;  // those not yet met
  onnx::ModelProto model_;
  int64_t version_ = 0;
  Emitter emitter_;
  std::map<std::string, ValueId> values_;  // in scope
  std::vector<std::string> defined_;       // the names of values_, in order
  int nodes_ = 0;
  std::map<std::string, int> stated_ranks_;
  std::map<std::string, ValueId> names_;
  std::vector<std::vector<std::string>> dims_;
};

}  // namespace

Result<OnnxModel> import_onnx_model(ByteView bytes, const std::string& source,
                                    const std::string& folder,
                                    const std::map<std::string, std::string>& fixed) {
  return Importer(bytes, source, folder, fixed).run();
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
  return text_of(proto.name());
}

}  // namespace verbatim
