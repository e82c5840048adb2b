// A program: one graph, run for one or more steps, the outputs of a step feeding the next.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <verbatim/core/codec.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/graph.h>

namespace verbatim {

// Graph output `output` of a step becomes graph input `input` of the next.
struct Carry {
  uint32_t output;
  uint32_t input;
};

inline constexpr uint32_t kMaxCarries = 4096;
inline constexpr uint32_t kMaxSteps = 1 << 20;

// A graph and how its steps are chained. Carried inputs get their first value from the caller like
// all others; inputs that are not carried keep their value.
struct Program {
  Graph graph;
  std::vector<Carry> carries;
  uint32_t max_steps = 1;
  // Ends early after a step whose output `stop_output` (one int64) equals stop_value.
  std::optional<uint32_t> stop_output;
  int64_t stop_value = 0;
};

// The graph is valid and has an output; steps and carries are within their limits and name what
// there is.
Status validate_program(const Program& program);
// True where `outputs` of the step just run end the program before max_steps.
bool stops_after(const Program& program, std::span<const Tensor> outputs);

// How the steps are chained (carries, max_steps, stop rule) in canonical bytes: a part of
// encode_program(), of tasks and of the program root. Reading checks the form alone:
// validate_program() does the rest, with the graph.
void write_chaining(Writer& w, const Program& program);
Status read_chaining(Reader& r, Program& program);

// Canonical bytes: the graph (structure and initializer roots, which must have been computed) and
// the chaining.
Bytes encode_program(const Program& program);
// A decoded program has no weights: initializers know their type, shape and root.
Result<Program> decode_program(ByteView bytes, const std::string& source);

}  // namespace verbatim
