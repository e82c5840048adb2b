// Softmax, normalisations and pooling over rows (docs/numerics.md, Family A, Sum). The 32 lanes of
// an ordered sum lie in registers one after the other. A lane starts at -0, to which adding its
// first element gives that element; a lane without elements stays -0 and changes nothing where
// lanes combine.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/unary.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int kRegisters = kSumLanes / kLanes;

// lane[j] += lane[j + s] for s = 16, 8, 4, 2, 1; the result is lane[0].
VB_INLINE float combine_lanes(F32 (&lane)[kRegisters]) {
  VB_UNROLL
  for (int s = kRegisters / 2; s > 0; s /= 2) {
    VB_UNROLL
    for (int j = 0; j < s; ++j) lane[j] = lane[j] + lane[j + s];
  }
  float x[kLanes];
  store(x, lane[0]);
  for (int s = kLanes / 2; s > 0; s /= 2)
    for (int j = 0; j < s; ++j) x[j] += x[j + s];
  return x[0];
}

// step(lane, i, count): the lanes after elements i .. i + count - 1, which are theirs in order.
template <class Step>
VB_INLINE float ordered_fold(int64_t n, Step step) {
  float total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = least(begin + kSumBlock, n);
    F32 lane[kRegisters];
    for (F32& l : lane) l = negative_zero();
    int64_t i = begin;
    for (; i + kSumLanes <= end; i += kSumLanes) {
      VB_UNROLL
      for (int r = 0; r < kRegisters; ++r) lane[r] = step(lane[r], i + r * kLanes, kLanes);
    }
    VB_UNROLL
    for (int r = 0; r < kRegisters; ++r) {
      const int64_t count = end - (i + r * kLanes);
      if (count > 0) lane[r] = step(lane[r], i + r * kLanes, count);
    }
    const float block = combine_lanes(lane);
    total = begin == 0 ? block : total + block;
  }
  return total;
}

VB_INLINE float ordered_sum(const float* x, int64_t n) {
  return ordered_fold(n, [x](F32 lane, int64_t i, int64_t count) {
    return lane + load_up_to(x + i, count, negative_zero());
  });
}

// The sum of the squares of value(i, count), whose lanes from count on are 0.
template <class Value>
VB_INLINE float ordered_sum_of_squares(int64_t n, Value value) {
  return ordered_fold(n, [&](F32 lane, int64_t i, int64_t count) {
    const F32 v = value(i, count);
    return fma(v, v, lane);
  });
}

VB_INLINE float lane_zero(F32 x) {
  float lane[kLanes];
  store(lane, x);
  return lane[0];
}
VB_INLINE float rsqrt(float x) { return 1.0f / lane_zero(sqrt(all(x))); }

// The greatest element. Which zero does not matter to x - m, and a NaN need not be found: it makes
// the sum NaN, and with it the row.
VB_INLINE float greatest_of(const float* x, int64_t n) {
  F32 m = all(x[0]);
  for (int64_t i = 0; i < n; i += kLanes)
    m = maximum_number(m, load_up_to(x + i, n - i, all(x[0])));
  float lane[kLanes];
  store(lane, m);
  float result = lane[0];
  for (int i = 1; i < kLanes; ++i) result = lane[i] > result ? lane[i] : result;
  return result;
}

}  // namespace

void softmax(const float* x, float* y, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows && n > 0; ++r, x += n, y += n) {
    const F32 m = all(greatest_of(x, n));
    const float sum = ordered_fold(n, [&](F32 lane, int64_t i, int64_t count) {
      F32 e = exp(load_up_to(x + i, count, zero()) - m);
      store_up_to(y + i, count, e);
      if (count < kLanes) e = select(first(count), e, negative_zero());
      return lane + e;
    });
    for (int64_t i = 0; i < n; i += kLanes)
      store_up_to(y + i, n - i, canonical(load_up_to(y + i, n - i, zero()) / all(sum)));
  }
}

void layer_norm(const RowNorm& p, int64_t from, int64_t to) {
  const auto n = static_cast<float>(p.n);
  for (int64_t r = from; r < to; ++r) {
    const float* x = p.x + r * p.n;
    float* y = p.y + r * p.n;
    const float mean = ordered_sum(x, p.n) / n;
    const F32 shift = all(mean);
    const float squares = ordered_sum_of_squares(p.n, [&](int64_t i, int64_t count) {
      const F32 d = load_up_to(x + i, count, zero()) - shift;
      return count < kLanes ? select(first(count), d, zero()) : d;
    });
    const float inverse = rsqrt(squares / n + p.epsilon);
    for (int64_t i = 0; i < p.n; i += kLanes) {
      const int64_t count = p.n - i;
      F32 v = (load_up_to(x + i, count, zero()) - shift) * all(inverse);
      if (p.gamma) v = v * (p.gamma_step ? load_up_to(p.gamma + i, count, zero()) : all(*p.gamma));
      if (p.beta) v = v + (p.beta_step ? load_up_to(p.beta + i, count, zero()) : all(*p.beta));
      store_up_to(y + i, count, canonical(v));
    }
    p.means[r] = canonical(mean);
    p.inverses[r] = canonical(inverse);
  }
}

void rms_norm(const RowNorm& p, int64_t from, int64_t to) {
  for (int64_t r = from; r < to; ++r) {
    const float* x = p.x + r * p.n;
    float* y = p.y + r * p.n;
    const float squares = ordered_sum_of_squares(
        p.n, [&](int64_t i, int64_t count) { return load_up_to(x + i, count, zero()); });
    const F32 inverse = all(rsqrt(squares / static_cast<float>(p.n) + p.epsilon));
    for (int64_t i = 0; i < p.n; i += kLanes) {
      const int64_t count = p.n - i;
      const F32 gamma = p.gamma_step ? load_up_to(p.gamma + i, count, zero()) : all(*p.gamma);
      store_up_to(y + i, count, canonical(load_up_to(x + i, count, zero()) * inverse * gamma));
    }
  }
}

// Here a register holds columns, and the 32 lanes are 32 registers' worth of memory.
void mean_pool(const float* x, int64_t rows, int64_t width, float* y) {
  for (int64_t column = 0; column < width; column += kLanes) {
    const int64_t count = width - column;
    F32 total = zero();
    for (int64_t begin = 0; begin < rows; begin += kSumBlock) {
      const int64_t end = least(begin + kSumBlock, rows);
      F32 lane[kSumLanes];
      for (F32& l : lane) l = negative_zero();
      for (int64_t i = begin; i < end; ++i) {
        F32& l = lane[(i - begin) % kSumLanes];
        l = l + load_up_to(x + i * width + column, count, zero());
      }
      for (int s = kSumLanes / 2; s > 0; s /= 2)
        for (int j = 0; j < s; ++j) lane[j] = lane[j] + lane[j + s];
      total = begin == 0 ? lane[0] : total + lane[0];
    }
    if (rows > 0) total = canonical(total / all(static_cast<float>(rows)));
    store_up_to(y + column, count, total);
  }
}

}  // namespace verbatim::VB_TARGET
