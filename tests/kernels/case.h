// A node and its inputs: what a test runs. It needs no test framework, so that programs that have
// none read cases, too.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include <verbatim/repops/op.h>

namespace verbatim::test {

struct Case {
  Node node;
  Tensors inputs;
  // Inputs that are weights: prepare() gets to see them.
  std::vector<int> weights;
};

inline Node node_of(std::string_view domain, std::string_view op, Attributes attributes = {},
                    int outputs = 1) {
  Node node{.domain = std::string(domain),
            .op = std::string(op),
            .name = "n",
            .attributes = std::move(attributes),
            .inputs = {},
            .outputs = {}};
  for (int i = 0; i < outputs; ++i) node.outputs.push_back(i);
  return node;
}

}  // namespace verbatim::test
