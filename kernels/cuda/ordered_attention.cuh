// Ordered attention in binary32 (docs/numerics.md, Attention, family A). A block of threads has
// kRows rows, a row being one query of one head, of the heads that share a head of keys, and goes
// through the keys in blocks of 128: scores, their weights, the weighted sum of values, and the
// merge with the state of the keys before. Every score and every sum is one chain of one thread.
#pragma once

#include <verbatim/kernels/cuda/attention.cuh>

namespace verbatim::cuda::ordered {

constexpr int kSide = 16, kThreads = kSide * kSide;
constexpr int kRows = 32, kI = kRows / kSide;
constexpr int kJ = static_cast<int>(kKeyBlock) / kSide;  // keys of a thread
constexpr int kDepth = 16;                               // elements of q and k, or keys, of a step
static_assert(kThreads == kRows * kKeyLanes);

// The state of a row's keys so far; kC outputs of it are this thread's.
template <int kC>
struct State {
  bool empty = true;
  float m = 0, l = 0, o[kC];
};

template <int kC>
__device__ void merge_into(State<kC>& a, const State<kC>& b) {
  if (b.empty) return;
  if (a.empty) {
    a = b;
    return;
  }
  const float m = maximum(a.m, b.m);
  const float alpha = unary::f32::exp2(a.m - m), beta = unary::f32::exp2(b.m - m);
  a.m = m;
  a.l = fma32(b.l, beta, a.l * alpha);
#pragma unroll
  for (int j = 0; j < kC; ++j) a.o[j] = fma32(b.o[j], beta, a.o[j] * alpha);
}

template <int kColumns>
struct Tile {
  float q[kDepth][kRows + 1], k[kDepth][kKeyBlock + 1], v[kDepth][kColumns + 1];
  float weight[kRows][kKeyBlock + 1];
  float l[kRows];
};

// Keys that are worked on together: a block of them, of which those from `end` on are not there, or
// the means of a block's.
struct KeyTile {
  int64_t first, end;
  int count = static_cast<int>(kKeyBlock);
  float shift = 0;  // of every scaled score

  __device__ bool has_some(const Range& seen) const {
    return seen.begin < first + count && first < seen.end && seen.begin < seen.end;
  }
};

// s[i][j] = q of row y + 16 i . k of key x + 16 j of the tile.
template <class T, class Tile>
__device__ void score(const AttentionCall& p, const AttentionView<T>& view, Tile& tile,
                      const KeyTile& keys, float (&s)[kI][kJ]) {
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int j = 0; j < kJ; ++j) s[i][j] = 0;
  for (int64_t d = 0; d < p.head_size; d += kDepth) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kDepth; i += kThreads) {
      const int64_t row = view.first_row + i / kDepth, at = d + i % kDepth;
      tile.q[i % kDepth][i / kDepth] = row < view.rows && at < p.head_size
                                           ? load(view.q[view.head_row(p, row) * p.head_size + at])
                                           : 0.0f;
    }
    for (int i = static_cast<int>(threadIdx.x); i < keys.count * kDepth; i += kThreads) {
      const int64_t key = keys.first + i / kDepth, at = d + i % kDepth;
      tile.k[i % kDepth][i / kDepth] =
          key < keys.end && at < p.head_size
              ? load(view.k[view.key_row(p, key) * p.kv_heads * p.head_size + at])
              : 0.0f;
    }
    __syncthreads();
    const int steps = static_cast<int>(least(kDepth, p.head_size - d));
    for (int step = 0; step < steps; ++step) {
      float right[kJ];
#pragma unroll
      for (int j = 0; j < kJ; ++j)
        if (kSide * j < keys.count) right[j] = tile.k[step][x + kSide * j];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        const float left = tile.q[step][y + kSide * i];
#pragma unroll
        for (int j = 0; j < kJ; ++j)
          if (kSide * j < keys.count) s[i][j] = fma32(left, right[j], s[i][j]);
      }
    }
    __syncthreads();
  }
}

