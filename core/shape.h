// Dimensions of a tensor, with arithmetic that cannot overflow.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include <verbatim/core/status.h>

namespace verbatim {

inline constexpr int kMaxRank = 8;

class Shape {
 public:
  Shape() = default;                           // rank 0: a scalar
  Shape(std::initializer_list<int64_t> dims);  // for literals known to be valid
  // Errors: more than kMaxRank dimensions, a negative one, a product beyond 2^62,
  // or beyond 2^20 (in a batch of none: 2^26) for the other dimensions of an empty tensor.
  static Result<Shape> of(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[axis]; }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }
  int64_t elements() const;  // 1 for a scalar

  // Product of the dimensions in [from, to).
  int64_t elements(int from, int to) const;
  // Turns a possibly negative axis into 0..rank-1 (rank allowed too where `inclusive`).
  Result<int> axis(int64_t a, bool inclusive = false) const;

  bool operator==(const Shape& other) const;
  std::string to_string() const;  // "[2, 3]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// a * b, or an error where that passes 2^62. Both at least 0.
Result<int64_t> checked_multiply(int64_t a, int64_t b);

}  // namespace verbatim
