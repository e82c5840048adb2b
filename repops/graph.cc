#include <verbatim/repops/graph.h>

#include <algorithm>
#include <bit>
#include <set>

#include <verbatim/core/tensor_codec.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/op.h>

namespace verbatim {
namespace {

constexpr uint32_t kMaxNodes = 1 << 20;
constexpr int32_t kMaxValues = 1 << 22;
constexpr uint32_t kMaxEdges = 1 << 16;
constexpr size_t kMaxName = 1 << 12;
constexpr uint32_t kMaxAttributes = 256;
constexpr size_t kMaxAttributeBytes = size_t{64} << 20;

enum class AttributeTag : uint8_t { integer = 1, real, text, integers, reals, texts, tensor };

struct AttributeWriter {
  Writer& w;
  void tag(AttributeTag t) { w.u8(static_cast<uint8_t>(t)); }
  void operator()(int64_t v) { tag(AttributeTag::integer), w.i64(v); }
  void operator()(float v) { tag(AttributeTag::real), w.u32(std::bit_cast<uint32_t>(v)); }
  void operator()(const std::string& v) { tag(AttributeTag::text), w.blob(as_bytes(v)); }
  void operator()(const std::vector<int64_t>& v) {
    tag(AttributeTag::integers), w.u32(static_cast<uint32_t>(v.size()));
    for (int64_t x : v) w.i64(x);
  }
  void operator()(const std::vector<float>& v) {
    tag(AttributeTag::reals), w.u32(static_cast<uint32_t>(v.size()));
    for (float x : v) w.u32(std::bit_cast<uint32_t>(x));
  }
  void operator()(const std::vector<std::string>& v) {
    tag(AttributeTag::texts), w.u32(static_cast<uint32_t>(v.size()));
    for (const std::string& x : v) w.blob(as_bytes(x));
  }
  void operator()(const Tensor& t) { tag(AttributeTag::tensor), write_tensor(w, t); }
};

Result<std::string> read_string(Reader& r) {
  VB_ASSIGN(const ByteView b, r.blob(kMaxAttributeBytes));
  return std::string(as_chars(b));
}

Result<Attribute> read_attribute(Reader& r) {
  VB_ASSIGN(const uint8_t tag, r.u8());
  switch (static_cast<AttributeTag>(tag)) {
    case AttributeTag::integer: {
      VB_ASSIGN(const int64_t v, r.i64());
      return Attribute(v);
    }
    case AttributeTag::real: {
      VB_ASSIGN(const uint32_t v, r.u32());
      return Attribute(std::bit_cast<float>(v));
    }
    case AttributeTag::text: {
      VB_ASSIGN(std::string v, read_string(r));
      return Attribute(std::move(v));
    }
    case AttributeTag::integers: {
      VB_ASSIGN(const uint32_t n, r.count(8, kMaxAttributeBytes / 8));
      std::vector<int64_t> v(n);
      for (int64_t& x : v) {
        VB_ASSIGN(x, r.i64());
      }
      return Attribute(std::move(v));
    }
    case AttributeTag::reals: {
      VB_ASSIGN(const uint32_t n, r.count(4, kMaxAttributeBytes / 4));
      std::vector<float> v(n);
      for (float& x : v) {
        VB_ASSIGN(const uint32_t bits, r.u32());
        x = std::bit_cast<float>(bits);
      }
      return Attribute(std::move(v));
    }
    case AttributeTag::texts: {
      VB_ASSIGN(const uint32_t n, r.count(4, 1 << 16));
      std::vector<std::string> v(n);
      for (std::string& x : v) {
        VB_ASSIGN(x, read_string(r));
      }
      return Attribute(std::move(v));
    }
    case AttributeTag::tensor: {
      VB_ASSIGN(Tensor t, read_tensor(r, kMaxAttributeBytes));
      return Attribute(std::move(t));
    }
  }
  return r.fail("unknown attribute type " + std::to_string(tag));
}

Status read_edges(Reader& r, int32_t value_count, std::vector<ValueId>& edges) {
  VB_ASSIGN(const uint32_t n, r.count(4, kMaxEdges));
  for (uint32_t i = 0; i < n; ++i) {
    VB_ASSIGN(const uint32_t raw, r.u32());
    const auto value = static_cast<ValueId>(raw);
    if (value < kAbsent || value >= value_count)
      return r.fail("value " + std::to_string(value) + " of " + std::to_string(value_count));
    edges.push_back(value);
  }
  return {};
}

void write_edges(Writer& w, const std::vector<ValueId>& edges) {
  w.u32(static_cast<uint32_t>(edges.size()));
  for (ValueId v : edges) w.u32(static_cast<uint32_t>(v));
}

Result<ValueId> read_value(Reader& r, int32_t value_count) {
  VB_ASSIGN(const uint32_t v, r.u32());
  if (v >= static_cast<uint32_t>(value_count))
    return r.fail("value " + std::to_string(v) + " of " + std::to_string(value_count));
  return static_cast<ValueId>(v);
}

Result<Node> read_node(Reader& r, int32_t value_count) {
  Node node;
  VB_ASSIGN(node.domain, r.text(kMaxName));
  VB_ASSIGN(node.op, r.text(kMaxName));
  VB_ASSIGN(node.name, r.text(kMaxName));
  VB_ASSIGN(const uint32_t attributes, r.count(9, kMaxAttributes));
  std::string previous;
  for (uint32_t i = 0; i < attributes; ++i) {
    VB_ASSIGN(std::string name, r.text(kMaxName));
    if (i > 0 && name <= previous) return r.fail("attributes are not in ascending order");
    VB_ASSIGN(Attribute value, read_attribute(r));
    previous = name;
    node.attributes.set(std::move(name), std::move(value));
  }
  VB_TRY(read_edges(r, value_count, node.inputs));
  VB_TRY(read_edges(r, value_count, node.outputs));
  return node;
}

}  // namespace

void Attributes::erase(std::string_view name) {
  const auto it = map_.find(name);
  if (it != map_.end()) map_.erase(it);
}

std::string Node::title() const {
  return name.empty() ? shortened(op) : shortened(op) + " " + shortened(name);
}

std::vector<Graph::Producer> Graph::producers() const {
  std::vector<Producer> result(static_cast<size_t>(value_count));
  const auto count = [](const auto& v) { return static_cast<int32_t>(v.size()); };
  for (int32_t i = 0; i < count(inputs); ++i)
    result[inputs[i].value] = {Producer::Kind::input, i, 0};
  for (int32_t i = 0; i < count(initializers); ++i)
    result[initializers[i].value] = {Producer::Kind::initializer, i, 0};
  for (int32_t i = 0; i < count(nodes); ++i)
    for (int32_t j = 0; j < count(nodes[i].outputs); ++j)
      if (nodes[i].outputs[j] != kAbsent)
        result[nodes[i].outputs[j]] = {Producer::Kind::node, i, j};
  return result;
}

Status Graph::validate() const {
  if (value_count < 0 || value_count > kMaxValues)
    return over_limit("a graph of " + std::to_string(value_count) + " values");
  if (nodes.size() > kMaxNodes)
    return over_limit("a graph of " + std::to_string(nodes.size()) + " nodes");
  std::vector<bool> made(static_cast<size_t>(value_count));
  const auto produce = [&](ValueId v, const std::string& who) -> Status {
    if (v < 0 || v >= value_count)
      return bad_input(who + ": value " + std::to_string(v) + " is out of range");
    if (made[v]) return bad_input(who + ": value " + std::to_string(v) + " is produced twice");
    made[v] = true;
    return {};
  };
  for (const GraphInput& in : inputs) VB_TRY(produce(in.value, "input " + in.name));
  for (const Initializer& init : initializers)
    VB_TRY(produce(init.value, "initializer " + init.name));
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    const std::string who = "node " + std::to_string(i) + " (" + node.title() + ")";
    const OpDef* op = find_op(node.domain, node.op);
    if (op == nullptr)
      return unsupported(who + ": no operator '" + node.op + "' in domain '" +
                         (node.domain.empty() ? "ai.onnx" : node.domain) + "'");
    const auto given = static_cast<int>(node.inputs.size()),
               wanted = static_cast<int>(node.outputs.size());
    if (given < op->min_inputs || given > op->max_inputs)
      return bad_input(who + ": " + std::to_string(given) + " inputs");
    if (wanted < 1 || wanted > op->max_outputs)
      return bad_input(who + ": " + std::to_string(wanted) + " outputs");
    for (int j = 0; j < op->min_inputs; ++j)
      if (node.inputs[static_cast<size_t>(j)] == kAbsent)
        return bad_input(who + ": input " + std::to_string(j) + " is required");
    for (ValueId v : node.inputs)
      if (v != kAbsent && (v < 0 || v >= value_count || !made[v]))
        return bad_input(who + ": input value " + std::to_string(v) + " has no earlier producer");
    for (ValueId v : node.outputs)
      if (v != kAbsent) VB_TRY(produce(v, who));
  }
  std::set<std::string> names;
  for (const GraphOutput& out : outputs) {
    if (out.value < 0 || out.value >= value_count || !made[out.value])
      return bad_input("output " + out.name + " has no producer");
    if (!names.insert(out.name).second) return bad_input("two outputs are called " + out.name);
  }
  return {};
}

