// Attention in exact integers (docs/numerics.md, Attention, family B). Both products are of int8
// codes, so that their order is free; all that has an order is in the scores of a block of keys and
// in how blocks join. Prefill of common heads goes to warp groups (group_int8_attention.cuh);
// attend_rows() takes everything else, few rows above all, whose keys it only reads once.
#include <verbatim/repops/ops/int8_attention.h>
#include <verbatim/kernels/cuda/group_int8_attention.cuh>

namespace verbatim::cuda {
namespace {

constexpr int64_t kMostInYAndZ = 65535;

// Byte j of word i becomes byte i of word j.
__device__ inline void transpose_bytes(const uint32_t (&from)[4], uint32_t (&to)[4]) {
  const uint32_t low01 = __byte_perm(from[0], from[1], 0x5140),
                 low23 = __byte_perm(from[2], from[3], 0x5140),
                 high01 = __byte_perm(from[0], from[1], 0x7362),
                 high23 = __byte_perm(from[2], from[3], 0x7362);
  to[0] = __byte_perm(low01, low23, 0x5410);
  to[1] = __byte_perm(low01, low23, 0x7632);
  to[2] = __byte_perm(high01, high23, 0x5410);
  to[3] = __byte_perm(high01, high23, 0x7632);
}

// --- any rows: eight of them a block of threads, and a key a thread

// Pieces of the keys, each of a block of threads: a whole number of parts of 2048, or one block of
// 128; and what rows have of each, rows being those of the results. Of parts their states: o
// [pieces, rows, value_size], and m and l. Of a block what a state goes on with: sums of codes, and
// e, the sum of l's weights (NaN where g is) and g. l or the sum is 0 where a row saw nothing.
struct PieceStates {
  int pieces, piece_keys, slices;
  int64_t rows;
  float *o, *of_rows;  // of_rows: [pieces, rows, 3]
  __host__ __device__ bool of_blocks() const { return piece_keys == kBlockKeys; }
};

struct RowsCall : Int8AttentionCall {
  PieceStates states;
  bool in_words;  // codes of keys and values may be read four at once
};

// A row's m and l go on with a block; returns its sums' unit, and alpha, of o.
__device__ inline float go_on(float& m, float& l, float& alpha, float e, float g, float total,
                              int slices) {
  const float before = m;
  m = grid_maximum(before, e);
  alpha = m == before ? 1.0f : exp2p(before - m);
  l = fma32(total, exp2p(total_unit(e - m, total_shift(g, slices))), l * alpha);
  return exp2p(value_unit(e - m, g, slices));
}

template <int kSlices>
struct RowAttention {
  static constexpr int kRows = 8, kThreads = kBlockKeys,
                       kWarps = kThreads / static_cast<int>(kWarp),
                       kKeyWords = kBlockKeys / 4;  // of a row of the weights' codes
  static int64_t words_of(int64_t size) { return ceiling(size, 4); }
  // Words of shared memory, in the order in which the constructor takes them.
  static int64_t shared_words(const RowsCall& p) {
    const int64_t q = words_of(p.head_size), v = words_of(p.value_size);
    return kRows * q + kBlockKeys * (q | 1) + kBlockKeys * v + kSlices * kRows * kKeyWords +
           kWarps * kRows * 4 * v + 2 * kRows * 4 * v;
  }

  const RowsCall& p;
  const int piece;
  const AttentionView<int8_t> view;
  const int q_words, k_pitch, v_words, rows;
  uint32_t *queries, *keys, *values;
  uint32_t* codes;     // [slices, rows, kKeyWords]
  int32_t* sums;       // of each warp's keys: [warps, rows, 4 v_words]
  float *o, *total_o;  // [rows, 4 v_words]: of the part of 2048 keys, and of those before
  int begin, end;      // of the keys that some row sees

  // What all threads share of each row.
  struct Shared {
    float m[kRows], l[kRows], g[kRows], total_m[kRows], total_l[kRows];
    float warp_e[kWarps][kRows], warp_g[kWarps][kRows];
    int32_t warp_total[kWarps][kRows];
    float alpha[kRows], unit[kRows];  // of o, and of the block's sums
  };
  Shared& shared;

