// The operator table: for each operator its scalar reference, which is the contract in executable
// form, and what it costs.
//
// A reference function is written to be read. It takes the node (for its attributes) and its inputs
// (undefined tensors stand for absent ones), checks every shape and type itself, and returns
// exactly node.outputs.size() tensors, or fewer where trailing ones are optional and were not asked
// for.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/graph.h>

namespace verbatim {

using Tensors = std::vector<Tensor>;
using EvaluateFn = Result<Tensors> (*)(const Node& node, std::span<const Tensor> inputs);
// Elementary operations (a fused multiply-add counts as two) that the outputs took.
using CostFn = uint64_t (*)(const Node& node, std::span<const Tensor> inputs,
                            std::span<const Tensor> outputs);

// Costs do not wrap: what is too much to count is the greatest value.
inline uint64_t saturating_multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}
inline uint64_t saturating_add(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

// Input i, undefined where it is absent: trailing ones may be left out.
inline Tensor input_or_none(std::span<const Tensor> inputs, size_t i) {
  return i < inputs.size() ? inputs[i] : Tensor();
}

// Whether the node's form (its attributes, and how many inputs and outputs it has) is right, as far
// as nothing need be run to tell.
using CheckFn = Status (*)(const Node& node);

struct OpDef {
  std::string_view domain;
  std::string_view name;
  int min_inputs;
  int max_inputs;  // kVariadic: any number
  int max_outputs;
  EvaluateFn evaluate;
  CostFn cost = nullptr;    // nullptr: one operation for each output element
  CheckFn check = nullptr;  // asked by Graph::validate()
  bool cost_reads = false;  // cost looks at elements of the inputs, and not at shapes alone
};
inline constexpr int kVariadic = 1 << 20;

// nullptr where there is no such operator.
const OpDef* find_op(std::string_view domain, std::string_view name);
std::span<const OpDef* const> all_ops();
uint64_t operation_count(const Node& node, std::span<const Tensor> inputs,
                         std::span<const Tensor> outputs);

// Evaluates one node by its scalar reference, with the node's title in front of any error.
Result<Tensors> evaluate_reference(const Node& node, std::span<const Tensor> inputs);

}  // namespace verbatim
