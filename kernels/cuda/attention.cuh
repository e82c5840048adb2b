// What every kernel of attention has: its call, and where the rows of one block of threads lie. A
// row is one query of one head, of the heads that share a head of keys.
#pragma once

#include <limits>

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/attention.h>
#include <verbatim/repops/unary_f32.h>

namespace verbatim::cuda {

struct AttentionCall {
  const void *q, *k, *v;
  void* out;
  int64_t queries, heads, kv_heads, head_size, value_size, keys;
  int64_t key_rows = 0;    // of k: batch * keys, or what the pages of all sequences have
  const int64_t* lengths;  // of each sequence; null: all `keys`
  const int64_t* table;    // [batch, pages]; null: no pages
  int64_t pages, page_size, window;
  float scale, softcap, log_scale;  // log_scale: scale * log2(e)
  bool causal;
  float *m = nullptr, *l = nullptr;  // of each row, where a gradient asks for them

  __device__ float capped_score(float score) const {  // where there is a softcap
    return softcap * unary::f32::tanh(score * scale / softcap);
  }
  __device__ float scaled_score(float score) const {
    return softcap == 0 ? score * log_scale : capped_score(score) * float_of(kLog2E);
  }
  // What scores, or capped ones, are multiplied by: they are then in units of log2.
  __device__ float score_scale() const { return softcap == 0 ? log_scale : float_of(kLog2E); }
};

struct Range {
  int64_t begin = 0, end = 0;
  __device__ bool has(int64_t i) const { return i >= begin && i < end; }
};

// The same, which the compiler is not to know: what is computed from it is computed anew, in place
// of what would have been kept in registers, and branches on it stay apart.
template <class T>
__device__ inline T unknown(T x) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
#if !defined(VERBATIM_EMULATED_GPU)
  if constexpr (sizeof(T) == 4)
    asm volatile("" : "+r"(x));
  else
    asm volatile("" : "+l"(x));
#endif
  return x;
}

// The score of a key that a row does not see, and the greatest of none.
inline constexpr float kUnseen = -std::numeric_limits<float>::infinity();
// maximum(), whose every NaN is as good as another here.
__device__ inline float maximum_of(float a, float b) {
#if defined(VERBATIM_EMULATED_GPU)
  return maximum(a, b);
#else
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
#endif
}

// What one block of threads works on: rows of one head of keys, and value columns from one on.
template <class T>
struct AttentionView {
  const T *q, *k, *v;      // of the batch entry; k and v of the head of keys and the first column
  int64_t first_head_row;  // of row 0, in q and in the results
  int64_t first_row, rows, group, length;
  const int64_t* pages;
  int64_t first_key;  // row of key 0, without pages

  __device__ AttentionView(const AttentionCall& p, int64_t b, int64_t kv, int64_t column,
                           int64_t first_row)
      : q(static_cast<const T*>(p.q)),
        k(static_cast<const T*>(p.k) + kv * p.head_size),
        v(static_cast<const T*>(p.v) + kv * p.value_size + column),
        first_head_row(b * p.queries * p.heads + kv * (p.heads / p.kv_heads)),
        first_row(first_row),
        rows(p.queries * (p.heads / p.kv_heads)),
        group(p.heads / p.kv_heads),
        length(p.lengths == nullptr ? p.keys : p.lengths[b]),
        pages(p.table == nullptr ? nullptr : p.table + b * p.pages),
        first_key(b * p.keys) {}

  __device__ int64_t key_row(const AttentionCall& p, int64_t i) const {
    if (pages == nullptr) return first_key + i;
    const auto key = static_cast<uint32_t>(i), size = static_cast<uint32_t>(p.page_size);
    return pages[key / size] * p.page_size + key % size;
  }
  __device__ int64_t query(int64_t row) const {
    return static_cast<uint32_t>(row) / static_cast<uint32_t>(group);
  }
  // Which row of all heads' queries, in q and in the results.
  __device__ int64_t head_row(const AttentionCall& p, int64_t row) const {
    return first_head_row + query(row) * p.heads + (row - query(row) * group);
  }
  // Neither end decreases from row to row.
  __device__ Range visible(const AttentionCall& p, int64_t row) const {
    if (row >= rows) return {};
    const auto [begin, end] = visible_range(p.causal, p.window, query(row), p.queries, length);
    return {begin, end};
  }
};

// A call, and what it reads besides its operands.
struct PlacedAttention {
  AttentionCall call;
  Tensor lengths, table;
};
// Attention's inputs on the device, with lengths and pages on the host. Kernels count keys, and
// rows of one head of keys, in 30 bits: nothing where there are more.
Result<std::optional<PlacedAttention>> place_attention(Gpu& gpu, const AttentionSettings& s,
                                                       std::span<const Tensor> inputs, void* out);

// tensor_core_attention.cu, for the ladder, which tells the two apart: of bf16 to float32, one
// sequence without lengths, pages, window or softcap.
bool attends_by_warp_groups(const Gpu& gpu, const AttentionCall& p);
Status attend_by_warps(Gpu& gpu, const AttentionCall& p);
Status attend_by_warp_groups(Gpu& gpu, const AttentionCall& p);

}  // namespace verbatim::cuda
