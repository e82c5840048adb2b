// The idea: a thread computes one row, as the contract says it, and each step of a tensor core by
// repops/tensor_core.h.
//
// What bounds it: instructions. A product takes tens of them, as the unit's truncated sums are made
// of integers; a row's state is in memory; and each row reads all keys and values for itself.
#include <verbatim/kernels/cuda/ladder/attention.cuh>

namespace verbatim::cuda::ladder {
namespace {

using RowState = State<kMostSize>;

// The keys of one block, of which the row sees `seen`.
__device__ void take_block(const Attention& p, const Rows& rows, int64_t row, int64_t block,
                           int seen, RowState& state) {
  float scores[kBlockOfKeys];
  uint16_t weights[kBlockOfKeys];
  float best = kUnseen;
  for (int i = 0; i < seen; ++i) {
    scores[i] = score_of(p.q + rows.place(p, row), p.k + rows.key(p, block + i), rows.size);
    const float x = grid_score(scores[i], rows.log_scale);
    best = i == 0 ? x : maximum(best, x);
  }
  const float m = grid_maximum(state.m, best), alpha = m == state.m ? 1.0f : exp2p(state.m - m);
  for (int i = 0; i < seen; ++i)
    weights[i] = verbatim::store<BFloat16>(exp2p(grid_exponent(scores[i], rows.log_scale, m))).bits;
  state.l = add_values(state.l * alpha, weights, seen, [](int) { return kOne; });
  state.m = m;
  for (int c = 0; c < rows.size; ++c)
    state.o[c] = add_values(state.o[c] * alpha, weights, seen,
                            [&](int i) { return p.v[rows.key(p, block + i) + c]; });
}

__global__ void attend_each(Attention p) {
  const int64_t count = Rows(p, 0).count;
  each_element(count * p.kv_heads, [&](int64_t i) {
    const Rows rows(p, i / count);
    const int64_t row = i % count, keys = rows.seen(p, row);
    RowState total;
    for (int64_t part = 0; part < keys; part += kKeyRestart) {
      RowState state;
      for (int64_t block = part; block < least(part + kKeyRestart, keys); block += kKeyBlock)
        take_block(p, rows, row, block, rows.seen_of(p, row, block), state);
      merge_into(total, state);
    }
    for (int c = 0; c < rows.size; ++c)
      p.out[rows.place(p, row) + c] = result_of(total.o[c], total.l);
  });
}

}  // namespace

Status attend_scalar(Gpu& gpu, const Attention& p) {
  return launch(gpu, grid_for(p.queries * p.heads, 64), attend_each, p);
}

}  // namespace verbatim::cuda::ladder