// Weights of the keys into tile.weight, their sums into tile.l; the greatest score of each of the
// thread's rows into m. All 16 threads of a row have the same.
template <class Tile>
__device__ void weigh(const AttentionCall& p, Tile& tile, const KeyTile& keys,
                      const Range (&seen)[kI], const Range& lane_seen, float (&s)[kI][kJ],
                      float (&m)[kI]) {
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    m[i] = kUnseen;
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      if (kSide * j >= keys.count) continue;
      s[i][j] = p.scaled_score(s[i][j]);
      if (keys.shift != 0) s[i][j] = s[i][j] + keys.shift;
      if (seen[i].has(keys.first + x + kSide * j)) m[i] = maximum(m[i], s[i][j]);
    }
    for (int lane = 1; lane < kSide; lane *= 2)
      m[i] = maximum(m[i], __shfl_xor_sync(~0u, m[i], lane));
#pragma unroll
    for (int j = 0; j < kJ; ++j)
      if (kSide * j < keys.count)
        tile.weight[y + kSide * i][x + kSide * j] = unary::f32::exp2(s[i][j] - m[i]);
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x) / kKeyLanes,
            lane = static_cast<int>(threadIdx.x) % kKeyLanes;
  float sum = 0;
  for (int key = lane; key < keys.count; key += kKeyLanes)
    if (lane_seen.has(keys.first + key)) sum = sum + tile.weight[row][key];
  for (int other = 1; other < kKeyLanes; other *= 2) sum = sum + __shfl_xor_sync(~0u, sum, other);
  if (lane == 0) tile.l[row] = sum;
}

// o[i][c] = the weighted sum of the visible keys' values, of row y + 16 i and column x + 16 c.
template <class T, int kColumns>
__device__ void add_values(const AttentionCall& p, const AttentionView<T>& view,
                           Tile<kColumns>& tile, const KeyTile& keys, int64_t columns,
                           const Range (&seen)[kI], State<kColumns / kSide> (&state)[kI]) {
  constexpr int kC = kColumns / kSide;
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int c = 0; c < kC; ++c) state[i].o[c] = 0;
  for (int first = 0; first < keys.count && keys.first + first < keys.end; first += kDepth) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kColumns * kDepth; i += kThreads) {
      const int64_t key = keys.first + first + i / kColumns;
      tile.v[i / kColumns][i % kColumns] =
          key < keys.end && i % kColumns < columns
              ? load(view.v[view.key_row(p, key) * p.kv_heads * p.value_size + i % kColumns])
              : 0.0f;
    }
    __syncthreads();
    for (int step = 0; step < kDepth; ++step) {
      const int64_t key = keys.first + first + step;
      float right[kC];
#pragma unroll
      for (int c = 0; c < kC; ++c) right[c] = tile.v[step][x + kSide * c];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        if (!seen[i].has(key)) continue;
        const float w = tile.weight[y + kSide * i][first + step];
#pragma unroll
        for (int c = 0; c < kC; ++c) state[i].o[c] = fma32(w, right[c], state[i].o[c]);
      }
    }
  }
}

// What a block of threads works on: up to kColumns columns of its rows, of which this thread has
// rows y + 16 i.
template <class T, int kColumns>
struct OrderedRows {
  static constexpr int kC = kColumns / kSide;
  using RowState = State<kC>;

  const AttentionCall& p;
  const int64_t column, columns;
  const AttentionView<T> view;
  Range seen[kI], lane_seen;  // lane_seen: of the row whose weights this thread helps to add

  __device__ explicit OrderedRows(const AttentionCall& call)
      : p(call),
        column(blockIdx.y / p.kv_heads * kColumns),
        columns(least(kColumns, p.value_size - column)),
        view(p, blockIdx.z, blockIdx.y % p.kv_heads, column, int64_t{blockIdx.x} * kRows),
        lane_seen(view.visible(p, lane_row())) {
#pragma unroll
    for (int i = 0; i < kI; ++i) seen[i] = view.visible(p, row(i));
  }

