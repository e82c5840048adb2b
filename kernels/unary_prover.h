// Every binary32 through a unary function as a backend computes it, each result against the oracle
// of repops/unary.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include <verbatim/core/status.h>
#include <verbatim/repops/unary.h>

namespace verbatim {

using UnaryOracle = std::optional<float> (*)(Unary, float);
inline constexpr UnaryOracle kNoOracle = nullptr;  // results alone, none of them wrong

struct UnaryFaults {
  uint64_t wrong = 0;             // results that are not the oracle's, or that it cannot decide
  std::optional<uint32_t> first;  // bits of the least such input
};

class UnaryProver {
 public:
  virtual ~UnaryProver() = default;
  virtual std::string_view name() const = 0;
  // The most inputs of one call that is worth its memory.
  virtual int64_t part() const = 0;
  // f on the inputs whose bits are [first, first + count), count <= part(). `results` has 4 bytes
  // for each, little-endian; what is wrong is added to `faults`, whose calls go up.
  virtual Status run(Unary f, uint32_t first, int64_t count, std::byte* results,
                     UnaryFaults& faults) = 0;
};

// By the name of a backend as in make_backend(), and "cuda". A vector backend proves its vector
// functions and, where it has none of its own, the scalar ones that it uses; "cuda" knows no oracle
// but proven().
Result<std::unique_ptr<UnaryProver>> make_unary_prover(std::string_view backend,
                                                       UnaryOracle oracle = proven);

}  // namespace verbatim
