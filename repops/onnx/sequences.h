// ONNX's sequences. A graph of ours has tensors only: while a file is read, a sequence is a list of
// values (Emitter::sequence), and its operators edit lists.
#pragma once

#include <string_view>
#include <vector>

#include <verbatim/repops/onnx/lower.h>

namespace verbatim::onnx {

bool is_sequence_operator(std::string_view op);

// The values, sequences among them, of such an operator's outputs. Errors: unsupported where a
// length or a position does not follow from constants and stated shapes, bad_input, limit.
Result<std::vector<ValueId>> lower_sequence(const SourceNode& node, Emitter& emitter);

}  // namespace verbatim::onnx
