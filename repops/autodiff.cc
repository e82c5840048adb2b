#include <verbatim/repops/autodiff.h>

#include <algorithm>

#include <verbatim/repops/autodiff_rules.h>

namespace verbatim {
namespace {

// The element types of a graph's values as far as they follow from it alone; the others are
// undefined.
std::vector<DType> types_of(const Graph& graph) {
  std::vector<DType> types(static_cast<size_t>(graph.value_count), DType::undefined);
  for (const GraphInput& in : graph.inputs) types[static_cast<size_t>(in.value)] = in.dtype;
  for (const Initializer& init : graph.initializers)
    types[static_cast<size_t>(init.value)] = init.dtype;
  for (const Node& node : graph.nodes) {
    const auto input = [&](size_t i) {
      const bool given = i < node.inputs.size() && node.inputs[i] != kAbsent;
      return given ? types[static_cast<size_t>(node.inputs[i])] : DType::undefined;
    };
    DType type = DType::undefined;
    if (node.domain.empty() && node.op == "Cast") {
      const Result<int64_t> to = node.attributes.get<int64_t>("to", 0);
      if (to.ok()) type = dtype_from_onnx(*to);
    } else if (node.domain.empty() && (node.op == "CastLike" || node.op == "Where")) {
      type = input(1);
    } else if (find_gradient_rule(node) != nullptr) {
      type = input(0);  // what is differentiated keeps its type
    }
    for (ValueId v : node.outputs)
      if (v != kAbsent) types[static_cast<size_t>(v)] = type;
  }
  return types;
}

class Differentiator {
 public:
  explicit Differentiator(const Graph& graph)
      : editor_(graph),
        forward_nodes_(graph.nodes.size()),
        types_(types_of(graph)),
        depends_(static_cast<size_t>(graph.value_count)),
        contributions_(static_cast<size_t>(graph.value_count)),
        gradient_(static_cast<size_t>(graph.value_count), kAbsent) {}

  Result<Graph> run(ValueId loss, std::span<const ValueId> wrt);

 private:
  // A gradient of a value by one of its uses: ordered by the using node, then by the node's input.
  struct Contribution {
    size_t node, input;
    ValueId gradient;
  };

  const Graph& graph() const { return editor_.graph(); }
  bool passes_nothing(const Node& node) const;
  void mark_dependent(std::span<const ValueId> wrt);
  ValueId total(ValueId value);
  Status go_back(size_t index);

  GraphEditor editor_;
  size_t forward_nodes_;
  std::vector<DType> types_;   // of the forward graph's values
  std::vector<bool> depends_;  // on one of wrt, through values that have gradients
  std::vector<std::vector<Contribution>> contributions_;
  std::vector<ValueId> gradient_;
  std::map<ValueId, ValueId> shapes_;
};

bool Differentiator::passes_nothing(const Node& node) const {
  if (node.domain.empty() && node.op == "CastLike" && node.inputs[1] != kAbsent) {
    const DType to = types_[static_cast<size_t>(node.inputs[1])];
    return to != DType::undefined && !is_float(to);
  }
  return has_zero_gradient(node);
}

void Differentiator::mark_dependent(std::span<const ValueId> wrt) {
  for (ValueId v : wrt) depends_[static_cast<size_t>(v)] = true;
  for (const Node& node : graph().nodes) {
    if (passes_nothing(node)) continue;
    const bool any = std::ranges::any_of(
        node.inputs, [&](ValueId v) { return v != kAbsent && depends_[static_cast<size_t>(v)]; });
    for (ValueId v : node.outputs)
      if (any && v != kAbsent) depends_[static_cast<size_t>(v)] = true;
  }
}

// The gradient of a value all of whose uses are behind us; kAbsent where the loss does not depend
// on it.
ValueId Differentiator::total(ValueId value) {
  std::vector<Contribution>& parts = contributions_[static_cast<size_t>(value)];
  ValueId& gradient = gradient_[static_cast<size_t>(value)];
  if (gradient != kAbsent || parts.empty()) return gradient;
  std::ranges::sort(parts, {}, [](const Contribution& c) { return std::pair(c.node, c.input); });
  std::vector<ValueId> terms;
  for (const Contribution& c : parts) terms.push_back(c.gradient);
  if (terms.size() == 1) return gradient = terms[0];
  // From the first to the last; two terms by Add, which backends are fast at and which is the same.
  return gradient = editor_.add(terms.size() == 2 ? "Add" : "Sum", "", std::move(terms), {},
                                value_name(graph(), value) + ".gradient");
}

Status Differentiator::go_back(size_t index) {
  const Node node = graph().nodes[index];  // a copy: nodes are added below
  if (passes_nothing(node)) return {};
  std::vector<bool> wanted;
  for (ValueId v : node.inputs) wanted.push_back(v != kAbsent && depends_[static_cast<size_t>(v)]);
  std::vector<ValueId> gradients;
  for (ValueId v : node.outputs) gradients.push_back(v == kAbsent ? kAbsent : total(v));
  if (std::ranges::find(wanted, true) == wanted.end() ||
      std::ranges::all_of(gradients, [](ValueId g) { return g == kAbsent; }))
    return {};
  const GradientRule rule = find_gradient_rule(node);
  BackwardNode back(editor_, shapes_, node, std::move(gradients), std::move(wanted));
  const bool to_unknown = node.domain.empty() && node.op == "CastLike" &&
                          types_[static_cast<size_t>(node.inputs[1])] == DType::undefined;
  const Status status = rule == nullptr ? back.no_rule()
                        : to_unknown    ? back.no_rule("the type that it casts to is not known")
                                        : rule(back);
  if (!status.ok()) return status.with_context("node " + std::to_string(index));
  for (const BackwardNode::Given& g : back.given())
    contributions_[static_cast<size_t>(back.in(g.input))].push_back({index, g.input, g.gradient});
  return {};
}

Result<Graph> Differentiator::run(ValueId loss, std::span<const ValueId> wrt) {
  VB_TRY(graph().validate());
  const auto exists = [&](ValueId v) { return v >= 0 && v < graph().value_count; };
  if (!exists(loss) || !std::ranges::all_of(wrt, exists))
    return bad_input("differentiate: a value that the graph does not have");
  const std::string loss_name = value_name(graph(), loss);
  mark_dependent(wrt);

  const ValueId one = editor_.constant("one", *Tensor::scalar(1.0));
  const ValueId seed = editor_.add("CastLike", "", {one, loss}, {}, loss_name + ".seed");
  const ValueId shape = editor_.add("Shape", "", {loss}, {}, loss_name + ".shape");
  contributions_[static_cast<size_t>(loss)].push_back(
      {forward_nodes_, 0, editor_.add("Expand", "", {seed, shape}, {}, loss_name + ".gradient")});
  for (size_t i = forward_nodes_; i-- > 0;) VB_TRY(go_back(i));

  std::vector<GraphOutput> outputs = {{loss_name, loss}};
  for (ValueId v : wrt) {
    const std::string name = value_name(graph(), v);
    const ValueId gradient = total(v);
    if (gradient == kAbsent)
      return bad_input("the loss does not depend on '" + printable(name) +
                       "' in a way that has a gradient");
    outputs.push_back({"gradient." + name, gradient});
  }
  editor_.outputs(std::move(outputs));
  return editor_.finish();
}

}  // namespace

Result<Graph> differentiate(const Graph& graph, ValueId loss, std::span<const ValueId> wrt) {
  return Differentiator(graph).run(loss, wrt);
}

}  // namespace verbatim
