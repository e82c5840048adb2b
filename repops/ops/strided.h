// Visiting a tensor's elements in another order than they lie: strides, NumPy's broadcasting, and a
// walk that keeps an offset up to date. Broadcasting, transposition, slicing and reduction are all
// strides.
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include <verbatim/core/parallel.h>
#include <verbatim/core/shape.h>

namespace verbatim {

using Strides = std::array<int64_t, kMaxRank>;  // in elements; entries beyond the rank are 0

// Row-major strides of a dense tensor.
inline Strides strides_of(const Shape& shape) {
  Strides strides{};
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

// The shape to which both broadcast (NumPy's rule: aligned at the right, a size of 1 stretches).
inline Result<Shape> broadcast(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::array<int64_t, kMaxRank> dims{};
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank()), ib = i - (rank - b.rank());
    const int64_t da = ia < 0 ? 1 : a[ia], db = ib < 0 ? 1 : b[ib];
    if (da != db && da != 1 && db != 1)
      return bad_input("shapes " + a.to_string() + " and " + b.to_string() + " do not broadcast");
    dims[i] = da == 1 ? db : da;
  }
  return Shape::of({dims.data(), static_cast<size_t>(rank)});
}

// Strides under which a dense tensor of shape `from` is read as one of shape `to`, to which it must
// broadcast.
inline Strides broadcast_strides(const Shape& from, const Shape& to) {
  const Strides dense = strides_of(from);
  Strides strides{};
  for (int i = 0; i < from.rank(); ++i)
    strides[i + to.rank() - from.rank()] = from[i] == 1 ? 0 : dense[i];
  return strides;
}

// Goes through the indices of `shape` in row-major order and tells the offset that the strides
// give.
class StridedWalk {
 public:
  StridedWalk() = default;
  StridedWalk(const Shape& shape, const Strides& strides, int64_t offset = 0) : offset_(offset) {
    for (int i = shape.rank() - 1; i >= 0; --i) {
      if (shape[i] == 1) continue;
      if (rank_ > 0 && strides[i] == stride_[rank_ - 1] * size_[rank_ - 1]) {
        size_[rank_ - 1] *= shape[i];  // lies as if it were one dimension with the one inside it
        continue;
      }
      size_[rank_] = shape[i];
      stride_[rank_++] = strides[i];
    }
  }

  int64_t offset() const { return offset_; }
  void next() {
    for (int i = 0; i < rank_; ++i) {
      offset_ += stride_[i];
      if (++index_[i] < size_[i]) return;
      offset_ -= size_[i] * stride_[i];
      index_[i] = 0;
    }
  }
  // Jumps ahead by `count` elements from the start; only on a walk that has not moved.
  void seek(int64_t count) {
    for (int i = 0; i < rank_ && count > 0; ++i) {
      index_[i] = count % size_[i];
      offset_ += index_[i] * stride_[i];
      count /= size_[i];
    }
  }

 private:
  // Innermost dimension first, those of size 1 left out.
  std::array<int64_t, kMaxRank> size_{}, stride_{}, index_{};
  int rank_ = 0;
  int64_t offset_ = 0;
};

// Goes through the indices of `shape` in row-major order, for what no stride describes: calls
// moved(d, index) whenever dimension d gets another index (all of them at the start), then
// element(i). What an operator derives from an index is so computed on the way and needs no table.
template <class Moved, class Element>
void walk_indices(const Shape& shape, Moved&& moved, Element&& element) {
  const int64_t n = shape.elements();
  if (n == 0) return;
  std::array<int64_t, kMaxRank> index{};
  for (int d = 0; d < shape.rank(); ++d) moved(d, int64_t{0});
  for (int64_t i = 0; i < n; ++i) {
    element(i);
    for (int d = shape.rank() - 1; i + 1 < n && d >= 0; --d) {
      index[d] = index[d] + 1 == shape[d] ? 0 : index[d] + 1;
      moved(d, index[d]);
      if (index[d] != 0) break;
    }
  }
}

// The grain of a loop whose tasks each keep `bytes` of scratch: where that is much, one task does
// all, so that memory does not grow with the number of threads.
inline int64_t scratch_grain(int64_t n, int64_t grain, int64_t bytes) {
  constexpr int64_t kMaxTaskScratch = 1 << 20;
  return bytes > kMaxTaskScratch ? std::max<int64_t>(1, n) : grain;
}

inline constexpr int64_t kElementGrain =
    1 << 14;  // elements that a task of an elementwise loop takes

// Calls f(i, at) for each element i of `shape`, at[j] being operand j's element under strides[j].
// Calls may be concurrent.
template <size_t N, class F>
void for_each_element(const Shape& shape, const std::array<Strides, N>& strides, F&& f) {
  parallel_for(shape.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    std::array<StridedWalk, N> walks;
    std::array<int64_t, N> at;
    for (size_t j = 0; j < N; ++j) {
      walks[j] = StridedWalk(shape, strides[j]);
      walks[j].seek(begin);
    }
    for (int64_t i = begin; i < end; ++i) {
      for (size_t j = 0; j < N; ++j) {
        at[j] = walks[j].offset();
        walks[j].next();
      }
      f(i, at);
    }
  });
}

}  // namespace verbatim