  __device__ RowAttention(const RowsCall& call, Shared& shared_rows)
      : p(call),
        piece(static_cast<int>(blockIdx.z) % call.states.pieces),
        view(call, blockIdx.z / call.states.pieces, blockIdx.y, 0, int64_t{blockIdx.x} * kRows),
        q_words(static_cast<int>(ceiling(call.head_size, 4))),
        k_pitch(q_words | 1),
        v_words(static_cast<int>(ceiling(call.value_size, 4))),
        rows(static_cast<int>(least(kRows, view.rows - view.first_row))),
        queries(shared_memory<uint32_t>()),
        keys(queries + kRows * q_words),
        values(keys + kBlockKeys * k_pitch),
        codes(values + kBlockKeys * v_words),
        sums(reinterpret_cast<int32_t*>(codes + kSlices * kRows * kKeyWords)),
        o(reinterpret_cast<float*>(sums + kWarps * kRows * 4 * v_words)),
        total_o(o + kRows * 4 * v_words),
        shared(shared_rows) {
    begin = range_of(p, view, view.first_row).begin;
    end = range_of(p, view, view.first_row + rows - 1).end;
    const int first = piece * p.states.piece_keys, last = first + p.states.piece_keys;
    if (begin < first) begin = first;
    if (end > last) end = last;
  }

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  // Word w of a row of codes, zeros beyond its end.
  __device__ uint32_t word_of(const int8_t* row, int w, int64_t size) const {
    if (p.in_words) return reinterpret_cast<const uint32_t*>(row)[w];
    uint32_t word = 0;
    for (int i = 0; i < 4 && 4 * w + i < size; ++i)
      word |= static_cast<uint32_t>(static_cast<uint8_t>(row[4 * w + i])) << (8 * i);
    return word;
  }
  __device__ void load_queries() const {
    for (int i = thread(); i < rows * q_words; i += kThreads) {
      const int64_t row = view.head_row(p, view.first_row + i / q_words);
      queries[i] = word_of(view.q + row * p.head_size, i % q_words, p.head_size);
    }
  }
  // Keys of the block up to the last one that some row sees.
  __device__ int keys_of(int block) const {
    return end - block < kBlockKeys ? end - block : kBlockKeys;
  }
  // Their codes, zeros for those that no row sees.
  __device__ void load_block(int block) const {
    const int count = (keys_of(block) + 3) / 4 * 4;
    const auto load = [&](const int8_t* from, int64_t size, int words, int pitch, uint32_t* to) {
      for (int i = thread(); i < count * words; i += kThreads) {
        const int r = i / words, key = block + r, w = i % words;
        const bool there = key >= begin && key < end;
        to[r * pitch + w] =
            there ? word_of(from + view.key_row(p, key) * p.kv_heads * size, w, size) : 0;
      }
    };
    load(view.k, p.head_size, q_words, k_pitch, keys);
    load(view.v, p.value_size, v_words, v_words, values);
  }

