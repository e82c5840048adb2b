// A program as data: nodes in one public topological order, each an operator with attributes over
// numbered values.
//
//   GraphBuilder b;
//   ValueId x = b.input("x", DType::f32, {-1, 384});
//   ValueId y = b.add("Linear", kVerbatimDomain, {x, b.constant("w", w), b.constant("b", bias)});
//   b.output(b.add("Tanh", "", {y}));
//   VB_ASSIGN(Graph g, b.finish());
//
// Operators of ONNX keep ONNX's name, in the domain "", with the meaning of the newest operator set
// that import knows; older forms are rewritten at import. Operators of our own are in the domain
// "verbatim". A graph is immutable once built.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/core/tensor.h>

namespace verbatim {

inline constexpr std::string_view kVerbatimDomain = "verbatim";

using ValueId = int32_t;
inline constexpr ValueId kAbsent =
    -1;  // an optional input that is not given, an output that nobody wants

struct Graph;
// What a control-flow node runs (ops/control_flow.h): a graph without initializers, whose inputs
// state no type. Whatever it takes from around it is an input, of the node and of the body.
using Body = std::shared_ptr<const Graph>;
inline constexpr int kMaxBodyDepth = 8;  // bodies within bodies

using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>,
                               std::vector<float>, std::vector<std::string>, Tensor, Body>;

class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<const std::string, Attribute>> list) : map_(list) {}

  bool has(std::string_view name) const { return map_.find(name) != map_.end(); }
  // The attribute, or `otherwise` where it is missing. A value of another type is an error.
  template <class T>
  Result<T> get(std::string_view name, T otherwise) const;
  template <class T>
  Result<T> require(std::string_view name) const;

  void set(std::string name, Attribute value) {
    map_.insert_or_assign(std::move(name), std::move(value));
  }
  void erase(std::string_view name);
  const std::map<std::string, Attribute, std::less<>>& map() const { return map_; }

 private:
  std::map<std::string, Attribute, std::less<>> map_;  // sorted: one canonical order
};

struct Node {
  std::string domain, op;
  std::string
      name;  // for people: "encoder.layer.3.attention.self.query"; bound by the program root
  Attributes attributes;
  std::vector<ValueId> inputs, outputs;

  // "Linear encoder.layer.3.attention.self.query": for people; long names are shortened.
  std::string title() const;
};

struct GraphInput {
  std::string name;
  ValueId value;
  DType dtype;                // undefined for a body's
  std::vector<int64_t> dims;  // -1: any size; empty for a body's
};

struct GraphOutput {
  std::string name;
  ValueId value;
};

struct Initializer {
  std::string name;
  ValueId value;
  Tensor tensor;  // undefined where only the root is known: a referee holds no weights
  DType dtype;
  Shape shape;
  Digest root;  // tensor_root(tensor), computed by Graph::compute_roots() or read from a task
};

struct Graph {
  int32_t value_count = 0;
  std::vector<GraphInput> inputs;
  std::vector<Initializer> initializers;
  std::vector<Node> nodes;  // every node after its producers
  std::vector<GraphOutput> outputs;

  // Where a value comes from.
  struct Producer {
    enum class Kind : uint8_t { none, input, initializer, node } kind = Kind::none;
    int32_t index = 0;   // into inputs, initializers or nodes
    int32_t output = 0;  // for a node: which of its outputs
  };
  std::vector<Producer> producers() const;

  // Structure: ids in range, each value produced once and before its uses, known operators with
  // allowed arity, output names distinct; the same of bodies, at most kMaxBodyDepth deep.
  // Everything that reads a graph from outside calls it.
  Status validate() const;

  void compute_roots();  // fills every initializer's root; hashes all weights, in parallel
};

// Canonical bytes of a graph: structure and initializer roots, no weights. Roots must have been
// computed.
Bytes encode_graph(const Graph& graph);
Result<Graph> decode_graph(ByteView bytes, const std::string& source);
// The identity of a program: H(tag, encode_graph).
Digest program_root(const Graph& graph);
// Canonical bytes of (domain, op, name, attributes): a part of encode_graph and of every node hash.
void encode_operator(Writer& w, const Node& node);

class GraphBuilder {
 public:
  ValueId input(std::string name, DType dtype, std::vector<int64_t> dims);
  ValueId body_input(std::string name) { return input(std::move(name), DType::undefined, {}); }
  ValueId constant(std::string name, Tensor tensor);
  // Adds a node of `output_count` outputs, which get consecutive ids; returns the first. Node names
  // get `scope` in front.
  ValueId add(std::string_view op, std::string_view domain, std::vector<ValueId> inputs,
              Attributes attributes = {}, std::string name = "", int output_count = 1);
  void output(std::string name, ValueId value);
  void set_scope(std::string scope) { scope_ = std::move(scope); }
  Result<Graph> finish();  // validates
  Result<Body> finish_body();

 private:
  Graph graph_;
  std::string scope_;
};

template <class T>
Result<T> Attributes::get(std::string_view name, T otherwise) const {
  const auto it = map_.find(name);
  if (it == map_.end()) return otherwise;
  if (const T* value = std::get_if<T>(&it->second)) return *value;
  return bad_input("attribute '" + std::string(name) + "' has the wrong type");
}

template <class T>
Result<T> Attributes::require(std::string_view name) const {
  if (!has(name)) return bad_input("attribute '" + std::string(name) + "' is missing");
  return get<T>(name, T{});
}

}  // namespace verbatim
