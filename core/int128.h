// Integers of 128 bits, two's complement, that wrap: the compiler's where it has them (64-bit
// processors), else two words. Only what the operators need of them: no division.
#pragma once

#include <compare>
#include <concepts>
#include <cstdint>

namespace verbatim {

template <bool kSigned>
class TwoWords {
 public:
  constexpr TwoWords() = default;
  template <std::integral T>
  constexpr TwoWords(T value)
      : high_(value < T{0} ? ~uint64_t{0} : 0), low_(static_cast<uint64_t>(value)) {}
  constexpr TwoWords(uint64_t high, uint64_t low) : high_(high), low_(low) {}
  constexpr explicit TwoWords(const TwoWords<!kSigned>& other)
      : high_(other.high()), low_(other.low()) {}

  constexpr uint64_t high() const { return high_; }
  constexpr uint64_t low() const { return low_; }
  template <std::integral T>
  constexpr explicit operator T() const {
    return static_cast<T>(low_);
  }
  // Of a value that is not negative; roundings may add up to a little more than one.
  constexpr explicit operator double() const {
    return static_cast<double>(high_) * 0x1p64 + static_cast<double>(low_);
  }

  friend constexpr TwoWords operator+(const TwoWords& a, const TwoWords& b) {
    const uint64_t low = a.low_ + b.low_;
    return {a.high_ + b.high_ + (low < a.low_ ? 1 : 0), low};
  }
  friend constexpr TwoWords operator-(const TwoWords& a, const TwoWords& b) {
    return {a.high_ - b.high_ - (a.low_ < b.low_ ? 1 : 0), a.low_ - b.low_};
  }
  friend constexpr TwoWords operator*(const TwoWords& a, const TwoWords& b) {
    const uint64_t a1 = a.low_ >> 32, a0 = a.low_ & 0xFFFFFFFF, b1 = b.low_ >> 32,
                   b0 = b.low_ & 0xFFFFFFFF;
    const uint64_t p = a0 * b0, q = a1 * b0, r = a0 * b1,
                   middle = (p >> 32) + (q & 0xFFFFFFFF) + (r & 0xFFFFFFFF);
    return {a1 * b1 + (q >> 32) + (r >> 32) + (middle >> 32) + a.high_ * b.low_ + a.low_ * b.high_,
            middle << 32 | (p & 0xFFFFFFFF)};
  }
  friend constexpr TwoWords operator&(const TwoWords& a, const TwoWords& b) {
    return {a.high_ & b.high_, a.low_ & b.low_};
  }
  // By 0 to 127; to the right the sign comes in.
  friend constexpr TwoWords operator<<(const TwoWords& a, int n) {
    if (n == 0) return a;
    if (n >= 64) return {a.low_ << (n - 64), 0};
    return {a.high_ << n | a.low_ >> (64 - n), a.low_ << n};
  }
  friend constexpr TwoWords operator>>(const TwoWords& a, int n) {
    if (n == 0) return a;
    const auto shifted = [&](int m) {
      return kSigned ? static_cast<uint64_t>(static_cast<int64_t>(a.high_) >> m) : a.high_ >> m;
    };
    if (n >= 64) return {kSigned ? shifted(63) : 0, shifted(n - 64)};
    return {shifted(n), a.low_ >> n | a.high_ << (64 - n)};
  }
  constexpr TwoWords& operator+=(const TwoWords& b) { return *this = *this + b; }

  friend constexpr bool operator==(const TwoWords&, const TwoWords&) = default;
  friend constexpr std::strong_ordering operator<=>(const TwoWords& a, const TwoWords& b) {
    if (a.high_ == b.high_) return a.low_ <=> b.low_;
    constexpr uint64_t kFlip = kSigned ? uint64_t{1} << 63 : 0;
    return (a.high_ ^ kFlip) <=> (b.high_ ^ kFlip);
  }

 private:
  uint64_t high_ = 0, low_ = 0;
};

#if defined(__SIZEOF_INT128__)
__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;
#else
using int128 = TwoWords<true>;
using uint128 = TwoWords<false>;
#endif

}  // namespace verbatim
