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

enum class AttributeTag : uint8_t { integer = 1, real, text, integers, reals, texts, tensor, body };

void write_graph(Writer& w, const Graph& graph, int depth);
Result<Graph> read_graph(Reader& r, int depth);

struct AttributeWriter {
  Writer& w;
  int depth;  // of the graph that has the node
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
  void operator()(const Body& b) { tag(AttributeTag::body), write_graph(w, *b, depth + 1); }
};

Result<std::string> read_string(Reader& r) {
  VB_ASSIGN(const ByteView b, r.blob(kMaxAttributeBytes));
  return std::string(as_chars(b));
}

Result<Attribute> read_attribute(Reader& r, int depth) {
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
    case AttributeTag::body: {
      if (depth == kMaxBodyDepth)
        return r.fail("bodies more than " + std::to_string(kMaxBodyDepth) + " deep");
      VB_ASSIGN(Graph g, read_graph(r, depth + 1));
      return Attribute(std::make_shared<const Graph>(std::move(g)));
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

Result<Node> read_node(Reader& r, int32_t value_count, int depth) {
  Node node;
  VB_ASSIGN(node.domain, r.text(kMaxName));
  VB_ASSIGN(node.op, r.text(kMaxName));
  VB_ASSIGN(node.name, r.text(kMaxName));
  VB_ASSIGN(const uint32_t attributes, r.count(9, kMaxAttributes));
  std::string previous;
  for (uint32_t i = 0; i < attributes; ++i) {
    VB_ASSIGN(std::string name, r.text(kMaxName));
    if (i > 0 && name <= previous) return r.fail("attributes are not in ascending order");
    VB_ASSIGN(Attribute value, read_attribute(r, depth));
    previous = name;
    node.attributes.set(std::move(name), std::move(value));
  }
  VB_TRY(read_edges(r, value_count, node.inputs));
  VB_TRY(read_edges(r, value_count, node.outputs));
  return node;
}

void write_operator(Writer& w, const Node& node, int depth) {
  w.text(node.domain);
  w.text(node.op);
  w.text(node.name);
  w.u32(static_cast<uint32_t>(node.attributes.map().size()));
  for (const auto& [name, value] : node.attributes.map()) {
    w.text(name);
    std::visit(AttributeWriter{w, depth}, value);
  }
}

// A graph, or a body (depth > 0), which has no initializers and no types of inputs.
void write_graph(Writer& w, const Graph& graph, int depth) {
  w.u32(static_cast<uint32_t>(graph.value_count));
  w.u32(static_cast<uint32_t>(graph.inputs.size()));
  for (const GraphInput& in : graph.inputs) {
    w.text(in.name);
    w.u32(static_cast<uint32_t>(in.value));
    if (depth > 0) continue;
    write_dtype(w, in.dtype);
    write_dims(w, in.dims);
  }
  if (depth == 0) {
    w.u32(static_cast<uint32_t>(graph.initializers.size()));
    for (const Initializer& init : graph.initializers) {
      w.text(init.name);
      w.u32(static_cast<uint32_t>(init.value));
      write_dtype(w, init.dtype);
      write_shape(w, init.shape);
      w.raw(init.root.bytes);
    }
  }
  w.u32(static_cast<uint32_t>(graph.nodes.size()));
  for (const Node& node : graph.nodes) {
    write_operator(w, node, depth);
    write_edges(w, node.inputs);
    write_edges(w, node.outputs);
  }
  w.u32(static_cast<uint32_t>(graph.outputs.size()));
  for (const GraphOutput& out : graph.outputs) {
    w.text(out.name);
    w.u32(static_cast<uint32_t>(out.value));
  }
}

Result<GraphInput> read_input(Reader& r, int32_t value_count, int depth) {
  GraphInput in{"", kAbsent, DType::undefined, {}};
  VB_ASSIGN(in.name, r.text(kMaxName));
  VB_ASSIGN(in.value, read_value(r, value_count));
  if (depth > 0) return in;
  VB_ASSIGN(in.dtype, read_dtype(r));
  VB_ASSIGN(in.dims, read_dims(r));
  if (std::ranges::any_of(in.dims, [](int64_t d) { return d < -1; }))
    return r.fail("dimension below -1");
  return in;
}

Result<Initializer> read_initializer(Reader& r, int32_t value_count) {
  Initializer init;
  VB_ASSIGN(init.name, r.text(kMaxName));
  VB_ASSIGN(init.value, read_value(r, value_count));
  VB_ASSIGN(init.dtype, read_dtype(r));
  VB_ASSIGN(init.shape, read_shape(r));
  VB_ASSIGN(init.root, read_digest(r));
  return init;
}

Result<Graph> read_graph(Reader& r, int depth) {
  Graph g;
  VB_ASSIGN(const uint32_t values, r.u32());
  // A body takes memory for its values each time it runs: it has no more than it writes down.
  if (values > static_cast<uint32_t>(kMaxValues) || (depth > 0 && values > r.remaining() / 4))
    return r.fail("a graph of " + std::to_string(values) + " values");
  g.value_count = static_cast<int32_t>(values);
  VB_ASSIGN(const uint32_t inputs, r.count(depth > 0 ? 8 : 10, kMaxEdges));
  for (uint32_t i = 0; i < inputs; ++i) {
    VB_ASSIGN(GraphInput in, read_input(r, g.value_count, depth));
    g.inputs.push_back(std::move(in));
  }
  if (depth == 0) {
    VB_ASSIGN(const uint32_t initializers, r.count(42, kMaxEdges));
    for (uint32_t i = 0; i < initializers; ++i) {
      VB_ASSIGN(Initializer init, read_initializer(r, g.value_count));
      g.initializers.push_back(std::move(init));
    }
  }
  VB_ASSIGN(const uint32_t nodes, r.count(24, kMaxNodes));
  for (uint32_t i = 0; i < nodes; ++i) {
    VB_ASSIGN(Node node, read_node(r, g.value_count, depth));
    g.nodes.push_back(std::move(node));
  }
  VB_ASSIGN(const uint32_t outputs, r.count(8, kMaxEdges));
  for (uint32_t i = 0; i < outputs; ++i) {
    GraphOutput out;
    VB_ASSIGN(out.name, r.text(kMaxName));
    VB_ASSIGN(out.value, read_value(r, g.value_count));
    g.outputs.push_back(std::move(out));
  }
  return g;
}

// Graph::validate, of a graph or of a body (depth > 0).
class Validation {
 public:
  // `nodes_left`: how many there may be, those of bodies included.
  Validation(const Graph& graph, int depth, size_t& nodes_left)
      : g_(graph), depth_(depth), nodes_left_(nodes_left) {}

  Status run() {
    if (g_.value_count < 0 || g_.value_count > kMaxValues)
      return over_limit("a graph of " + std::to_string(g_.value_count) + " values");
    if (g_.nodes.size() > nodes_left_)
      return over_limit("a graph of more than " + std::to_string(kMaxNodes) + " nodes");
    nodes_left_ -= g_.nodes.size();
    if (depth_ > 0) VB_TRY(check_body());
    made_.resize(static_cast<size_t>(g_.value_count));
    for (const GraphInput& in : g_.inputs) VB_TRY(produce(in.value, "input " + in.name));
    for (const Initializer& init : g_.initializers)
      VB_TRY(produce(init.value, "initializer " + init.name));
    for (size_t i = 0; i < g_.nodes.size(); ++i) VB_TRY(check_node(i));
    return check_outputs();
  }

 private:
  // What a body may not have; and values that nothing produces, for which each run would take
  // memory.
  Status check_body() const {
    if (!g_.initializers.empty()) return bad_input("a body with initializers");
    size_t produced = g_.inputs.size();
    for (const GraphInput& in : g_.inputs)
      if (in.dtype != DType::undefined || !in.dims.empty())
        return bad_input("input " + in.name + ": a body's inputs state no type");
    for (const Node& node : g_.nodes) produced += node.outputs.size();
    if (static_cast<size_t>(g_.value_count) > produced)
      return bad_input("a body of " + std::to_string(g_.value_count) + " values that makes " +
                       std::to_string(produced));
    return {};
  }

  Status produce(ValueId v, const std::string& who) {
    if (v < 0 || v >= g_.value_count)
      return bad_input(who + ": value " + std::to_string(v) + " is out of range");
    if (made_[v]) return bad_input(who + ": value " + std::to_string(v) + " is produced twice");
    made_[v] = true;
    return {};
  }

  Status check_node(size_t index) {
    const Node& node = g_.nodes[index];
    const std::string who = "node " + std::to_string(index) + " (" + node.title() + ")";
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
      if (v != kAbsent && (v < 0 || v >= g_.value_count || !made_[v]))
        return bad_input(who + ": input value " + std::to_string(v) + " has no earlier producer");
    VB_TRY(check_bodies(node).with_context(who));
    if (op->check != nullptr) VB_TRY(op->check(node).with_context(who));
    for (ValueId v : node.outputs)
      if (v != kAbsent) VB_TRY(produce(v, who));
    return {};
  }

  Status check_bodies(const Node& node) {
    for (const auto& [name, value] : node.attributes.map()) {
      const Body* body = std::get_if<Body>(&value);
      if (body == nullptr) continue;
      if (*body == nullptr) return bad_input("attribute '" + name + "' is no graph");
      if (depth_ == kMaxBodyDepth)
        return over_limit("bodies more than " + std::to_string(kMaxBodyDepth) + " deep");
      VB_TRY(Validation(**body, depth_ + 1, nodes_left_).run().with_context(name));
    }
    return {};
  }

  Status check_outputs() const {
    std::set<std::string> names;
    for (const GraphOutput& out : g_.outputs) {
      if (out.value < 0 || out.value >= g_.value_count || !made_[out.value])
        return bad_input("output " + out.name + " has no producer");
      if (!names.insert(out.name).second) return bad_input("two outputs are called " + out.name);
    }
    return {};
  }

  const Graph& g_;
  const int depth_;
  size_t& nodes_left_;
  std::vector<bool> made_;
};

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
  size_t nodes_left = kMaxNodes;
  return Validation(*this, 0, nodes_left).run();
}

void Graph::compute_roots() {
  for (Initializer& init : initializers) init.root = tensor_root(init.tensor);
}

void encode_operator(Writer& w, const Node& node) { write_operator(w, node, 0); }

Bytes encode_graph(const Graph& graph) {
  Writer w;
  write_graph(w, graph, 0);
  return w.take();
}

Result<Graph> decode_graph(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  VB_ASSIGN(Graph g, read_graph(r, 0));
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

Result<Body> GraphBuilder::finish_body() {
  VB_ASSIGN(Graph graph, finish());
  return Body(std::make_shared<const Graph>(std::move(graph)));
}

}  // namespace verbatim
