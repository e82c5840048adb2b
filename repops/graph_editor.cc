#include <verbatim/repops/graph_editor.h>

#include <algorithm>

namespace verbatim {

ValueId GraphEditor::input(std::string name, DType dtype, std::vector<int64_t> dims) {
  graph_.inputs.push_back({std::move(name), graph_.value_count, dtype, std::move(dims)});
  return graph_.value_count++;
}

ValueId GraphEditor::constant(const std::string& name, const Tensor& tensor) {
  const auto [it, fresh] = made_.emplace(name, graph_.value_count);
  if (!fresh) return it->second;
  graph_.initializers.push_back(
      {name, graph_.value_count, tensor, tensor.dtype(), tensor.shape(), {}});
  return graph_.value_count++;
}

ValueId GraphEditor::integers(const std::string& name, const std::vector<int64_t>& values) {
  return constant(name, *Tensor::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values));
}

ValueId GraphEditor::add(std::string_view op, std::string_view domain, std::vector<ValueId> inputs,
                         Attributes attributes, std::string name, int output_count) {
  Node node{std::string(domain),   std::string(op),   std::move(name),
            std::move(attributes), std::move(inputs), {}};
  const ValueId first = graph_.value_count;
  for (int i = 0; i < output_count; ++i) node.outputs.push_back(graph_.value_count++);
  graph_.nodes.push_back(std::move(node));
  return first;
}

Result<Tensor> GraphEditor::make_input(ValueId value) {
  const auto it = std::ranges::find(graph_.initializers, value, &Initializer::value);
  if (it == graph_.initializers.end())
    return bad_input("value " + std::to_string(value) + " is no initializer");
  const Tensor tensor = it->tensor;
  const auto dims = it->shape.dims();
  graph_.inputs.push_back({it->name, value, it->dtype, {dims.begin(), dims.end()}});
  graph_.initializers.erase(it);
  return tensor;
}

Result<Graph> GraphEditor::finish() {
  VB_TRY(graph_.validate());
  return std::move(graph_);
}

std::string value_name(const Graph& graph, ValueId value) {
  for (const GraphInput& in : graph.inputs)
    if (in.value == value) return in.name;
  for (const Initializer& init : graph.initializers)
    if (init.value == value) return init.name;
  for (const Node& node : graph.nodes)
    if (std::ranges::find(node.outputs, value) != node.outputs.end() && !node.name.empty())
      return node.name;
  return "value " + std::to_string(value);
}

}  // namespace verbatim