  // One key's scores with all rows, -infinity where it is not seen, and each row's greatest.
  __device__ void score(int block, float (&x)[kRows], bool (&seen)[kRows]) const {
    const int key = block + thread();
    const bool there = key >= begin && key < end;
    const float key_scale =
        there ? p.k_scales[view.key_row(p, key) * p.kv_heads + blockIdx.y] : 0.0f;
    int32_t dot[kRows] = {};
    for (int w = 0; there && w < q_words; ++w) {
      const auto k = static_cast<int>(keys[thread() * k_pitch + w]);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (r < rows) dot[r] = __dp4a(static_cast<int>(queries[r * q_words + w]), k, dot[r]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      seen[r] = r < rows && there && view.visible(p, view.first_row + r).has(key);
      x[r] = kUnseen;
      if (r >= rows) continue;
      if (seen[r]) {
        const float row_scale = p.row_scale(view.head_row(p, view.first_row + r)),
                    product = static_cast<float>(dot[r]) * key_scale;
        x[r] = p.softcap == 0 ? grid_score(product, row_scale * p.log_scale)
                              : grid_score(p.capped_score(product * row_scale), float_of(kLog2E));
      }
      share_maximum(x[r], r, shared.warp_e);
    }
  }
  // A warp's greatest x of row r.
  __device__ static void share_maximum(float x, int r, float (&of_warps)[kWarps][kRows]) {
#pragma unroll
    for (int lane = 1; lane < static_cast<int>(kWarp); lane *= 2)
      x = maximum_of(x, __shfl_xor_sync(~0u, x, lane));
    of_warps[thread() / static_cast<int>(kWarp)][r] = x;
  }
  __device__ static float greatest_of_warps(const float (&of_warps)[kWarps][kRows], int r) {
    float x = of_warps[0][r];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) x = maximum_of(x, of_warps[warp][r]);
    return x;
  }
  // Scores become z, relative to e; y, with the value's exponent, and each row's greatest.
  __device__ void find_greatest(int block, float (&z)[kRows], float (&y)[kRows],
                                const bool (&seen)[kRows]) const {
    const int key = block + thread();
    const bool there = key >= begin && key < end;
    const float f =
        there ? value_exponent(p.v_exponents[view.key_row(p, key) * p.kv_heads + blockIdx.y]) : 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) continue;
      z[r] = z[r] - greatest_of_warps(shared.warp_e, r);
      y[r] = seen[r] ? z[r] + f : kUnseen;
      share_maximum(y[r], r, shared.warp_g);
    }
  }
  // The codes of weights, and the sums of l's.
  __device__ void weigh(const float (&z)[kRows], const float (&y)[kRows],
                        const bool (&seen)[kRows]) const {
    auto* bytes = reinterpret_cast<uint8_t*>(codes);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) continue;
      const float g = greatest_of_warps(shared.warp_g, r),
                  t = seen[r] ? exp2p(code_exponent(y[r], g)) : 0.0f,
                  weight = seen[r] ? exp2p(z[r] + total_shift(g, kSlices)) : 0.0f;
      const auto store = [&](int slice, float code) {
        bytes[(slice * kRows + r) * kBlockKeys + thread()] =
            static_cast<uint8_t>(packed_codes(code, 0, 0, 0));
      };
      store(0, t);
      if constexpr (kSlices == 2) store(1, (t - round_even(t)) * 128.0f);
      int32_t total = is_nan(weight) ? 0 : whole_number(weight);
#pragma unroll
      for (int lane = 1; lane < static_cast<int>(kWarp); lane *= 2)
        total += __shfl_xor_sync(~0u, total, lane);
      shared.warp_total[thread() / static_cast<int>(kWarp)][r] = total;
    }
  }
  // By a thread for each row.
  __device__ void join_block(int block) const {
    const int r = thread();
    if (r >= rows) return;
    const Range range = view.visible(p, view.first_row + r);
    shared.alpha[r] = 1;
    shared.unit[r] = -0.0f;  // sums of no codes leave o as it is
    if (range.begin >= block + kBlockKeys || range.end <= block || range.begin >= range.end) return;
    const float e = greatest_of_warps(shared.warp_e, r), g = greatest_of_warps(shared.warp_g, r);
    int32_t sum = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) sum += shared.warp_total[warp][r];
    const auto total = static_cast<float>(sum);
    if (p.states.of_blocks()) {
      shared.m[r] = e;
      shared.l[r] = is_nan(g) ? g : total;
      shared.g[r] = g;
      shared.unit[r] = 1;
    } else {
      shared.unit[r] = go_on(shared.m[r], shared.l[r], shared.alpha[r], e, g, total, kSlices);
    }
  }
  // The products of a warp's 32 keys: a thread has four columns at a time, of all rows.
  __device__ void multiply_values(int block) const {
    const int warp = thread() / static_cast<int>(kWarp), words = (keys_of(block) + 3) / 4,
              last = (warp + 1) * kKeyWords / kWarps;
    for (int c = thread() % static_cast<int>(kWarp); c < v_words; c += static_cast<int>(kWarp)) {
      int32_t sum[kSlices][kRows][4] = {};
      for (int w = warp * kKeyWords / kWarps; w < last && w < words; ++w) {
        uint32_t of_keys[4], column[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) of_keys[i] = values[(4 * w + i) * v_words + c];
        transpose_bytes(of_keys, column);
#pragma unroll
        for (int slice = 0; slice < kSlices; ++slice)
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            if (r >= rows) continue;
            const auto code = static_cast<int>(codes[(slice * kRows + r) * kKeyWords + w]);
#pragma unroll
            for (int i = 0; i < 4; ++i)
              sum[slice][r][i] = __dp4a(code, static_cast<int>(column[i]), sum[slice][r][i]);
          }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          sums[((warp * kRows + r) * v_words + c) * 4 + i] =
              kSlices == 2 ? sum[0][r][i] * 128 + sum[kSlices - 1][r][i] : sum[0][r][i];
    }
  }
  __device__ void join_values() const {
    const int width = 4 * v_words;
    for (int i = thread(); i < rows * width; i += kThreads) {
      int32_t sum = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp * kRows * width + i];
      o[i] = fma32(static_cast<float>(sum), shared.unit[i / width], o[i] * shared.alpha[i / width]);
    }
  }

  __device__ void attend_block(int block) const {
    float z[kRows], y[kRows];
    bool seen[kRows];
    __syncthreads();
    load_block(block);
    __syncthreads();
    score(block, z, seen);
    __syncthreads();
    find_greatest(block, z, y, seen);
    __syncthreads();
    weigh(z, y, seen);
    __syncthreads();
    join_block(block);
    multiply_values(block);
    __syncthreads();
    join_values();
  }

  // merge(total, state), as the total; the state is that of no keys again.
  __device__ void end_part() const {
    __syncthreads();
    const int width = 4 * v_words;
    const auto merged = [&](int r, float a, float b) {
      const float m = maximum_of(shared.total_m[r], shared.m[r]);
      return fma32(b, exp2p(shared.m[r] - m), a * exp2p(shared.total_m[r] - m));
    };
    for (int i = thread(); i < rows * width; i += kThreads) {
      const int r = i / width;
      if (shared.l[r] != 0)
        total_o[i] = shared.total_l[r] == 0 ? o[i] : merged(r, total_o[i], o[i]);
      o[i] = 0;
    }
    __syncthreads();
    if (thread() < rows && shared.l[thread()] != 0) {
      const int r = thread();
      shared.total_l[r] =
          shared.total_l[r] == 0 ? shared.l[r] : merged(r, shared.total_l[r], shared.l[r]);
      shared.total_m[r] = maximum_of(shared.total_m[r], shared.m[r]);
      shared.m[r] = kUnseen;
      shared.l[r] = 0;
    }
  }
  __device__ void attend() const {
    if (thread() < kRows) {
      shared.m[thread()] = shared.total_m[thread()] = kUnseen;
      shared.l[thread()] = shared.total_l[thread()] = shared.g[thread()] = 0;
    }
    for (int i = thread(); i < kRows * 4 * v_words; i += kThreads) o[i] = total_o[i] = 0;
    load_queries();
    for (int block = begin / kBlockKeys * kBlockKeys; block < end; block += kBlockKeys) {
      if (block % kKeyRestart == 0) end_part();
      attend_block(block);
    }
    end_part();
    __syncthreads();
  }
  __device__ void store() const {
    const auto place = [&](int r) {
      return piece * p.states.rows + view.head_row(p, view.first_row + r);
    };
    for (int i = thread(); i < rows * static_cast<int>(p.value_size); i += kThreads) {
      const int r = i / static_cast<int>(p.value_size), c = i % static_cast<int>(p.value_size);
      p.states.o[place(r) * p.value_size + c] = total_o[r * 4 * v_words + c];
    }
    if (thread() >= rows) return;
    float* of_row = p.states.of_rows + 3 * place(thread());
    of_row[0] = shared.total_m[thread()];
    of_row[1] = shared.total_l[thread()];
    of_row[2] = shared.g[thread()];
  }
};

