// Every binary32 through a unary function of the contract, each result against an oracle.
#pragma once

#include <functional>
#include <optional>

#include <verbatim/core/hash.h>
#include <verbatim/kernels/unary_prover.h>

namespace verbatim {

inline constexpr uint64_t kAllInputs = uint64_t{1} << 32;

// Inputs are named by their bits: those of [first, first + count), which ends by 2^32.
struct InputRange {
  uint64_t first = 0, count = kAllInputs;
};
// "FIRST:COUNT", decimal or after 0x hexadecimal.
Result<InputRange> parse_input_range(std::string_view text);

struct UnaryProof {
  uint64_t inputs = 0;
  uint64_t wrong = 0;  // those that the oracle cannot decide included
  std::optional<uint32_t> first_wrong;
  Digest digest;  // SHA-256 over the results in the inputs' order, each four bytes, little-endian
};

// progress(done) is called now and then on the caller's thread.
Result<UnaryProof> prove_unary(UnaryProver& prover, Unary f, InputRange range,
                               const std::function<void(uint64_t)>& progress);

}  // namespace verbatim
