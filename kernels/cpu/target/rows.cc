// Softmax and normalisations over rows (docs/numerics.md, Family A).
#include <type_traits>

#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/ordered_sum.h>
#include <verbatim/kernels/cpu/target/unary.h>

namespace verbatim::VB_TARGET {
namespace {

VB_INLINE float lane_zero(F32 x) {
  float lane[kLanes];
  store(lane, x);
  return lane[0];
}
VB_INLINE float rsqrt(float x) { return 1.0f / lane_zero(sqrt(all(x))); }

// The greatest element. Which zero does not matter to x - m, and a NaN need not be found: it makes
// the sum NaN, and with it the row.
template <class T>
VB_INLINE float greatest_of(const T* x, int64_t n) {
  const F32 first_one = all(x[0]);
  F32 m = first_one;
  for (int64_t i = 0; i < n; i += kLanes)
    m = maximum_number(m, load_up_to(x + i, n - i, first_one));
  float lane[kLanes];
  store(lane, m);
  float result = lane[0];
  for (int i = 1; i < kLanes; ++i) result = lane[i] > result ? lane[i] : result;
  return result;
}

// e: room for n floats, y itself where y holds floats.
template <class T>
VB_INLINE void softmax_row(const T* x, int64_t n, float* e, T* y) {
  const F32 m = all(greatest_of(x, n));
  const float sum = ordered_fold(n, [&](F32 lane, int64_t i, int64_t count) {
    F32 v = exp(load_up_to(x + i, count, zero()) - m);
    store_up_to(e + i, count, v);
    if (count < kLanes) v = select(first(count), v, negative_zero());
    return lane + v;
  });
  for (int64_t i = 0; i < n; i += kLanes)
    store_up_to(y + i, n - i, canonical(load_up_to(e + i, n - i, zero()) / all(sum)));
}

template <class T>
VB_INLINE void layer_norm_row(const RowNorm& p, int64_t r) {
  const auto n = static_cast<float>(p.n);
  const T *x = static_cast<const T*>(p.x) + r * p.n, *gamma = static_cast<const T*>(p.gamma),
          *beta = static_cast<const T*>(p.beta);
  T* y = static_cast<T*>(p.y) + r * p.n;
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
    if (gamma) v = v * (p.gamma_step ? load_up_to(gamma + i, count, zero()) : all(*gamma));
    if (beta) v = v + (p.beta_step ? load_up_to(beta + i, count, zero()) : all(*beta));
    store_up_to(y + i, count, canonical(v));
  }
  p.means[r] = canonical(mean);
  p.inverses[r] = canonical(inverse);
}

template <class T>
VB_INLINE float sum_of_squares(const T* x, int64_t n) {
  return ordered_sum_of_squares(
      n, [x](int64_t i, int64_t count) { return load_up_to(x + i, count, zero()); });
}

template <class T>
VB_INLINE void rms_norm_row(const RowNorm& p, int64_t r) {
  const T *x = static_cast<const T*>(p.x) + r * p.n, *scale = static_cast<const T*>(p.gamma);
  T* y = static_cast<T*>(p.y) + r * p.n;
  const F32 inverse = all(rsqrt(sum_of_squares(x, p.n) / static_cast<float>(p.n) + p.epsilon));
  for (int64_t i = 0; i < p.n; i += kLanes) {
    const int64_t count = p.n - i;
    const F32 gamma = p.gamma_step ? load_up_to(scale + i, count, zero()) : all(*scale);
    store_up_to(y + i, count, canonical(load_up_to(x + i, count, zero()) * inverse * gamma));
  }
}

// x / maximum(sqrt(sumsq(x)), epsilon), the maximum IEEE 754-2019's.
template <class T>
VB_INLINE void l2_normalize_row(const RowNorm& p, int64_t r) {
  const T* x = static_cast<const T*>(p.x) + r * p.n;
  T* y = static_cast<T*>(p.y) + r * p.n;
  const F32 norm = sqrt(all(sum_of_squares(x, p.n))), least_norm = all(p.epsilon);
  const F32 divisor = select(is_nan(norm) | is_nan(least_norm), all_bits(0x7FC00000),
                             maximum_number(least_norm, norm));
  for (int64_t i = 0; i < p.n; i += kLanes) {
    const int64_t count = p.n - i;
    store_up_to(y + i, count, canonical(load_up_to(x + i, count, zero()) / divisor));
  }
}

}  // namespace

void softmax(DType type, const void* x, void* y, int64_t rows, int64_t n, float* scratch) {
  visit_storage(type, [&](auto element) {
    using T = decltype(element);
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    for (int64_t r = 0; r < rows && n > 0; ++r, in += n, out += n) {
      if constexpr (std::is_same_v<T, float>)
        softmax_row(in, n, out, out);
      else
        softmax_row(in, n, scratch, out);
    }
  });
}

void layer_norm(const RowNorm& p, int64_t from, int64_t to) {
  visit_storage(p.type, [&](auto element) {
    for (int64_t r = from; r < to; ++r) layer_norm_row<decltype(element)>(p, r);
  });
}

void rms_norm(const RowNorm& p, int64_t from, int64_t to) {
  visit_storage(p.type, [&](auto element) {
    for (int64_t r = from; r < to; ++r) rms_norm_row<decltype(element)>(p, r);
  });
}

void l2_normalize(const RowNorm& p, int64_t from, int64_t to) {
  visit_storage(p.type, [&](auto element) {
    for (int64_t r = from; r < to; ++r) l2_normalize_row<decltype(element)>(p, r);
  });
}

}  // namespace verbatim::VB_TARGET
