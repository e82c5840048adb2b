#include <gtest/gtest.h>

#include <verbatim/core/philox.h>

namespace verbatim {
namespace {

// Known answers of the authors' Random123 library (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t f = 0xffffffff;
  EXPECT_EQ(philox4x32({f, f, f, f}, {f, f}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, WordsAreLowFirst) {
  const auto w = philox4x32({7, 1, 9, 0}, {5, 2});
  EXPECT_EQ(philox_u64((uint64_t{2} << 32) | 5, (uint64_t{1} << 32) | 7, 9),
            w[0] | uint64_t{w[1]} << 32);
}

}  // namespace
}  // namespace verbatim
