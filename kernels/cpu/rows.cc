// Kernels over rows, and reductions, over all threads.
#include <algorithm>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

constexpr int64_t kTaskElements = 1 << 13;
constexpr int64_t kStrip = 64;  // results side by side that kernels reduce at once

int64_t rows_for_a_task(int64_t row_size) {
  return std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, row_size));
}

}  // namespace

Status CpuBackend::softmax(DType type, const void* x, void* y, int64_t rows, int64_t n) const {
  const int64_t row_bytes = n * static_cast<int64_t>(size_of(type));
  parallel_for(rows, rows_for_a_task(n), [&](int64_t from, int64_t to) {
    float* scratch = type == DType::f32 ? nullptr : thread_scratch(static_cast<size_t>(n));
    kernels_.softmax(type, static_cast<const std::byte*>(x) + from * row_bytes,
                     static_cast<std::byte*>(y) + from * row_bytes, to - from, n, scratch);
  });
  return {};
}

Status CpuBackend::layer_norm(const RowNorm& p, int64_t rows) const {
  parallel_for(rows, rows_for_a_task(p.n),
               [&](int64_t from, int64_t to) { kernels_.layer_norm(p, from, to); });
  return {};
}

Status CpuBackend::rms_norm(const RowNorm& p, int64_t rows) const {
  parallel_for(rows, rows_for_a_task(p.n),
               [&](int64_t from, int64_t to) { kernels_.rms_norm(p, from, to); });
  return {};
}

Status CpuBackend::l2_normalize(const RowNorm& p, int64_t rows) const {
  parallel_for(rows, rows_for_a_task(p.n),
               [&](int64_t from, int64_t to) { kernels_.l2_normalize(p, from, to); });
  return {};
}

Status CpuBackend::reduce(const Reduction& p, int64_t results) const {
  const int64_t at_once = p.inner == 1 ? 1 : kStrip,
                grain = kElementGrain / std::max<int64_t>(1, p.n * at_once);
  parallel_for(results, std::max<int64_t>(1, grain) * at_once,
               [&](int64_t from, int64_t to) { kernels_.reduce(p, from, to); });
  return {};
}

}  // namespace verbatim