template <int kSlices>
__global__ void __launch_bounds__((RowAttention<kSlices>::kThreads)) attend_rows(RowsCall p) {
  __shared__ typename RowAttention<kSlices>::Shared shared;
  const RowAttention<kSlices> attention(p, shared);
  attention.attend();
  attention.store();
}

struct RowState {
  float m = kUnseen, l = 0, o = 0;
  // On with a block's e, g, and sums.
  __device__ void go_on_with(float e, float total, float g, float sum, int slices) {
    if (total == 0) return;
    float alpha;
    const float unit = go_on(m, l, alpha, e, g, total, slices);
    o = fma32(sum, unit, o * alpha);
  }
  // merge(this, next)
  __device__ void merge(const RowState& next) {
    if (next.l == 0) return;
    if (l == 0) {
      *this = next;
      return;
    }
    const float best = maximum_of(m, next.m);
    const float alpha = exp2p(m - best), beta = exp2p(next.m - best);
    o = fma32(next.o, beta, o * alpha);
    l = fma32(next.l, beta, l * alpha);
    m = best;
  }
};
// finish_int8_row() of a row in shared memory, to `out`.
__device__ void turn_back(float* row, int64_t n, int64_t rotation, float factor, float* out) {
  __syncthreads();
  rotate_row(row, n, rotation);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) out[i] = canonical(row[i] * factor);
  __syncthreads();
}

// The results, from what rows have of the pieces, ascending: o * (1 / l), turned back.
__global__ void __launch_bounds__(256)
    finish_rows(PieceStates s, int64_t n, int64_t rotation, float factor, float* out) {
  float* row = shared_memory<float>();
  const int of_part = static_cast<int>(least(kKeyRestart, s.piece_keys));
  for (int64_t r = blockIdx.x; r < s.rows; r += gridDim.x) {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      RowState total, part;
#pragma unroll 4
      for (int piece = 0; piece < s.pieces; ++piece) {
        const int64_t place = piece * s.rows + r;
        const float *of_row = s.of_rows + 3 * place, o = s.o[place * n + i];
        if (piece * of_part % kKeyRestart == 0) {
          total.merge(part);
          part = {};
        }
        if (s.of_blocks())
          part.go_on_with(of_row[0], of_row[1], of_row[2], o, s.slices);
        else
          part.merge({of_row[0], of_row[1], o});
      }
      total.merge(part);
      row[i] = total.l == 0 ? 0.0f : total.o * (1.0f / total.l);
    }
    turn_back(row, n, rotation, factor, out + r * n);
  }
}

