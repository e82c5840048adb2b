// Silero VAD at 16 kHz: the probability that a chunk of audio is speech.
//
// github.com/snakers4/silero-vad (MIT), the network of its ONNX files: a Fourier transform as a
// convolution (window 256, hop 128), magnitudes, four convolutions with ReLU, one LSTM cell, a
// projection to one number and a sigmoid. A chunk is 512 new samples (32 ms) after the last 64 of
// the chunk before (zeros at first); the LSTM's hidden and cell state go from chunk to chunk.
#pragma once

#include <verbatim/repops/models/safetensors.h>
#include <verbatim/repops/program.h>

namespace verbatim {

inline constexpr int64_t kSileroChunk = 512, kSileroContext = 64;

// A safetensors file has no configuration: it is known by the names of its tensors.
bool is_silero(const TensorMap& tensors);

// One chunk. Inputs: input float32 [B, 576], state float32 [2, B, 128] (hidden, cell). Outputs:
// output float32 [B, 1], stateN.
Result<Graph> silero_graph(const TensorMap& tensors);

// Whole recordings, a step for each of `chunks`. Inputs: audio float32 [B, 64 + 512 * chunks],
// which begins with the context of the first; position int64 [1], state and past float32 [B, P],
// the probabilities so far. Outputs, each carried to the next step: probabilities float32 [B, P +
// 1], stateN, next_position.
Result<Program> silero_program(const TensorMap& tensors, int64_t chunks);
// Its inputs at the start of audio float32 [N] or [B, N] in -1 to 1 at 16 kHz: context, zeros to a
// whole chunk, states of zeros.
Result<std::vector<Tensor>> silero_inputs(const Tensor& audio);

}  // namespace verbatim
