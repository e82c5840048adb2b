// Golden vectors: cases of every operator group as JSON lines that are readable without this
// library. The format, and how a seed becomes a tensor, is said in tests/golden/README.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/compare.h"

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
// What `have` lacks to be the output that `want` describes; "" where it is that to the bit.
std::string golden_difference(const Json& want, const Tensor& have);
// A tensor as a file holds an output: its bits where they are few, else its root.
Json golden_output(const Tensor& tensor);

// The cases of each file, without outputs.
std::map<std::string, std::vector<Json>> golden_cases();

}  // namespace verbatim::test