// Few rows leave most of the device idle, unless pieces of their keys go side by side: parts, or
// blocks where parts are too few as well.
int64_t keys_of_piece(const Gpu& gpu, int64_t blocks, int64_t keys, int64_t batch) {
  int64_t piece = (keys / kKeyRestart + 1) * kKeyRestart;
  for (const int64_t finer : {kKeyRestart, kKeyBlock}) {
    if (keys <= finer) continue;
    if (blocks * ceiling(keys, piece) >= 2 * gpu.device().multiprocessors ||
        batch * ceiling(keys, finer) > kMostInYAndZ)
      break;
    piece = finer;
  }
  return piece;
}

template <int kSlices>
Outcome launch_rows(Gpu& gpu, const Int8AttentionCall& call, int64_t batch, Tensor out) {
  using Attention = RowAttention<kSlices>;
  const auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 4 == 0; };
  RowsCall p{call,
             {},
             call.head_size % 4 == 0 && call.value_size % 4 == 0 && aligned(call.q) &&
                 aligned(call.k) && aligned(call.v)};
  const int64_t blocks = ceiling(p.queries * (p.heads / p.kv_heads), Attention::kRows) *
                         p.kv_heads * batch,
                piece = keys_of_piece(gpu, blocks, p.keys, batch),
                bytes = Attention::shared_words(p) * int64_t{sizeof(uint32_t)};
  if (bytes > int64_t{kMostShared}) return not_handled();
  p.states.pieces = static_cast<int>(p.keys > 0 ? ceiling(p.keys, piece) : 1);
  p.states.piece_keys = static_cast<int>(piece);
  p.states.rows = batch * p.queries * p.heads;
  VB_ASSIGN(Tensor o, Tensor::allocate_on(gpu, DType::f32,
                                          Shape{p.states.pieces, p.states.rows, p.value_size},
                                          Purpose::scratch));
  VB_ASSIGN(Tensor of_rows,
            Tensor::allocate_on(gpu, DType::f32, Shape{p.states.pieces, p.states.rows, 3},
                                Purpose::scratch));
  p.states.o = reinterpret_cast<float*>(o.mutable_address());
  p.states.of_rows = reinterpret_cast<float*>(of_rows.mutable_address());
  p.states.slices = kSlices;
  VB_TRY(launch(gpu,
                {.blocks = {static_cast<unsigned>(
                                ceiling(p.queries * (p.heads / p.kv_heads), Attention::kRows)),
                            static_cast<unsigned>(p.kv_heads),
                            static_cast<unsigned>(batch * p.states.pieces)},
                 .threads = {Attention::kThreads, 1, 1},
                 .shared_bytes = static_cast<size_t>(bytes)},
                attend_rows<kSlices>, p));
  VB_TRY(launch(gpu, grid_of_shared_rows(p.states.rows, p.value_size), finish_rows, p.states,
                p.value_size, rotation_block(p.value_size), p.o_factor,
                static_cast<float*>(p.out)));
  return done({std::move(out)});
}

// --- prefill by warp groups

// Results that are o * (1 / l), turned back.
__global__ void __launch_bounds__(256)
    turn_rows(int64_t rows, int64_t n, int64_t rotation, float factor, float* out) {
  float* row = shared_memory<float>();
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) row[i] = out[r * n + i];
    turn_back(row, n, rotation, factor, out + r * n);
  }
}

