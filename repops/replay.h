// A replay file: a program, its weights and inputs, how to run it, and the digests that it must
// give on every platform.
//
//   VB_ASSIGN(Replay r, record_replay(program, inputs, {2, 1}, 4));    // by the scalar reference
//   VB_TRY(write_file("case.vreplay", encode_replay(r)));
//   VB_ASSIGN(std::string difference, run_replay(r, *backend));        // "" where all digests
//   agree
//
// Property tests write one for each case they generate; a failing one is kept under tests/replay.
// Layout: docs/formats.md.
#pragma once

#include <string>
#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/repops/executor.h>

namespace verbatim {

struct Replay {
  Program program;  // weights included
  Tensors inputs;
  std::vector<int64_t> split;  // batch sizes: rows of dimension 0 that run apart must give the same
                               // rows; empty: no split
  uint32_t threads = 1;
  std::vector<std::vector<Digest>>
      outputs;  // recorded: for each step, the roots of the graph's outputs
};

Result<Replay> record_replay(Program program, Tensors inputs, std::vector<int64_t> split,
                             uint32_t threads);
Bytes encode_replay(const Replay& replay);
Result<Replay> decode_replay(ByteView bytes, const std::string& source);

// Runs it whole and split on `backend`. The first difference in words, or "". Sets the thread count
// to the file's and back.
Result<std::string> run_replay(const Replay& replay, Backend& backend);

}  // namespace verbatim
