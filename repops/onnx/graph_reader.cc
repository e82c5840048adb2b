#include <verbatim/repops/onnx/graph_reader.h>

#include <charconv>
#include <queue>
#include <set>

#include <verbatim/repops/onnx/tensor_proto.h>
#include <verbatim/repops/ops/control_flow.h>

#include "model_proto.pb.h"

namespace verbatim::onnx {
namespace {

constexpr int kMaxNodes = 1 << 18;
constexpr int kMaxValues = 1 << 20;
constexpr int kMaxEdges = 1 << 12;  // inputs or outputs of one node
constexpr int kMaxAttributes = 64;
constexpr size_t kMaxName = 512;
constexpr int kMaxList = 1 << 20;  // elements of an attribute

enum Kind { kUnknown, kFloat, kInt, kString, kTensor, kGraph, kFloats, kInts, kStrings };

int kind_of(const AttributeProto& a) {
  if (a.type() != kUnknown) return a.type();
  return a.has_f()              ? kFloat  // files older than the field
         : a.has_i()            ? kInt
         : a.has_s()            ? kString
         : a.has_t()            ? kTensor
         : a.has_g()            ? kGraph
         : a.floats_size() > 0  ? kFloats
         : a.ints_size() > 0    ? kInts
         : a.strings_size() > 0 ? kStrings
                                : kUnknown;
}

Result<Attribute> convert_attribute(const AttributeProto& a, const std::string& folder) {
  if (a.has_ref_attr_name() && !a.ref_attr_name().empty())
    return unsupported("it refers to a function's attribute");
  const int kind = kind_of(a);
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
      VB_ASSIGN(Tensor t, convert_tensor(a.t(), &folder));
      return Attribute(std::move(t));
    }
    case kGraph:
      return unsupported("it is a graph, and the operator is no control flow");
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

// -1 where a dimension has no size.
std::vector<int64_t> dims_of(const ShapeProto& shape) {
  std::vector<int64_t> dims;
  for (const DimensionProto& d : shape.dim())
    dims.push_back(d.has_dim_value() && d.dim_value() >= 0 ? d.dim_value() : -1);
  return dims;
}

// The names that a body takes from the graphs around it.
void free_names(const GraphProto& body, std::set<std::string>& names) {
  std::set<std::string> bound, used;
  for (const TensorProto& t : body.initializer()) bound.insert(t.name());
  for (const ValueInfoProto& in : body.input()) bound.insert(in.name());
  for (const NodeProto& node : body.node()) {
    bound.insert(node.output().begin(), node.output().end());
    used.insert(node.input().begin(), node.input().end());
    for (const AttributeProto& a : node.attribute())
      if (a.has_g()) free_names(a.g(), used);
  }
  for (const ValueInfoProto& out : body.output()) used.insert(out.name());
  for (const std::string& name : used)
    if (!bound.contains(name)) names.insert(name);
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

}  // namespace

std::string text_of(const std::string& s) {
  return printable(std::string_view(s).substr(0, kMaxName));
}

bool GraphReader::Scope::knows(const std::string& name) const {
  return values.contains(name) || (outer != nullptr && outer->knows(name));
}

ValueId GraphReader::Scope::find(const std::string& name) const {
  for (const Scope* s = this; s != nullptr; s = s->outer) {
    const auto it = s->values.find(name);
    if (it != s->values.end())
      return emitter->reach(*it->second.owner, it->second.value, text_of(name));
  }
  return kAbsent;
}

Status GraphReader::Scope::define(const std::string& name, Emitter& owner, ValueId value) {
  if (name.empty()) return bad_input("it has no name");
  if (!values.emplace(name, Definition{&owner, value}).second)
    return bad_input("value '" + text_of(name) + "' is produced twice");
  return {};
}

Status GraphReader::define(Scope& scope, const std::string& name, Emitter& owner, ValueId value) {
  VB_TRY(scope.define(name, owner, value));
  if (&owner != &owner.root()) return {};  // a body's own
  const auto [it, fresh] =
      names_.emplace(text_of(name), Emitter::is_sequence(value) ? kAbsent : value);
  if (!fresh) it->second = kAbsent;
  return {};
}

// The order in which nodes are read: the file's where it is topological, else always the least
// index that is ready.
Result<std::vector<int>> GraphReader::node_order(const GraphProto& graph, const Scope& scope) {
  std::map<std::string, int> producer;
  for (int i = 0; i < graph.node_size(); ++i)
    for (const std::string& name : graph.node(i).output())
      if (!name.empty() && (scope.values.contains(name) || !producer.emplace(name, i).second))
        return bad_input("value '" + text_of(name) + "' is produced twice");
  std::vector<int> missing(static_cast<size_t>(graph.node_size()), 0), order;
  std::vector<std::vector<int>> users(missing.size());
  for (int i = 0; i < graph.node_size(); ++i) {
    const auto waits_for = [&](const std::string& name) {
      const auto it = scope.values.contains(name) ? producer.end() : producer.find(name);
      if (it == producer.end()) return false;
      users[it->second].push_back(i);
      ++missing[i];
      return true;
    };
    for (const std::string& name : graph.node(i).input())
      if (!name.empty() && !waits_for(name) && !scope.knows(name))
        return bad_input("node " + std::to_string(i) + " reads '" + text_of(name) +
                         "', which nothing produces");
    std::set<std::string> captured;
    for (const AttributeProto& a : graph.node(i).attribute())
      if (a.has_g()) free_names(a.g(), captured);
    for (const std::string& name : captured) waits_for(name);
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

Status GraphReader::at(const Scope& scope, uint32_t field, int index, const char* what,
                       const std::string& name, const Status& status) const {
  if (status.ok()) return status;
  const std::string where = scope.outer == nullptr ? place_(field, index) + ": " : "";
  return status.with_context(where + what + " " + std::to_string(index) + " (" + text_of(name) +
                             ")");
}

Status GraphReader::in_graph(const Scope& scope, const Status& status) const {
  return scope.outer == nullptr ? status.with_context(source_) : status;
}

Status GraphReader::read(const GraphProto& graph, Emitter& emitter) {
  Scope scope{&emitter, nullptr, {}, {}};
  VB_TRY(read_initializers(graph, scope));
  for (int i = 0; i < graph.input_size(); ++i)
    VB_TRY(at(scope, kInputField, i, "input", graph.input(i).name(),
              read_input(graph.input(i), scope)));
  if (!fixed_.empty())
    return usage_error(source_ + ": no input '" + text_of(fixed_.begin()->first) + "' to fix");
  VB_TRY(read_nodes(graph, scope));
  for (const ValueInfoProto& out : graph.output()) {
    const ValueId value = scope.find(out.name());
    if (value == kAbsent)
      return in_graph(scope, bad_input("output '" + text_of(out.name()) + "' is not produced"));
    if (Emitter::is_sequence(value))
      return in_graph(scope,
                      unsupported("a sequence as an output ('" + text_of(out.name()) + "')"));
    emitter.output(text_of(out.name()), value);
  }
  return {};
}

Status GraphReader::read_initializers(const GraphProto& graph, Scope& scope) {
  if (graph.sparse_initializer_size() > 0)
    return in_graph(scope, unsupported("sparse initializers"));
  if (graph.node_size() > kMaxNodes || graph.initializer_size() > kMaxValues ||
      graph.input_size() > kMaxValues || graph.output_size() > kMaxValues)
    return in_graph(scope, over_limit("more than " + std::to_string(kMaxNodes) + " nodes"));
  Emitter& root = scope.emitter->root();
  const auto read = [&](const TensorProto& proto) -> Status {
    VB_ASSIGN(Tensor t, convert_tensor(proto, &folder_));
    return define(scope, proto.name(), root, root.constant(text_of(proto.name()), std::move(t)));
  };
  for (int i = 0; i < graph.initializer_size(); ++i)
    VB_TRY(at(scope, kInitializerField, i, "initializer", graph.initializer(i).name(),
              read(graph.initializer(i))));
  return {};
}

Status GraphReader::read_nodes(const GraphProto& graph, Scope& scope) {
  // Shapes that the file states for inner values: only what rewrites nodes looks at them.
  for (const ValueInfoProto& info : graph.value_info())
    if (info.type().tensor_type().has_shape() &&
        info.type().tensor_type().shape().dim_size() <= kMaxRank)
      scope.stated_dims.emplace(info.name(), dims_of(info.type().tensor_type().shape()));
  Result<std::vector<int>> order = node_order(graph, scope);
  if (!order.ok()) return in_graph(scope, order.status());
  for (int i : *order)
    VB_TRY(at(scope, kNodeField, i, "node", graph.node(i).op_type() + " " + graph.node(i).name(),
              read_node(graph.node(i), scope)));
  return {};
}

Status GraphReader::read_input(const ValueInfoProto& info, Scope& scope) {
  const auto given = scope.values.find(info.name());
  if (given != scope.values.end() && scope.emitter->constant_of(given->second.value) != nullptr)
    return {};  // its default
  if (!info.type().has_tensor_type()) return unsupported("inputs other than tensors");
  const TensorTypeProto& type = info.type().tensor_type();
  const DType dtype = dtype_from_onnx(type.elem_type());
  if (dtype == DType::undefined)
    return unsupported("tensors of ONNX element type " + std::to_string(type.elem_type()));
  if (!type.has_shape()) return unsupported("a tensor of unknown rank");
  if (type.shape().dim_size() > kMaxRank)
    return over_limit("rank " + std::to_string(type.shape().dim_size()));
  std::vector<int64_t> dims = dims_of(type.shape());
  if (const auto it = fixed_.find(info.name()); it != fixed_.end()) {
    VB_ASSIGN(Tensor t, fixed_tensor(it->second, dtype, std::move(dims)));
    fixed_.erase(it);
    return define(scope, info.name(), *scope.emitter,
                  scope.emitter->constant(text_of(info.name()), std::move(t)));
  }
  symbols_.emplace_back();
  for (const DimensionProto& d : type.shape().dim())
    symbols_.back().push_back(d.has_dim_value() ? "" : text_of(d.dim_param()));
  return define(scope, info.name(), *scope.emitter,
                scope.emitter->input(text_of(info.name()), dtype, std::move(dims)));
}

Result<SourceNode> GraphReader::source_node(const NodeProto& proto, const Scope& scope,
                                            Bodies& bodies) {
  SourceNode node;
  node.op = proto.op_type();
  node.version = version_;
  node.name =
      text_of(!proto.name().empty() || proto.output_size() == 0 ? proto.name() : proto.output(0));
  if (node.op == "Constant" && proto.output_size() > 0) node.name = text_of(proto.output(0));
  for (const std::string& name : proto.input())  // node_order() made sure that they are there
    node.inputs.push_back(name.empty() ? kAbsent : scope.find(name));
  while (!node.inputs.empty() && node.inputs.back() == kAbsent) node.inputs.pop_back();
  node.outputs = proto.output_size();
  while (node.outputs > 0 && proto.output(node.outputs - 1).empty()) --node.outputs;
  if (node.outputs > 0 && node.op == "Split") node.outputs = proto.output_size();  // so many parts
  if (node.outputs == 0) return bad_input("it has no output");
  for (const AttributeProto& a : proto.attribute()) {
    const std::string name = text_of(a.name());
    if (node.attributes.has(name) || bodies.contains(name))
      return bad_input("attribute '" + name + "' is given twice");
    if (is_control_flow("", node.op) && kind_of(a) == kGraph) {
      bodies.emplace(name, &a.g());
      continue;
    }
    Result<Attribute> value = convert_attribute(a, folder_);
    if (!value.ok()) return value.status().with_context("attribute '" + name + "'");
    node.attributes.set(name, *std::move(value));
  }
  return node;
}

Status GraphReader::read_node(const NodeProto& proto, Scope& scope) {
  const std::string domain = proto.domain() == "ai.onnx" ? "" : proto.domain();
  if (!domain.empty())
    return unsupported("operator '" + text_of(proto.op_type()) + "' of domain '" + text_of(domain) +
                       "'");
  if (proto.input_size() > kMaxEdges || proto.output_size() > kMaxEdges ||
      proto.attribute_size() > kMaxAttributes)
    return over_limit("too many inputs, outputs or attributes");
  Bodies bodies;
  VB_ASSIGN(SourceNode node, source_node(proto, scope, bodies));
  VB_ASSIGN(const Values values, is_control_flow("", node.op)
                                     ? read_control_flow(std::move(node), bodies, scope)
                                     : lower(std::move(node), *scope.emitter));
  for (int i = 0; i < proto.output_size(); ++i) {
    if (proto.output(i).empty()) continue;
    if (i >= static_cast<int>(values.size()))
      return bad_input("output " + std::to_string(i) + " does not exist");
    if (values[i] == kAbsent) return bad_input("its input is missing");
    VB_TRY(define(scope, proto.output(i), *scope.emitter, values[i]));
    const auto dims = scope.stated_dims.find(proto.output(i));
    if (dims != scope.stated_dims.end()) scope.emitter->set_dims(values[i], dims->second);
  }
  return {};
}

}  // namespace verbatim::onnx