constexpr unsigned kArrangeThreads = 256;
// A block of keys: its values' codes along the keys, and its numbers as
// group_int8_attention.cuh wants them. Zeros for what is no key.
template <int kSize>
__global__ void __launch_bounds__(kArrangeThreads)
    arrange_values(Int8AttentionCall p, int8_t* values, float* numbers) {
  constexpr int kWords = kSize / 4, kPieces = kSize / 16;
  // Keys that go into one word of all places together lie in banks of their own.
  const auto place_of = [](int key) { return key * (kWords + 1) + key / 32 % 2 + key / 64 * 8; };
  __shared__ uint32_t tile[kBlockKeys * (kWords + 1) + 9];
  const int kv_heads = static_cast<int>(p.kv_heads), kv = static_cast<int>(blockIdx.y) % kv_heads,
            chunk = static_cast<int>(blockIdx.y) / kv_heads, first_column = chunk * kSize;
  const AttentionView<int8_t> view(p, blockIdx.z, kv, first_column, 0);
  const int block = static_cast<int>(blockIdx.x) * kBlockKeys,
            head = static_cast<int>(blockIdx.z) * kv_heads + kv;
  values += (int64_t{head} * (gridDim.y / static_cast<unsigned>(kv_heads)) + chunk) * kSize *
                int64_t{gridDim.x} * kBlockKeys +
            block;
  const int64_t padded = int64_t{gridDim.x} * kBlockKeys;
  struct alignas(16) Piece {
    uint32_t word[4];
  };
  for (int i = static_cast<int>(threadIdx.x); i < kBlockKeys * kPieces; i += kArrangeThreads) {
    const int key = i / kPieces, piece = i % kPieces;
    Piece codes{};
    if (block + key < view.length && first_column + piece * 16 < p.value_size)
      codes = reinterpret_cast<const Piece*>(view.v + view.key_row(p, block + key) * p.kv_heads *
                                                          p.value_size)[piece];
#pragma unroll
    for (int e = 0; e < 4; ++e) tile[place_of(key) + 4 * piece + e] = codes.word[e];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kBlockKeys / 4 * kWords; i += kArrangeThreads) {
    const int w = i % (kBlockKeys / 4), c = i / (kBlockKeys / 4);
    uint32_t of_keys[4], of_columns[4];
#pragma unroll
    for (int e = 0; e < 4; ++e)
      of_keys[e] = tile[place_of(w / 8 * 32 + key_at_place(w % 8 * 4 + e)) + c];
    transpose_bytes(of_keys, of_columns);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      reinterpret_cast<uint32_t*>(values + (4 * c + e) * padded)[w] = of_columns[e];
  }
  if (chunk > 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < kKinds * kBlockKeys; i += kArrangeThreads) {
    const int kind = i / kBlockKeys, key = block + key_of_number(i % kBlockKeys);
    float number = kind == kPlace ? kScoreGrid : 0.0f;
    if (key < view.length) {
      const int64_t at = view.key_row(p, key) * p.kv_heads + kv;
      const int32_t f = p.v_exponents[at];
      number = kind == kKeyScale ? p.k_scales[at]
               : kind == kPlace  ? kScoreGrid + value_exponent(f)
                                 : value_step(f);
    }
    numbers[(int64_t{head} * gridDim.x + blockIdx.x) * (kKinds * kBlockKeys) + i] = number;
  }
}

// Whether this is one for warp groups: of Hopper, with rows enough for two of them, and keys that
// the copy engine finds in whole blocks. k_rows: of the tensor of keys.
bool suits_groups(const Gpu& gpu, const Int8AttentionCall& p, int64_t batch, int64_t k_rows) {
  constexpr int64_t kMost = 1 << 30;  // places are 32-bit integers
  const auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; };
  const int64_t chunks = ceiling(p.value_size, kSlabBytes);
  return gpu.device().hopper && p.head_size % 16 == 0 && p.head_size <= 2 * kSlabBytes &&
         p.value_size % 16 == 0 && p.kv_heads * chunks <= kMostInYAndZ &&
         p.queries * (p.heads / p.kv_heads) > 64 && p.page_size % kKeyBlock == 0 && k_rows > 0 &&
         k_rows < kMost && p.keys > 0 && batch * p.kv_heads * chunks * kSlabBytes < kMost &&
         batch * p.kv_heads * (p.keys / 16 + 8) < kMost && aligned(p.q) && aligned(p.k) &&
         aligned(p.v);
}

template <int kSize, int kSlabs, int kSlices, bool kCaps>
Outcome launch_groups_of(Gpu& gpu, const Int8AttentionCall& call, int64_t batch, int64_t k_rows,
                         Tensor out) {
  using Attention = GroupInt8Attention<kSize, kSlabs, kSlices, kCaps>;
  const int64_t heads = batch * call.kv_heads, chunks = ceiling(call.value_size, kSize),
                columns = heads * chunks * kSize, blocks = ceiling(call.keys, kKeyBlock),
                rows = call.queries * (call.heads / call.kv_heads);
  VB_ASSIGN(Tensor values, Tensor::allocate_on(gpu, DType::i8, Shape{columns, blocks * kKeyBlock},
                                               Purpose::scratch));
  VB_ASSIGN(Tensor numbers,
            Tensor::allocate_on(gpu, DType::f32, Shape{heads, blocks, kKinds, kKeyBlock},
                                Purpose::scratch));
  const Grid arranging{
      .blocks = {static_cast<unsigned>(blocks), static_cast<unsigned>(call.kv_heads * chunks),
                 static_cast<unsigned>(batch)},
      .threads = {kArrangeThreads, 1, 1}};
  VB_TRY(launch(gpu, arranging, arrange_values<kSize>, call,
                reinterpret_cast<int8_t*>(values.mutable_address()),
                reinterpret_cast<float*>(numbers.mutable_address())));
  GroupInt8Call p{call,
                  {},
                  {},
                  reinterpret_cast<const float*>(numbers.address()),
                  static_cast<int>(blocks),
                  call.keys > kKeyRestart};
  VB_ASSIGN(p.keys, map_tiles(call.k, k_rows, call.kv_heads * call.head_size, kBlockKeys));
  VB_ASSIGN(p.values, map_tiles(values.address(), columns, blocks * kKeyBlock, kSize));
  const Grid grid{
      .blocks = {static_cast<unsigned>(ceiling(rows, Attention::kRows)),
                 static_cast<unsigned>(call.kv_heads * chunks), static_cast<unsigned>(batch)},
      .threads = {Attention::kThreads, 1, 1},
      .shared_bytes = Attention::shared_bytes(p.restarts),
      .early = true};
  VB_TRY(launch(gpu, grid, attend_int8_groups<kSize, kSlabs, kSlices, kCaps>, p));
  if (p.value_size != kSize) {
    const int64_t results = batch * p.queries * p.heads;
    VB_TRY(launch(gpu, grid_of_shared_rows(results, p.value_size), turn_rows, results, p.value_size,
                  rotation_block(p.value_size), p.o_factor, static_cast<float*>(p.out)));
  }
  return done({std::move(out)});
}

