// The idea: a warp computes a row, one score or a few columns in each thread, and the eight rows of
// a block of threads share what they read: a block's keys come to shared memory once for all of
// them, then its values. Scores and weights of a row are in shared memory, too.
//
// What bounds it: instructions, as before; but they all run side by side now, and none waits for
// memory of its own.
#include <verbatim/kernels/cuda/ladder/attention.cuh>

namespace verbatim::cuda::ladder {
namespace {

constexpr int kRows = 8, kLanes = static_cast<int>(kWarp), kThreads = kRows * kLanes;
constexpr int kColumns = kMostSize / kLanes;  // of a thread: its lane's, and those 32 further on

struct Shared {
  uint16_t codes[kBlockOfKeys][kMostSize + 2];  // of keys, then of values
  float scores[kRows][kBlockOfKeys];
  uint16_t weights[kRows][kBlockOfKeys];
};

__global__ void __launch_bounds__(kThreads) attend_rows(Attention p) {
  __shared__ Shared s;
  const Rows rows(p, blockIdx.y);
  const int warp = static_cast<int>(threadIdx.x) / kLanes,
            lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t first = int64_t{blockIdx.x} * kRows, row = first + warp,
                keys = rows.seen(p, first + kRows - 1);
  const uint16_t* q = p.q + rows.place(p, least(row, rows.count - 1));
  State<kColumns> total, state;
  for (int64_t block = 0; block < keys; block += kKeyBlock) {
    if (block % kKeyRestart == 0) {
      merge_into(total, state);
      state = {};
    }
    const int seen = rows.seen_of(p, row, block),
              seen_by_any = rows.seen_of(p, first + kRows - 1, block);
    load_codes(p, rows, p.k, block, seen_by_any, s.codes);
    __syncthreads();
    for (int i = lane; i < seen; i += kLanes)
      s.scores[warp][i] = score_of(q, s.codes[i], rows.size);
    __syncthreads();
    load_codes(p, rows, p.v, block, seen_by_any, s.codes);
    float alpha = 1;
    if (seen > 0)
      alpha = weigh_row(s.scores[warp], rows.log_scale, s.weights[warp], seen, state.m, state.l);
    __syncthreads();
    for (int j = 0; j < kColumns; ++j)
      if (lane + kLanes * j < rows.size)
        state.o[j] = add_values(state.o[j] * alpha, s.weights[warp], seen,
                                [&](int i) { return s.codes[i][lane + kLanes * j]; });
    __syncthreads();
  }
  merge_into(total, state);
  for (int j = 0; j < kColumns; ++j)
    if (row < rows.count && lane + kLanes * j < rows.size)
      p.out[rows.place(p, row) + lane + kLanes * j] = result_of(total.o[j], total.l);
}

}  // namespace

Status attend_row_tiles(Gpu& gpu, const Attention& p) {
  const int64_t rows = p.queries * (p.heads / p.kv_heads);
  const Grid grid{
      .blocks = {static_cast<unsigned>(ceiling(rows, kRows)), static_cast<unsigned>(p.kv_heads), 1},
      .threads = {kThreads, 1, 1}};
  return launch(gpu, grid, attend_rows, p);
}

}  // namespace verbatim::cuda::ladder
