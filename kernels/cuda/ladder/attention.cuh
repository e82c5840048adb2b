// What the first rungs of attention share: its rows, and the contract's words for what becomes of
// them (docs/numerics.md, Tensor-core attention).
#pragma once

#include <verbatim/kernels/cuda/ladder/ladder.h>
#include <verbatim/repops/tensor_core.h>
#include <verbatim/kernels/cuda/attention.cuh>

namespace verbatim::cuda::ladder {

inline constexpr int kMostSize = 128;                                          // of a head
inline constexpr int kBlockOfKeys = static_cast<int>(kKeyBlock), kGroup = 16;  // of a unit's step

// As the backend's kernels are called.
inline AttentionCall call_of(const Attention& p) {
  return {.q = p.q,
          .k = p.k,
          .v = p.v,
          .out = p.out,
          .queries = p.queries,
          .heads = p.heads,
          .kv_heads = p.kv_heads,
          .head_size = p.size,
          .value_size = p.size,
          .keys = p.keys,
          .lengths = nullptr,
          .table = nullptr,
          .pages = 0,
          .page_size = 0,
          .window = 0,
          .scale = p.scale,
          .softcap = 0,
          .log_scale = p.scale * float_of(kLog2E),
          .causal = p.causal};
}

// The rows of one head of keys: a row is one query of one of the heads that share it.
struct Rows {
  int64_t count, group, kv_head;
  int size;
  float log_scale;

  __device__ Rows(const Attention& p, int64_t kv_head)
      : count(p.queries * (p.heads / p.kv_heads)),
        group(p.heads / p.kv_heads),
        kv_head(kv_head),
        size(static_cast<int>(p.size)),
        log_scale(p.scale * float_of(kLog2E)) {}

  // Where a row lies in q and in out, and a key in k and in v.
  __device__ int64_t place(const Attention& p, int64_t row) const {
    return (row / group * p.heads + kv_head * group + row % group) * size;
  }
  __device__ int64_t key(const Attention& p, int64_t i) const {
    return (i * p.kv_heads + kv_head) * size;
  }
  // How many keys a row sees, the first ones: no fewer than the row before.
  __device__ int64_t seen(const Attention& p, int64_t row) const {
    return visible_range(p.causal, 0, least(row, count - 1) / group, p.queries, p.keys).end;
  }
  // The same of the keys of one block.
  __device__ int seen_of(const Attention& p, int64_t row, int64_t block) const {
    const int64_t more = seen(p, row) - block;
    return more < 0 ? 0 : static_cast<int>(least(more, kBlockOfKeys));
  }
};

// acc and at most 16 products, as the unit adds them.
__device__ inline float step_of_unit(float acc, const uint16_t* x, const uint16_t* y, int count) {
  using Format = tensor_core::BFloat16Format;
  constexpr tensor_core::Rule kRule = tensor_core::kSm90;
  return tensor_core::step<Format, Format>(kRule, acc, x, y, count);
}
// q . k: one chain.
__device__ inline float score_of(const uint16_t* q, const uint16_t* k, int size) {
  float sum = 0;
  for (int i = 0; i < size; i += kGroup)
    sum = step_of_unit(sum, q + i, k + i, static_cast<int>(least(kGroup, size - i)));
  return sum;
}
// The chain of o goes on with the keys that a row sees of a block, times value(i) of one column.
template <class Value>
__device__ float add_values(float o, const uint16_t* weights, int seen, Value&& value) {
  for (int first = 0; first < seen; first += kGroup) {
    uint16_t values[kGroup];
    const auto count = static_cast<int>(least(kGroup, seen - first));
    for (int i = 0; i < count; ++i) values[i] = value(first + i);
    o = step_of_unit(o, weights + first, values, count);
  }
  return o;
}

// What the keys so far have made of a row, of kCount of its columns. l is 0 where it has seen none:
// else it is at least 1, or NaN, as one of its weights is at least 1.
template <int kCount>
struct State {
  float m = kUnseen, l = 0, o[kCount] = {};
};
// merge(a, b), into a.
template <int kCount>
__device__ void merge_into(State<kCount>& a, const State<kCount>& b) {
  if (b.l == 0) return;
  if (a.l == 0) {
    a = b;
    return;
  }
  const float m = maximum(a.m, b.m), alpha = exp2p(a.m - m), beta = exp2p(b.m - m);
  a.m = m;
  a.l = fma32(b.l, beta, a.l * alpha);
#pragma unroll
  for (int j = 0; j < kCount; ++j) a.o[j] = fma32(b.o[j], beta, a.o[j] * alpha);
}
__device__ inline float result_of(float o, float l) {
  return canonical(l == 0 ? 0.0f : o * (1.0f / l));
}

// What l is multiplied with: ones, as if they were a column of values.
inline constexpr uint16_t kOne = 0x3F80;

// By a warp, of one row: of the scores of a block's keys, of which it sees the first `seen`, at
// least one, come weights, zero beyond. m and l go on; o is to be multiplied by what is returned.
__device__ inline float weigh_row(const float* scores, float scale, uint16_t* weights, int seen,
                                  float& m, float& l) {
  constexpr int kLanes = static_cast<int>(kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  float best = grid_score(scores[0], scale);
  for (int i = lane; i < seen; i += kLanes) best = maximum(best, grid_score(scores[i], scale));
  for (int other = 1; other < kLanes; other *= 2)
    best = maximum(best, __shfl_xor_sync(~0u, best, other));
  const float before = m;
  m = grid_maximum(before, best);
  for (int i = lane; i < kBlockOfKeys; i += kLanes)
    weights[i] = i < seen
                     ? verbatim::store<BFloat16>(exp2p(grid_exponent(scores[i], scale, m))).bits
                     : uint16_t{0};
  __syncwarp();
  const float alpha = before == m ? 1.0f : exp2p(before - m);
  l = add_values(l * alpha, weights, seen, [](int) { return kOne; });
  return alpha;
}

// The codes of `count` keys or values into shared memory, zeros beyond; by a block of threads.
template <int kStride>
__device__ void load_codes(const Attention& p, const Rows& rows, const uint16_t* from,
                           int64_t block, int count, uint16_t (&to)[kBlockOfKeys][kStride]) {
  for (int i = static_cast<int>(threadIdx.x); i < kBlockOfKeys * kMostSize;
       i += static_cast<int>(blockDim.x)) {
    const int key = i / kMostSize, c = i % kMostSize;
    to[key][c] = key < count && c < rows.size ? from[rows.key(p, block + key) + c] : uint16_t{0};
  }
}

}  // namespace verbatim::cuda::ladder
