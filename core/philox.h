// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as
// 1, 2, 3" (SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace verbatim {

// Four random words for one counter. Words are low first: key = {seed low, seed high}.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// The contract's use of it: 64 random bits for (seed, position, stream).
constexpr uint64_t philox_u64(uint64_t seed, uint64_t position, uint64_t stream) {
  const auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
  const auto high = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
  const auto words = philox4x32({low(position), high(position), low(stream), high(stream)},
                                {low(seed), high(seed)});
  return words[0] | uint64_t{words[1]} << 32;
}

}  // namespace verbatim