  __device__ int64_t row(int i) const {
    return view.first_row + static_cast<int>(threadIdx.x) / kSide + kSide * i;
  }
  __device__ int64_t lane_row() const { return view.first_row + threadIdx.x / kKeyLanes; }

  // Merges the state of what is seen of `keys`, rows of `from`, into the rows'.
  __device__ void add_keys(Tile<kColumns>& tile, const AttentionView<T>& from, const KeyTile& keys,
                           const Range (&seen_of)[kI], const Range& lane_seen_of,
                           RowState (&running)[kI]) const {
    float s[kI][kJ], m[kI];
    RowState state[kI];
    score(p, from, tile, keys, s);
    weigh(p, tile, keys, seen_of, lane_seen_of, s, m);
    add_values(p, from, tile, keys, columns, seen_of, state);
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      state[i].empty = !keys.has_some(seen_of[i]);
      state[i].m = m[i];
      state[i].l = tile.l[static_cast<int>(threadIdx.x) / kSide + kSide * i];
      merge_into(running[i], state[i]);
    }
    __syncthreads();
  }

  // The states of all keys by add_block(block, end, running) of each block, where `end` is the end
  // of what the rows see, and then their outputs.
  template <class AddBlock>
  __device__ void attend(AddBlock&& add_block) const {
    // Neither end of what is seen decreases from row to row.
    const int64_t last_row = least(view.first_row + kRows, view.rows) - 1,
                  begin = view.visible(p, view.first_row).begin,
                  end = view.visible(p, last_row).end;
    RowState total[kI];
    for (int64_t part = begin / kKeyRestart * kKeyRestart; part < end; part += kKeyRestart) {
      RowState running[kI];
      const int64_t part_end = least(part + kKeyRestart, end);
      const int64_t first = begin > part ? begin / kKeyBlock * kKeyBlock : part;
      for (int64_t block = first; block < part_end; block += kKeyBlock)
        add_block(block, end, running);
#pragma unroll
      for (int i = 0; i < kI; ++i) merge_into(total[i], running[i]);
    }
    write(total);
  }

 private:
  __device__ void write(const RowState (&total)[kI]) const {
    const int x = static_cast<int>(threadIdx.x) % kSide;
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      if (row(i) >= view.rows) continue;
      T* out = static_cast<T*>(p.out) + view.head_row(p, row(i)) * p.value_size + column;
      if (p.m != nullptr && x == 0 && column == 0) {
        p.m[view.head_row(p, row(i))] = total[i].m;
        p.l[view.head_row(p, row(i))] = total[i].l;
      }
#pragma unroll
      for (int c = 0; c < kC; ++c)
        if (x + kSide * c < columns)
          out[x + kSide * c] = store<T>(total[i].empty ? 0.0f : total[i].o[c] / total[i].l);
    }
  }
};

template <int kColumns>
Grid ordered_attention_grid(const AttentionCall& p, int64_t batch) {
  const int64_t rows = p.queries * (p.heads / p.kv_heads);
  return {.blocks = {static_cast<unsigned>(ceiling(rows, kRows)),
                     static_cast<unsigned>(p.kv_heads * ceiling(p.value_size, kColumns)),
                     static_cast<unsigned>(batch)},
          .threads = {kThreads, 1, 1}};
}

// Whether its kernels take it.
inline bool attends_in_order(const AttentionSettings& s) {
  constexpr int64_t kMostInYAndZ = 65535;
  return s.head_size <= kProductBlock && s.output[0] <= kMostInYAndZ &&
         s.kv_heads * ceiling(s.value_size, 64) <= kMostInYAndZ;
}

}  // namespace verbatim::cuda::ordered