template <int kSize, int kSlabs, int kSlices>
Outcome launch_groups(Gpu& gpu, const Int8AttentionCall& p, int64_t batch, int64_t k_rows,
                      Tensor out) {
  return p.softcap == 0
             ? launch_groups_of<kSize, kSlabs, kSlices, false>(gpu, p, batch, k_rows, out)
             : launch_groups_of<kSize, kSlabs, kSlices, true>(gpu, p, batch, k_rows, out);
}

template <int kSlices>
Outcome launch_attention(Gpu& gpu, const Int8AttentionCall& p, int64_t batch, int64_t k_rows,
                         Tensor out) {
  if (!suits_groups(gpu, p, batch, k_rows)) return launch_rows<kSlices>(gpu, p, batch, out);
  if (p.head_size > kSlabBytes) return launch_groups<128, 2, kSlices>(gpu, p, batch, k_rows, out);
  if (p.head_size > 64 || p.value_size > 64)
    return launch_groups<128, 1, kSlices>(gpu, p, batch, k_rows, out);
  return launch_groups<64, 1, kSlices>(gpu, p, batch, k_rows, out);
}

// --- operands

// Rows of x float32 [..., heads * size], each of `size`, as codes with scales or exponents of
// rows_type.
struct Codes {
  Tensor codes, of_rows;
};
Result<Codes> codes_of(Gpu& gpu, const Tensor& x, int64_t heads, DType rows_type, Purpose purpose) {
  const int64_t size = x.dim(2) / heads;
  Codes c;
  VB_ASSIGN(c.codes, Tensor::allocate_on(gpu, DType::i8, x.shape(), purpose));
  VB_ASSIGN(c.of_rows,
            Tensor::allocate_on(gpu, rows_type, Shape{x.dim(0), x.dim(1), heads}, purpose));
  void* rows = c.of_rows.mutable_address();
  const bool scales = rows_type == DType::f32;
  VB_TRY(quantize_rows(gpu,
                       {.x = reinterpret_cast<const float*>(x.address()),
                        .n = size,
                        .rotation = rotation_block(size),
                        .codes = reinterpret_cast<int8_t*>(c.codes.mutable_address()),
                        .scales = scales ? static_cast<float*>(rows) : nullptr,
                        .exponents = scales ? nullptr : static_cast<int32_t*>(rows)},
                       c.of_rows.elements()));
  return c;
}

struct Operands {
  AttentionSettings settings;
  int64_t slices;
  Codes q, k, v;
};
// Nothing where the reference is to say what is wrong, or the kernels have none for these.
std::optional<Operands> checked(const Node& node, std::span<const Tensor> inputs, bool cached) {
  const auto input = [&](size_t i) { return i < inputs.size() ? inputs[i] : Tensor(); };
  const Tensor shapes[] = {inputs[0], inputs[1], inputs[2], input(cached ? 5 : 3),
                           cached ? input(6) : Tensor()};
  const Result<AttentionSettings> s = attention_shapes(node, shapes);
  const Result<int64_t> slices = node.attributes.get<int64_t>("weight_slices", 1);
  const DType codes = cached ? DType::i8 : DType::f32;
  if (!s.ok() || !slices.ok() || (*slices != 1 && *slices != 2) ||
      inputs[0].dtype() != DType::f32 || inputs[1].dtype() != codes || inputs[2].dtype() != codes ||
      s->head_size > kMaxQuantizedK || s->output[0] > kMostInYAndZ || s->kv_heads > kMostInYAndZ ||
      !quantizes(s->head_size) || !quantizes(s->value_size))
    return std::nullopt;
  if (cached) {
    const Shape rows{inputs[1].dim(0), inputs[1].dim(1), s->kv_heads};
    if (inputs[3].dtype() != DType::f32 || inputs[4].dtype() != DType::i32 ||
        !(inputs[3].shape() == rows) || !(inputs[4].shape() == rows))
      return std::nullopt;
  }
  return Operands{*s, *slices, {}, {}, {}};
}

