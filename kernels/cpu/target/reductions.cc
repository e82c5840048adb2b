// Reductions of x [outer, n, inner] over n, sums in their order (ordered_sum.h). Where inner is 1,
// registers hold lanes of a sum. Else they hold results, side by side in memory, and the 32 lanes
// of each are memory: a strip of so many results that its lanes stay in the first-level cache.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/ordered_sum.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int64_t kStrip = 64;  // results
constexpr int kStripRegisters = kStrip / kLanes;

VB_INLINE F32 magnitude(F32 x) { return bit_and(x, all_bits(0x7FFFFFFF)); }

// How a lane of each kind of sum takes an element in. A lane of squares or magnitudes may also take
// +0 in: it is -0 only before its first element, and then combines with what is not negative.
struct Sum {
  static F32 nothing() { return negative_zero(); }
  VB_INLINE static F32 step(F32 lane, F32 x) { return lane + x; }
};
struct SumOfMagnitudes {
  static F32 nothing() { return zero(); }
  VB_INLINE static F32 step(F32 lane, F32 x) { return lane + magnitude(x); }
};
struct SumOfSquares {
  static F32 nothing() { return zero(); }
  VB_INLINE static F32 step(F32 lane, F32 x) { return fma(x, x, lane); }
};

// IEEE 754-2019 maximum or minimum of what came first and second in pairs.
template <bool kMaximum>
struct Extreme {
  static F32 nothing() { return all_bits(kMaximum ? 0xFF800000 : 0x7F800000); }
  VB_INLINE static F32 of(F32 a, F32 b) { return kMaximum ? maximum(a, b) : minimum(a, b); }

  F32 first = nothing(), second = nothing();
  M32 nan = is_nan(zero());

  VB_INLINE void take(F32 x, F32 y) {
    first = of(first, x);
    second = of(second, y);
    nan = nan | either_is_nan(x, y);
  }
  VB_INLINE void take(const Extreme& e) {
    take(e.first, e.second);
    nan = nan | e.nan;
  }
  VB_INLINE F32 result() const { return select(nan, all_bits(0x7FC00000), of(first, second)); }
  // That of all lanes: integers order binary32 numbers, -0 below +0, once the magnitude's bits of
  // negative ones are turned.
  VB_INLINE float result_of_lanes() const {
    const auto ordered = [](int32_t x) { return x ^ ((x >> 31) & 0x7FFFFFFF); };
    const I32 x = bits_of(of(first, second)),
              turned = x ^ (shift_right<31>(x) & all_int(0x7FFFFFFF)),
              down = all_int(kMaximum ? 0 : -1);
    const int32_t best = ordered(greatest_lane(turned ^ down) ^ (kMaximum ? 0 : -1));
    return bits(nan) != 0 ? __builtin_bit_cast(float, 0x7FC00000) : __builtin_bit_cast(float, best);
  }
};

// What follows the sum.
VB_INLINE F32 finished(const Reduction& p, F32 sum) {
  if (p.kind == ReduceKernel::mean) sum = sum / all(static_cast<float>(p.n));
  if (p.kind == ReduceKernel::l2) sum = sqrt(sum);
  return canonical(sum);
}

template <class S, class T>
VB_INLINE float sum_of_row(const T* x, int64_t n) {
  return ordered_fold(n, [x](F32 lane, int64_t i, int64_t count) {
    return S::step(lane, load_up_to(x + i, count, S::nothing()));
  });
}

template <class E, class T>
VB_INLINE float extreme_of_row(const T* x, int64_t n) {
  constexpr int kChains = 4;
  E chain[kChains];
  int64_t i = 0;
  for (; i + 2 * kChains * kLanes <= n; i += 2 * kChains * kLanes) {
    VB_UNROLL
    for (int c = 0; c < kChains; ++c)
      chain[c].take(load(x + i + 2 * c * kLanes), load(x + i + (2 * c + 1) * kLanes));
  }
  for (; i < n; i += kLanes) chain[0].take(load_up_to(x + i, n - i, E::nothing()), E::nothing());
  for (int c = 1; c < kChains; ++c) chain[0].take(chain[c]);
  return chain[0].result_of_lanes();
}

template <class T>
VB_INLINE float reduced_row(ReduceKernel kind, const T* x, int64_t n) {
  switch (kind) {
    case ReduceKernel::sum:
    case ReduceKernel::mean:
      return sum_of_row<Sum>(x, n);
    case ReduceKernel::l1:
      return sum_of_row<SumOfMagnitudes>(x, n);
    case ReduceKernel::sum_of_squares:
    case ReduceKernel::l2:
      return sum_of_row<SumOfSquares>(x, n);
    case ReduceKernel::maximum:
      return extreme_of_row<Extreme<true>>(x, n);
    case ReduceKernel::minimum:
      break;
  }
  return extreme_of_row<Extreme<false>>(x, n);
}

