// Which elements a reduction folds (Reduce* of repops/ops/reduction.cc).
#pragma once

#include <span>

#include <verbatim/repops/graph.h>

namespace verbatim {

struct ReducedShape {
  Shape kept, reduced;  // both of the operand's rank, the other's dimensions being 1
  Shape result;
};

// Of a node's operand and axes.
Result<ReducedShape> reduced_shape(const Node& node, std::span<const Tensor> inputs);

}  // namespace verbatim
