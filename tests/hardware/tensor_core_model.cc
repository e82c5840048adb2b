// The contract's tensor-core products as a shared library for cublas.py.
// Build: g++ -std=c++20 -O2 -ffp-contract=off -shared -fPIC -I build/release/include/repops -o libtensor_core_model.so tensor_core_model.cc
#include <algorithm>
#include <cstdint>

#include <verbatim/repops/tensor_core.h>

namespace {

using namespace verbatim::tensor_core;

template <class F, class T>
float chain(Rule rule, const T* a, const T* b, int64_t count) {
  float acc = 0;
  for (int64_t k = 0; k < count; k += rule.group)
    acc = step<F, F>(rule, acc, a + k, b + k, static_cast<int>(std::min<int64_t>(rule.group, count - k)));
  return acc;
}

template <class F, class T>
void dots(Rule rule, const T* a, const T* b, int64_t n, int64_t k_size, const int64_t* ends, int64_t slices, int64_t block,
          float* out) {
  for (int64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (int64_t s = 0; s < slices; ++s) {
      const int64_t begin = s == 0 ? 0 : ends[s - 1];
      const T *x = a + i * k_size, *y = b + i * k_size;
      float master = 0;
      for (int64_t k = begin; k < ends[s]; k += block) {
        const float part = chain<F>(rule, x + k, y + k, std::min(block, ends[s] - k));
        master = k == begin ? part : master + part;
      }
      sum = s == 0 ? master : sum + master;
    }
    out[i] = sum;
  }
}

}  // namespace

// `n` dot products of `k_size` elements by Hopper's wgmma. type: 0 bf16, 1 fp16, 2 e4m3, 3 e5m2. K is cut into `slices` slices that
// end at `ends`; `block`: elements after which a slice's chain is added to its master sum (k_size: never).
extern "C" void tensor_core_dots(int type, const void* a, const void* b, int64_t n, int64_t k_size, const int64_t* ends,
                                 int64_t slices, int64_t block, float* out) {
  const auto *a16 = static_cast<const uint16_t*>(a), *b16 = static_cast<const uint16_t*>(b);
  const auto *a8 = static_cast<const uint8_t*>(a), *b8 = static_cast<const uint8_t*>(b);
  if (type == 0) dots<BFloat16Format>(kSm90, a16, b16, n, k_size, ends, slices, block, out);
  if (type == 1) dots<HalfFormat>(kSm90, a16, b16, n, k_size, ends, slices, block, out);
  if (type == 2) dots<E4M3Format>(kSm90Float8, a8, b8, n, k_size, ends, slices, block, out);
  if (type == 3) dots<E5M2Format>(kSm90Float8, a8, b8, n, k_size, ends, slices, block, out);
}
