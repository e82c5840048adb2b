// If, Loop and Scan: operators that run graphs, their bodies, which are attributes.
//
// A body sees its inputs and nothing else. What ONNX lets it take from the graph around it
// ("captures") are inputs of the node, after its own, and of the body, after its own: so a node's
// outputs are a function of its inputs and attributes, as everywhere. Constants are captures too.
//
//   If(condition, captures...): body `then_branch` where the condition holds, else `else_branch`;
//     the captures are the inputs of both, whose outputs are the node's.
//   Loop(M, condition, state..., captures...): body (trip, condition, state..., captures...) gives
//     (condition, state..., scan elements...). Outputs: the last state, and for each scan output
//     the elements of all trips, stacked along a new first axis.
//   Scan(state..., sequences..., captures...): body (state..., slices..., captures...) gives
//     (state..., scan elements...), once for each slice of the sequences. Outputs as Loop's.
//
// Attributes of our own, of Loop and Scan: `captures`, how many there are (0), and `scan_types`,
// which tells what a scan output of no trips is: for each its element type (ONNX's number, 0 where
// unknown), the rank of an element (-1 where unknown) and its dimensions (-1, which counts as 0,
// where unknown).
#pragma once

#include <vector>

#include <verbatim/repops/backend.h>

namespace verbatim {

bool is_control_flow(std::string_view domain, std::string_view op);

// Runs the node, those of its bodies on `backend`. Errors: bad_input (a condition that is not one
// bool, a state whose element type changes, scan elements of different shapes), whatever a node of
// the body, `checkpoint` or `on_trip` says. `on_trip`, if any, is asked before each trip through a
// body of this node, not of nodes within it.
Result<Tensors> run_control_flow(const Node& node, std::span<const Tensor> inputs, Backend& backend,
                                 const Checkpoint& checkpoint, const Checkpoint& on_trip = {});

// How a body's captures lie in its node: body input i, from first_capture on, is the node's input
// i + offset.
struct BodyCaptures {
  const Graph* body;
  size_t first_capture, offset;
};
// Of a valid node; none where it is no control flow.
std::vector<BodyCaptures> body_captures(const Node& node);

}  // namespace verbatim