void Graph::compute_roots() {
  for (Initializer& init : initializers) init.root = tensor_root(init.tensor);
}

void encode_operator(Writer& w, const Node& node) {
  w.text(node.domain);
  w.text(node.op);
  w.text(node.name);
  w.u32(static_cast<uint32_t>(node.attributes.map().size()));
  for (const auto& [name, value] : node.attributes.map()) {
    w.text(name);
    std::visit(AttributeWriter{w}, value);
  }
}

Bytes encode_graph(const Graph& graph) {
  Writer w;
  w.u32(static_cast<uint32_t>(graph.value_count));
  w.u32(static_cast<uint32_t>(graph.inputs.size()));
  for (const GraphInput& in : graph.inputs) {
    w.text(in.name);
    w.u32(static_cast<uint32_t>(in.value));
    write_dtype(w, in.dtype);
    write_dims(w, in.dims);
  }
  w.u32(static_cast<uint32_t>(graph.initializers.size()));
  for (const Initializer& init : graph.initializers) {
    w.text(init.name);
    w.u32(static_cast<uint32_t>(init.value));
    write_dtype(w, init.dtype);
    write_shape(w, init.shape);
    w.raw(init.root.bytes);
  }
  w.u32(static_cast<uint32_t>(graph.nodes.size()));
  for (const Node& node : graph.nodes) {
    encode_operator(w, node);
    write_edges(w, node.inputs);
    write_edges(w, node.outputs);
  }
  w.u32(static_cast<uint32_t>(graph.outputs.size()));
  for (const GraphOutput& out : graph.outputs) {
    w.text(out.name);
    w.u32(static_cast<uint32_t>(out.value));
  }
  return w.take();
}

