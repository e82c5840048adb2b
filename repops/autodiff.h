// Reverse-mode differentiation: a graph in, a graph out.
//
//   const ValueId wrt[] = {weight, bias};
//   VB_ASSIGN(const Graph g, differentiate(graph, loss, wrt));   // outputs: loss, d loss / d
//   weight,
//                                                                // d loss / d bias
//
// The gradients are computed by ordinary nodes, ONNX's operators where they say it and operators of
// our own (ops/gradient.cc and its neighbours) elsewhere, so they have the same bits everywhere and
// can be traced, committed to and disputed like any other node. docs/numerics.md, Training, fixes
// the order of every sum.
#pragma once

#include <span>

#include <verbatim/repops/graph.h>

namespace verbatim {

// `graph` with nodes behind its own that compute the gradients of `loss`, a floating value of the
// graph, with regard to the values `wrt` (inputs, initializers or outputs of nodes). Outputs: the
// loss, then one gradient for each of `wrt`, in its order, of that value's type and shape. A loss
// of several elements counts as their sum.
//
// A value with several uses has the sum of their gradients, from the first to the last: ascending
// by the consuming node, then by the node's input.
//
// What the rules cannot know is not found here but when the graph runs: MatMul of vectors, tables
// of a rotary embedding that depend on `wrt`. Errors: a node on the way without a rule (its name
// and operator are named), a value that the loss does not depend on, a graph that is not valid.
Result<Graph> differentiate(const Graph& graph, ValueId loss, std::span<const ValueId> wrt);

}  // namespace verbatim
