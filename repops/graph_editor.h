// Goes on from a graph that exists: nodes behind its own, further constants, other outputs.
//
//   GraphEditor e(graph);
//   const ValueId y = e.add("Tanh", "", {x}, {}, "y");
//   e.outputs({{"y", y}});
//   VB_ASSIGN(Graph longer, e.finish());
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <verbatim/repops/graph.h>

namespace verbatim {

class GraphEditor {
 public:
  explicit GraphEditor(Graph graph) : graph_(std::move(graph)) {}
  const Graph& graph() const { return graph_; }

  ValueId input(std::string name, DType dtype, std::vector<int64_t> dims);
  // A constant that was made here under the same name is not made again.
  ValueId constant(const std::string& name, const Tensor& tensor);
  ValueId integers(const std::string& name, const std::vector<int64_t>& values);  // int64 [n]
  // Adds a node behind all others; returns the first of its outputs, whose ids are consecutive.
  ValueId add(std::string_view op, std::string_view domain, std::vector<ValueId> inputs,
              Attributes attributes, std::string name, int output_count = 1);
  // Puts these in the place of the graph's outputs.
  void outputs(std::vector<GraphOutput> outputs) { graph_.outputs = std::move(outputs); }
  // The initializer `value` becomes an input of its type and shape, behind the others; returns the
  // tensor that it was.
  Result<Tensor> make_input(ValueId value);
  Result<Graph> finish();  // validates

 private:
  Graph graph_;
  std::map<std::string, ValueId> made_;
};

// For people: the input's or initializer's name, the name of the node that makes it, or its number.
std::string value_name(const Graph& graph, ValueId value);

}  // namespace verbatim
