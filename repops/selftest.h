// Digests of every operator group on inputs generated from a seed: two machines that print the same
// digests agree on the contract.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <verbatim/core/hash.h>
#include <verbatim/repops/backend.h>

namespace verbatim {

// What 64 random bits are as a moderate number: sign and significand at random (bits 31 and 22 to
// 0), exponent from -6 to 2 (bits 32 and up).
float moderate_float(uint64_t random);

using SelftestDigests = std::map<std::string, Digest>;

Result<SelftestDigests> run_selftest(Backend& backend, uint64_t seed);

// The digests that the scalar reference gave when semantics version 1 was fixed, for the seeds that
// have any.
const std::map<std::string, std::string>* golden_digests(uint64_t seed);

}  // namespace verbatim