// Rows [from, to), each one result.
template <class T>
void reduce_rows(const Reduction& p, int64_t from, int64_t to) {
  const T* x = static_cast<const T*>(p.x);
  T* y = static_cast<T*>(p.y);
  for (int64_t r = from; r < to; r += kLanes) {
    const int64_t count = least(kLanes, to - r);
    float result[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) result[i] = reduced_row(p.kind, x + (r + i) * p.n, p.n);
    store_up_to(y + r, count, finished(p, load(result)));
  }
}

// A strip of `count` results, their first elements at x.
template <class S, class T>
VB_INLINE void sum_strip(const Reduction& p, const T* x, int64_t count, T* y) {
  const int64_t registers = (count + kLanes - 1) / kLanes;
  F32 total[kStripRegisters];
  for (F32& t : total) t = zero();
  for (int64_t begin = 0; begin < p.n; begin += kSumBlock) {
    const int64_t size = least(kSumBlock, p.n - begin);
    F32 lane[kSumLanes][kStripRegisters];
    for (auto& l : lane)
      for (F32& r : l) r = negative_zero();
    for (int64_t i = 0; i < size; ++i, x += p.inner) {
      auto& l = lane[i % kSumLanes];
      if (count == kStrip) {
        VB_UNROLL
        for (int r = 0; r < kStripRegisters; ++r) l[r] = S::step(l[r], load(x + r * kLanes));
      } else {
        for (int64_t r = 0; r < registers; ++r)
          l[r] = S::step(l[r], load_up_to(x + r * kLanes, count - r * kLanes, zero()));
      }
    }
    for (int s = kSumLanes / 2; s > 0; s /= 2)
      for (int j = 0; j < s; ++j)
        for (int64_t r = 0; r < registers; ++r) lane[j][r] = lane[j][r] + lane[j + s][r];
    for (int64_t r = 0; r < registers; ++r)
      total[r] = begin == 0 ? lane[0][r] : total[r] + lane[0][r];
  }
  for (int64_t r = 0; r < registers; ++r)
    store_up_to(y + r * kLanes, count - r * kLanes, finished(p, total[r]));
}

// Of a whole strip, or of a part.
template <bool kWhole, class E, class T>
VB_INLINE void extreme_strip(const Reduction& p, const T* x, int64_t count, T* y) {
  const int64_t registers = kWhole ? kStripRegisters : (count + kLanes - 1) / kLanes;
  const auto part = [count](const T* row, int64_t r) __attribute__((always_inline)) {
    return kWhole ? load(row + r * kLanes)
                  : load_up_to(row + r * kLanes, count - r * kLanes, zero());
  };
  E extreme[kStripRegisters];
  for (int64_t i = 0; i < p.n; i += 2) {
    const T *row = x + i * p.inner, *next = x + least(i + 1, p.n - 1) * p.inner;
    VB_UNROLL
    for (int r = 0; r < kStripRegisters; ++r)
      if (r < registers) extreme[r].take(part(row, r), part(next, r));
  }
  for (int64_t r = 0; r < registers; ++r)
    store_up_to(y + r * kLanes, count - r * kLanes, extreme[r].result());
}
template <class E, class T>
VB_INLINE void extreme_strip(const Reduction& p, const T* x, int64_t count, T* y) {
  if (count == kStrip) return extreme_strip<true, E>(p, x, count, y);
  extreme_strip<false, E>(p, x, count, y);
}

// Results [from, to) of y [outer, inner].
template <class T>
void reduce_columns(const Reduction& p, int64_t from, int64_t to) {
  while (from < to) {
    const int64_t row = from / p.inner, column = from % p.inner,
                  count = least(least(kStrip, p.inner - column), to - from);
    const T* x = static_cast<const T*>(p.x) + row * p.n * p.inner + column;
    T* y = static_cast<T*>(p.y) + from;
    switch (p.kind) {
      case ReduceKernel::sum:
      case ReduceKernel::mean:
        sum_strip<Sum>(p, x, count, y);
        break;
      case ReduceKernel::l1:
        sum_strip<SumOfMagnitudes>(p, x, count, y);
        break;
      case ReduceKernel::sum_of_squares:
      case ReduceKernel::l2:
        sum_strip<SumOfSquares>(p, x, count, y);
        break;
      case ReduceKernel::maximum:
        extreme_strip<Extreme<true>>(p, x, count, y);
        break;
      case ReduceKernel::minimum:
        extreme_strip<Extreme<false>>(p, x, count, y);
    }
    from += count;
  }
}

}  // namespace

void reduce(const Reduction& p, int64_t from, int64_t to) {
  visit_storage(p.type, [&](auto element) {
    using T = decltype(element);
    if (p.inner == 1) return reduce_rows<T>(p, from, to);
    reduce_columns<T>(p, from, to);
  });
}

}  // namespace verbatim::VB_TARGET