Outcome run_quantize_cache(Gpu& gpu, const Node& node, const Tensor& x, DType rows_type) {
  const Result<int64_t> heads = node.attributes.require<int64_t>("heads");
  if (!heads.ok() || *heads < 1 || x.dtype() != DType::f32 || x.rank() != 3 || x.dim(2) == 0 ||
      x.dim(2) % *heads != 0 || !quantizes(x.dim(2) / *heads))
    return not_handled();
  VB_ASSIGN(Codes c, codes_of(gpu, x, *heads, rows_type, Purpose::result));
  if (rows_type == DType::i32) gpu.know(c.of_rows, Gpu::Known::value_exponents);
  return done({std::move(c.codes), std::move(c.of_rows)});
}

constexpr bool is_value_exponent(int32_t f) {
  return f == kFlaggedRow || (f >= kLeastValueExponent && f <= kGreatestValueExponent);
}
__global__ void check_exponents(const int32_t* exponents, int64_t n, int64_t* beyond) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * blockDim.x)
    if (!is_value_exponent(exponents[i])) *beyond = 1;
}

}  // namespace

Outcome run_quantize_keys(Gpu& gpu, const KernelBackend&, const Node& node,
                          std::span<const Tensor> inputs) {
  return run_quantize_cache(gpu, node, inputs[0], DType::f32);
}
Outcome run_quantize_values(Gpu& gpu, const KernelBackend&, const Node& node,
                            std::span<const Tensor> inputs) {
  return run_quantize_cache(gpu, node, inputs[0], DType::i32);
}

// Codes on the device are never -128; exponents there may be those of slices.
Result<bool> admits_cache(Gpu& gpu, const Tensor& t) {
  if (t.dtype() != DType::i32) return true;
  if (t.device() == nullptr) return std::ranges::all_of(t.data<int32_t>(), is_value_exponent);
  if (t.elements() == 0 || gpu.knows(t, Gpu::Known::value_exponents)) return true;
  const int64_t none[] = {0};
  VB_ASSIGN(Tensor beyond, upload(gpu, none));
  VB_TRY(launch(gpu, grid_for(t.elements()), check_exponents,
                reinterpret_cast<const int32_t*>(t.address()), t.elements(),
                reinterpret_cast<int64_t*>(beyond.mutable_address())));
  VB_ASSIGN(const Tensor found, beyond.on_host());
  const bool all = found.data<int64_t>()[0] == 0;
  if (all) gpu.know(t, Gpu::Known::value_exponents);
  return all;
}

Outcome run_int8_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                           std::span<const Tensor> inputs) {
  const bool cached = node.op == "AttentionInt8Cached";
  std::optional<Operands> operands = checked(node, inputs, cached);
  if (!operands) return not_handled();
  auto& [s, slices, q, k, v] = *operands;
  VB_ASSIGN(Tensor out, backend.allocate(DType::f32, s.output));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(q, codes_of(gpu, inputs[0], s.heads, DType::f32, Purpose::scratch));
  if (cached) {
    k = {inputs[1], inputs[3]};
    v = {inputs[2], inputs[4]};
  } else {
    VB_ASSIGN(k, codes_of(gpu, inputs[1], s.kv_heads, DType::f32, Purpose::scratch));
    VB_ASSIGN(v, codes_of(gpu, inputs[2], s.kv_heads, DType::i32, Purpose::scratch));
  }
  const Tensor codes[] = {q.codes, k.codes, v.codes};
  VB_ASSIGN(const std::optional<PlacedAttention> placed,
            place_attention(gpu, s, codes, out.mutable_address()));
  if (!placed) return not_handled();
  const auto inverse = [](int64_t n) { return 1.0f / static_cast<float>(rotation_block(n)); };
  const Int8AttentionCall p{placed->call,
                            reinterpret_cast<const float*>(q.of_rows.address()),
                            reinterpret_cast<const float*>(k.of_rows.address()),
                            reinterpret_cast<const int32_t*>(v.of_rows.address()),
                            inverse(s.head_size),
                            inverse(s.value_size),
                            static_cast<int>(slices)};
  const int64_t batch = s.output[0], k_rows = inputs[1].dim(0) * inputs[1].dim(1);
  return slices == 2 ? launch_attention<2>(gpu, p, batch, k_rows, out)
                     : launch_attention<1>(gpu, p, batch, k_rows, out);
}

}  // namespace verbatim::cuda
