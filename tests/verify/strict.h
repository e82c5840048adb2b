// What every decoder owes: each truncation is refused, and whatever is accepted encodes to the same
// bytes again.
#pragma once

#include <gtest/gtest.h>

#include <verbatim/core/codec.h>

namespace verbatim::test {

// `round_trip(bytes, out)`: decodes; on success encodes into `out` and returns true.
template <class F>
void expect_strict(const Bytes& bytes, size_t stride, F&& round_trip) {
  Bytes out;
  ASSERT_TRUE(round_trip(bytes, out));
  ASSERT_EQ(out, bytes);
  for (size_t n = 0; n < bytes.size(); n += stride) {
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_FALSE(round_trip(cut, out)) << "cut to " << n;
  }
  Bytes longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(round_trip(longer, out)) << "one byte more";
  size_t accepted = 0, tried = 0;
  for (size_t i = 0; i < bytes.size(); i += stride) {
    for (const uint8_t flip : {0x01, 0x80, 0xFF}) {
      Bytes other = bytes;
      other[i] ^= static_cast<std::byte>(flip);
      ++tried;
      if (!round_trip(other, out)) continue;
      ++accepted;
      EXPECT_EQ(out, other) << "byte " << i << " xor " << int{flip};
    }
  }
  EXPECT_LE(accepted, tried);
}

}  // namespace verbatim::test
