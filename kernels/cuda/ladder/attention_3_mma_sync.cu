// The idea: a warp has 16 rows, and the tensor cores make their scores and weigh their values,
// tile by tile: what a step of the unit took tens of instructions for is a part of one. Scores go
// through shared memory, where a warp makes weights of one row after the other, as before.
//
// What bounds it: those weights, and the wait for keys and values: nothing is multiplied meanwhile.
#include <verbatim/kernels/cuda/attention_tiles.cuh>
#include <verbatim/kernels/cuda/ladder/attention.cuh>

namespace verbatim::cuda::ladder {
namespace {

using Unit = FloatUnit<tensor_core::BFloat16Format>;
constexpr int kWarps = 4, kRows = kWarps * kTileRows, kThreads = kWarps * static_cast<int>(kWarp);

// Rows are so long that eight of them begin in different banks.
struct alignas(16) Shared {
  uint16_t queries[kRows][kMostSize + 8];
  uint16_t codes[kBlockOfKeys][kMostSize + 8];  // of keys, then of values
  uint16_t weights[kRows][kBlockOfKeys + 8];
  float scores[kRows][kBlockOfKeys + 4];
};

__device__ inline uint32_t two(const uint16_t* codes) {
  return *reinterpret_cast<const uint32_t*>(codes);
}

// A warp's rows; thread t of it, g = t / 4, has a part of rows g and g + 8, as the tiles of sums
// have it: of each eight columns, 2 q and 2 q + 1.
struct WarpAttention {
  const Attention& p;
  const Rows rows;
  Shared& s;
  const int g, q, own;  // own: the warp's first row of the block's
  const int64_t row;
  State<kMostSize / 4> total[2], state[2];

  __device__ WarpAttention(const Attention& p, Shared& s)
      : p(p),
        rows(p, blockIdx.y),
        s(s),
        g(static_cast<int>(threadIdx.x % kWarp) / 4),
        q(static_cast<int>(threadIdx.x % 4)),
        own(static_cast<int>(threadIdx.x / kWarp) * kTileRows),
        row(int64_t{blockIdx.x} * kRows + own) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kMostSize; i += kThreads) {
      const int64_t r = least(row - own + i / kMostSize, rows.count - 1);
      const int c = i % kMostSize;
      s.queries[i / kMostSize][c] = c < rows.size ? p.q[rows.place(p, r) + c] : uint16_t{0};
    }
  }

  // Scores, q k^T, of the 16 rows and the keys that some of them see.
  __device__ void score(int seen) const {
    const int lane = static_cast<int>(threadIdx.x % kWarp), i = lane / 8, r = lane % 8;
    for (int key = 0; key < seen; key += 2 * kTileColumns) {
      float d[2][4] = {};
      for (int c = 0; c < rows.size; c += kGroup) {
        TileA a;
        uint32_t b[4];
        load_matrices(a.word, &s.queries[own + i % 2 * 8 + r][c + i / 2 * 8]);
        load_matrices(b, &s.codes[key + i / 2 * 8 + r][c + i % 2 * 8]);
#pragma unroll
        for (int n = 0; n < 2; ++n) Unit::multiply(d[n], a, {{b[2 * n], b[2 * n + 1]}});
      }
#pragma unroll
      for (int e = 0; e < 8; ++e)
        s.scores[own + g + e / 2 % 2 * 8][key + e / 4 * 8 + 2 * q + e % 2] = d[e / 4][e % 4];
    }
    __syncwarp();
  }

