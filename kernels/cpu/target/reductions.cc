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

// IEEE 754-2019 maximum: integers order binary32 numbers, -0 below +0, once the magnitude's bits of
// negative ones are turned. The minimum is that of the negated, negated.
struct Extreme {
  I32 most = ordered(all_bits(0xFF800000));
  M32 nan = is_nan(zero());

  VB_INLINE static I32 ordered(F32 x) {
    return bits_of(x) ^ (shift_right<31>(bits_of(x)) & all_int(0x7FFFFFFF));
  }
  VB_INLINE void take(F32 x, I32 sign) {
    nan = nan | is_nan(x);
    most = maximum(most, ordered(float_of(bits_of(x) ^ sign)));
  }
  VB_INLINE F32 result(I32 sign) const {
    return select(nan, all_bits(0x7FC00000), float_of(ordered(float_of(most)) ^ sign));
  }
};
VB_INLINE I32 sign_of(ReduceKernel kind) {
  return bits_of(kind == ReduceKernel::minimum ? negative_zero() : zero());
}

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

template <class T>
VB_INLINE float extreme_of_row(const T* x, int64_t n, I32 sign) {
  constexpr int kChains = 4;
  Extreme chain[kChains];
  const F32 lowest = float_of(bits_of(all_bits(0xFF800000)) ^ sign);
  int64_t i = 0;
  for (; i + kChains * kLanes <= n; i += kChains * kLanes) {
    VB_UNROLL
    for (int c = 0; c < kChains; ++c) chain[c].take(load(x + i + c * kLanes), sign);
  }
  for (; i < n; i += kLanes) chain[0].take(load_up_to(x + i, n - i, lowest), sign);
  for (int c = 1; c < kChains; ++c) {
    chain[0].most = maximum(chain[0].most, chain[c].most);
    chain[0].nan = chain[0].nan | chain[c].nan;
  }
  const bool nan = bits(chain[0].nan) != 0;
  chain[0].most = all_int(greatest_lane(chain[0].most));
  float lane[kLanes];
  store(lane, nan ? all_bits(0x7FC00000) : chain[0].result(sign));
  return lane[0];
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
    default:
      return extreme_of_row(x, n, sign_of(kind));
  }
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

template <class T>
VB_INLINE void extreme_strip(const Reduction& p, const T* x, int64_t count, T* y) {
  const int64_t registers = (count + kLanes - 1) / kLanes;
  const I32 sign = sign_of(p.kind);
  Extreme extreme[kStripRegisters];
  for (int64_t i = 0; i < p.n; ++i, x += p.inner) {
    if (count == kStrip) {
      VB_UNROLL
      for (int r = 0; r < kStripRegisters; ++r) extreme[r].take(load(x + r * kLanes), sign);
    } else {
      for (int64_t r = 0; r < registers; ++r)
        extreme[r].take(load_up_to(x + r * kLanes, count - r * kLanes, zero()), sign);
    }
  }
  for (int64_t r = 0; r < registers; ++r)
    store_up_to(y + r * kLanes, count - r * kLanes, extreme[r].result(sign));
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
      default:
        extreme_strip(p, x, count, y);
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
