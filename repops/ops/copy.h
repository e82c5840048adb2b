// What the operators that move bytes share: copies under strides, whatever the element type, and
// integer operands (axes, shapes, indices) read and checked.
#pragma once

#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {

// Calls f(std::integral_constant<size_t, N>) for an element of N bytes: copies of a known size
// compile to loads and stores.
template <class F>
void visit_width(size_t width, F&& f) {
  switch (width) {
    case 1:
      return f(std::integral_constant<size_t, 1>{});
    case 2:
      return f(std::integral_constant<size_t, 2>{});
    case 4:
      return f(std::integral_constant<size_t, 4>{});
    case 8:
      return f(std::integral_constant<size_t, 8>{});
    default:
      return;
  }
}

// A tensor's elements as the operators that move bytes see them, under strides from an offset (all
// in elements).
struct View {
  Strides strides{};
  int64_t offset = 0;
};

// For each index of `shape`: the element of `to` becomes the element of `from`. Both have elements
// of one width, and lie in one memory, which may be a device's. Elements that lie side by side in
// both move at once.
inline Status copy_strided(const Shape& shape, Tensor& to, const View& to_view, const Tensor& from,
                           const View& from_view) {
  if (shape.elements() == 0) return {};
  const size_t width = size_of(from.dtype());
  if (DeviceMemory* device = from.device()) {
    const auto offset = [&](const View& v) { return v.offset * static_cast<int64_t>(width); };
    const auto rank = static_cast<size_t>(shape.rank());
    return device->copy_strided(width, shape.dims(), to.mutable_address() + offset(to_view),
                                {to_view.strides.data(), rank}, from.address() + offset(from_view),
                                {from_view.strides.data(), rank});
  }
  int64_t run = 1;
  int rank = shape.rank();  // of the dimensions outside a run
  for (; rank > 0; --rank) {
    const int64_t size = shape[rank - 1];
    if (size == 1) continue;
    if (to_view.strides[rank - 1] != run || from_view.strides[rank - 1] != run) break;
    run *= size;
  }
  const Shape outer = *Shape::of(shape.dims().first(static_cast<size_t>(rank)));
  std::byte* out = to.mutable_bytes().data();
  const std::byte* in = from.bytes().data();
  StridedWalk out_walk(outer, to_view.strides, to_view.offset),
      in_walk(outer, from_view.strides, from_view.offset);
  const auto copy = [&](auto bytes) {
    for (int64_t i = 0, n = outer.elements(); i < n; ++i) {
      std::memcpy(out + out_walk.offset() * width, in + in_walk.offset() * width, bytes);
      out_walk.next();
      in_walk.next();
    }
  };
  if (run == 1)
    visit_width(width, copy);
  else
    copy(static_cast<size_t>(run) * width);
  return {};
}

// memcpy for ranges that may be empty.
inline void copy_bytes(std::byte* to, const std::byte* from, int64_t count) {
  if (count > 0) std::memcpy(to, from, static_cast<size_t>(count));
}

// The values of an int32 or int64 tensor, at most max_count of them.
inline Result<std::vector<int64_t>> read_integers(
    const Tensor& t, const char* what, int64_t max_count = std::numeric_limits<int64_t>::max()) {
  if (t.dtype() != DType::i64 && t.dtype() != DType::i32)
    return bad_input(std::string(what) + " is " + t.describe() + ", not int32 or int64");
  if (t.elements() > max_count)
    return bad_input(std::string(what) + " has " + std::to_string(t.elements()) +
                     " values, at most " + std::to_string(max_count));
  if (t.dtype() == DType::i64)
    return std::vector<int64_t>(t.data<int64_t>().begin(), t.data<int64_t>().end());
  return std::vector<int64_t>(t.data<int32_t>().begin(), t.data<int32_t>().end());
}

// The values of an int32 or int64 tensor, however many, where they lie.
class Integers {
 public:
  static Result<Integers> of(const Tensor& t, const char* what) {
    if (t.dtype() != DType::i64 && t.dtype() != DType::i32)
      return bad_input(std::string(what) + " is " + t.describe() + ", not int32 or int64");
    Integers v;
    v.count_ = t.elements();
    if (t.dtype() == DType::i64)
      v.wide_ = t.data<int64_t>().data();
    else
      v.narrow_ = t.data<int32_t>().data();
    return v;
  }
  int64_t size() const { return count_; }
  int64_t operator[](int64_t i) const { return wide_ != nullptr ? wide_[i] : narrow_[i]; }

 private:
  int64_t count_ = 0;
  const int64_t* wide_ = nullptr;
  const int32_t* narrow_ = nullptr;
};

// A single integer.
inline Result<int64_t> read_integer(const Tensor& t, const char* what) {
  VB_ASSIGN(const std::vector<int64_t> values, read_integers(t, what, 1));
  if (values.empty()) return bad_input(std::string(what) + " is empty");
  return values[0];
}

// Which dimensions `axes` names; an axis twice is an error.
inline Result<std::array<bool, kMaxRank>> axis_set(const Shape& shape,
                                                   std::span<const int64_t> axes) {
  std::array<bool, kMaxRank> set{};
  for (int64_t a : axes) {
    VB_ASSIGN(const int axis, shape.axis(a));
    if (set[axis]) return bad_input("axis " + std::to_string(a) + " is named twice");
    set[axis] = true;
  }
  return set;
}

inline std::vector<int64_t> dims_of(const Tensor& t) {
  return {t.shape().dims().begin(), t.shape().dims().end()};
}

// Sizes from outside stay below this, so that sums of a few cannot overflow.
inline constexpr int64_t kMaxSize = int64_t{1} << 58;
inline Status check_size(int64_t value, const char* what) {
  if (value > kMaxSize || value < -kMaxSize)
    return over_limit(std::string(what) + " " + std::to_string(value) + " is too large");
  return {};
}

}  // namespace verbatim