  // Weights of all rows; those of a thread are multiplied by alpha.
  __device__ void weigh(int64_t block) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float alpha = 1;
#pragma unroll 1
      for (int r = 0; r < 8; ++r) {
        const int at = own + r + 8 * h, seen = rows.seen_of(p, row + r + 8 * h, block);
        float m = __shfl_sync(~0u, state[h].m, 4 * r), l = __shfl_sync(~0u, state[h].l, 4 * r);
        if (seen == 0) {
          for (int i = static_cast<int>(threadIdx.x % kWarp); i < kBlockOfKeys; i += kWarp)
            s.weights[at][i] = 0;
          continue;
        }
        const float factor = weigh_row(s.scores[at], rows.log_scale, s.weights[at], seen, m, l);
        if (g != r) continue;
        state[h].m = m;
        state[h].l = l;
        alpha = factor;
      }
#pragma unroll
      for (float& o : state[h].o) o = o * alpha;
    }
    __syncwarp();
  }

  // o += p v, of the keys that some row sees. `loaded`: keys that are there. Where a row does not
  // see one of them, that counts as zero in both operands, whatever its value is.
  __device__ void add(int64_t block, int seen, int loaded) {
    const int own_seen[2] = {rows.seen_of(p, row + g, block), rows.seen_of(p, row + g + 8, block)};
    const bool whole = rows.seen_of(p, row, block) >= loaded;
    const int lane = static_cast<int>(threadIdx.x % kWarp), i = lane / 8, r = lane % 8;
    for (int key = 0; key < seen; key += kGroup) {
      const uint16_t *up = s.weights[own + g] + key + 2 * q,
                     *down = s.weights[own + g + 8] + key + 2 * q;
      const TileA a{{two(up), two(down), two(up + 8), two(down + 8)}};
#pragma unroll
      for (int n = 0; n < kMostSize; n += 2 * kTileColumns) {
        if (n >= rows.size) break;
        uint32_t b[4];
        load_matrices<true>(b, &s.codes[key + i % 2 * 8 + r][n + i / 2 * 8]);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const int c = n / 4 + 2 * k;  // of a thread's columns
          float d[4] = {state[0].o[c], state[0].o[c + 1], state[1].o[c], state[1].o[c + 1]};
          const TileB tile{{b[2 * k], b[2 * k + 1]}};
          if (whole)
            Unit::multiply(d, a, tile);
          else
            multiply_seen<Unit>(d, a, tile, key, {{0, 0}, {own_seen[0], own_seen[1]}});
#pragma unroll
          for (int e = 0; e < 4; ++e) state[e / 2].o[c + e % 2] = d[e];
        }
      }
    }
  }

  __device__ void end_part() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      merge_into(total[h], state[h]);
      state[h] = {};
    }
  }

  __device__ void attend() {
    const int64_t last = int64_t{blockIdx.x} * kRows + kRows - 1, keys = rows.seen(p, last);
    for (int64_t block = 0; block < keys; block += kKeyBlock) {
      if (block % kKeyRestart == 0) end_part();
      const int loaded = rows.seen_of(p, last, block),
                seen = rows.seen_of(p, row + kTileRows - 1, block);
      load_codes(p, rows, p.k, block, loaded, s.codes);
      __syncthreads();
      score(seen);
      weigh(block);
      __syncthreads();
      load_codes(p, rows, p.v, block, loaded, s.codes);
      __syncthreads();
      add(block, seen, loaded);
      __syncthreads();
    }
    end_part();
  }

  __device__ void store_rows() const {
#pragma unroll
    for (int i = 0; i < kMostSize / 2; ++i) {
      const int h = i % 2, j = i / 2, c = j / 2 * kTileColumns + 2 * q + j % 2;
      const int64_t r = row + g + 8 * h;
      if (r < rows.count && c < rows.size)
        p.out[rows.place(p, r) + c] = result_of(total[h].o[j], total[h].l);
    }
  }
};

__global__ void __launch_bounds__(kThreads) attend_warp_tiles(Attention p) {
  WarpAttention warp(p, *shared_memory<Shared>());
  warp.attend();
  warp.store_rows();
}

}  // namespace

Status attend_mma_sync(Gpu& gpu, const Attention& p) {
  const int64_t rows = p.queries * (p.heads / p.kv_heads);
  const Grid grid{
      .blocks = {static_cast<unsigned>(ceiling(rows, kRows)), static_cast<unsigned>(p.kv_heads), 1},
      .threads = {kThreads, 1, 1},
      .shared_bytes = sizeof(Shared)};
  return launch(gpu, grid, attend_warp_tiles, p);
}

}  // namespace verbatim::cuda::ladder