Result<Graph> decode_graph(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  Graph g;
  VB_ASSIGN(const uint32_t values, r.u32());
  if (values > static_cast<uint32_t>(kMaxValues))
    return r.fail("a graph of " + std::to_string(values) + " values");
  g.value_count = static_cast<int32_t>(values);
  VB_ASSIGN(const uint32_t inputs, r.count(10, kMaxEdges));
  for (uint32_t i = 0; i < inputs; ++i) {
    GraphInput in;
    VB_ASSIGN(in.name, r.text(kMaxName));
    VB_ASSIGN(in.value, read_value(r, g.value_count));
    VB_ASSIGN(in.dtype, read_dtype(r));
    VB_ASSIGN(in.dims, read_dims(r));
    if (std::ranges::any_of(in.dims, [](int64_t d) { return d < -1; }))
      return r.fail("dimension below -1");
    g.inputs.push_back(std::move(in));
  }
  VB_ASSIGN(const uint32_t initializers, r.count(42, kMaxEdges));
  for (uint32_t i = 0; i < initializers; ++i) {
    Initializer init;
    VB_ASSIGN(init.name, r.text(kMaxName));
    VB_ASSIGN(init.value, read_value(r, g.value_count));
    VB_ASSIGN(init.dtype, read_dtype(r));
    VB_ASSIGN(init.shape, read_shape(r));
    VB_ASSIGN(init.root, read_digest(r));
    g.initializers.push_back(std::move(init));
  }
  VB_ASSIGN(const uint32_t nodes, r.count(24, kMaxNodes));
  for (uint32_t i = 0; i < nodes; ++i) {
    VB_ASSIGN(Node node, read_node(r, g.value_count));
    g.nodes.push_back(std::move(node));
  }
  VB_ASSIGN(const uint32_t outputs, r.count(8, kMaxEdges));
  for (uint32_t i = 0; i < outputs; ++i) {
    GraphOutput out;
    VB_ASSIGN(out.name, r.text(kMaxName));
    VB_ASSIGN(out.value, read_value(r, g.value_count));
    g.outputs.push_back(std::move(out));
  }
  VB_TRY(r.finish());
  VB_TRY(g.validate().with_context(source));
  return g;
}

Digest program_root(const Graph& graph) {
  return tagged_hash("verbatim.graph.1", encode_graph(graph));
}

ValueId GraphBuilder::input(std::string name, DType dtype, std::vector<int64_t> dims) {
  graph_.inputs.push_back({std::move(name), graph_.value_count, dtype, std::move(dims)});
  return graph_.value_count++;
}

ValueId GraphBuilder::constant(std::string name, Tensor tensor) {
  Initializer init{std::move(name), graph_.value_count, tensor, tensor.dtype(), tensor.shape(), {}};
  graph_.initializers.push_back(std::move(init));
  return graph_.value_count++;
}

ValueId GraphBuilder::add(std::string_view op, std::string_view domain, std::vector<ValueId> inputs,
                          Attributes attributes, std::string name, int output_count) {
  Node node{std::string(domain),   std::string(op),   scope_ + name,
            std::move(attributes), std::move(inputs), {}};
  const ValueId first = graph_.value_count;
  for (int i = 0; i < output_count; ++i) node.outputs.push_back(graph_.value_count++);
  graph_.nodes.push_back(std::move(node));
  return first;
}

void GraphBuilder::output(std::string name, ValueId value) {
  graph_.outputs.push_back({std::move(name), value});
}

Result<Graph> GraphBuilder::finish() {
  VB_TRY(graph_.validate());
  return std::move(graph_);
}

}  // namespace verbatim
