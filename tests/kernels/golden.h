// Golden vectors: cases of every operator group as JSON lines that are readable without this
// library. The format, and how a seed becomes a tensor, is said in tests/golden/README.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/case.h"

namespace verbatim::test {

using Json = nlohmann::ordered_json;

struct Golden {
  std::string name;
  // Inputs but the first are weights. The domain "function" is that of Unary.
  Case c;
  Json outputs;
};

// Errors name what is wrong with the case.
Result<Golden> read_golden(const Json& line);
// What the scalar reference gives.
Result<Tensors> evaluate_golden(const Golden& golden);
// Which of the outputs `have` is not the recorded one, and how; "" where all are that to the bit.
std::string golden_difference(const Golden& golden, const Tensors& have);
// A tensor as a file holds an output: its bits where they are few, else its root.
Json golden_output(const Tensor& tensor);

// The cases of each file, without outputs.
using GoldenFiles = std::map<std::string, std::vector<Json>>;
GoldenFiles golden_cases();
// Those of golden_movement.cc, golden_windows.cc and golden_operators.cc, which golden_cases() has,
// too.
GoldenFiles golden_movement_cases();
GoldenFiles golden_window_cases();
GoldenFiles golden_operator_cases();

}  // namespace verbatim::test
