#include <verbatim/core/shape.h>

#include <algorithm>
#include <cstdlib>

namespace verbatim {
namespace {
constexpr int64_t kMaxElements = int64_t{1} << 62;
// The product of an empty tensor's other dimensions. It needs no memory, but code loops over its
// rows: [2^40, 0] must not keep anybody busy. A batch of none has no rows, and its entries may be
// larger; columns of them are looped over, too.
constexpr int64_t kMostWithoutElements = int64_t{1} << 20, kMostInAnEntry = int64_t{1} << 26;
}  // namespace

Result<int64_t> checked_multiply(int64_t a, int64_t b) {
  if (a < 0 || b < 0) return bad_input("negative size");
  if (b != 0 && a > kMaxElements / b)
    return over_limit("size overflows: " + std::to_string(a) + " * " + std::to_string(b));
  return a * b;
}

Shape::Shape(std::initializer_list<int64_t> dims) {
  Result<Shape> checked = of({dims.begin(), dims.size()});
  if (!checked.ok()) std::abort();
  *this = *checked;
}

Result<Shape> Shape::of(std::span<const int64_t> dims) {
  if (dims.size() > kMaxRank)
    return over_limit("rank " + std::to_string(dims.size()) + " is above " +
                      std::to_string(kMaxRank));
  Shape s;
  s.rank_ = static_cast<int>(dims.size());
  int64_t product = 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] < 0) return bad_input("negative dimension " + std::to_string(dims[i]));
    s.dims_[i] = dims[i];
    // Zero dimensions are left out: [0, 2^40, 2^40] must not pass for small, since a later reshape
    // could drop the zero.
    if (dims[i] != 0) {
      VB_ASSIGN(product, checked_multiply(product, dims[i]));
    }
  }
  if (s.elements() == 0 && product > (s.dims_[0] == 0 ? kMostInAnEntry : kMostWithoutElements))
    return over_limit("empty tensor " + s.to_string() + " has too large other dimensions");
  return s;
}

int64_t Shape::elements() const { return elements(0, rank_); }

int64_t Shape::elements(int from, int to) const {
  int64_t n = 1;
  for (int i = from; i < to; ++i) n *= dims_[i];
  return n;
}

Result<int> Shape::axis(int64_t a, bool inclusive) const {
  const int64_t limit = rank_ + (inclusive ? 1 : 0);
  const int64_t positive = a < 0 ? a + limit : a;
  if (positive < 0 || positive >= limit)
    return bad_input("axis " + std::to_string(a) + " is outside rank " + std::to_string(rank_));
  return static_cast<int>(positive);
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(dims(), other.dims());
}

std::string Shape::to_string() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(dims_[i]);
  return s + "]";
}

}  // namespace verbatim
