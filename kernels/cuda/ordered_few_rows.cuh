// Ordered attention of few rows, as of decoded tokens, in binary32 (docs/numerics.md, Attention,
// family A). Blocks of 128 keys have states of their own, and only their merge is a chain: so each
// piece of the keys, a block or a part of 2048, has a block of threads, and a second kernel merges.
// A score is one thread's chain: a thread has a key, and four rows of it. So is an output: a thread
// has a column, and two rows of it.
#pragma once

#include <verbatim/kernels/cuda/ordered_attention.cuh>
#include <verbatim/kernels/cuda/simt_product.cuh>

namespace verbatim::cuda::ordered {

struct FewRowsCall : AttentionCall {
  bool in_words = false;  // 16 bytes at once may be copied
  int64_t all_rows = 0;   // those of the results
  int pieces = 0, piece_keys = 0;
  // Their states: o [pieces, all_rows, value_size], and m and l [pieces, all_rows, 2], l being 0 of
  // a row that sees nothing.
  float *o = nullptr, *ml = nullptr;
};

// What a merge multiplies by: alpha is for the states before, and beta for the one that joins them.
// Merges are a chain, but what they multiply by is not, as it only takes the greatest scores.
struct Factors {
  float alpha = 0, beta = 0;
};
// Of a state whose greatest score is m; `before` is that of those before.
__device__ inline Factors factors_of(float before, float m) {
  const float best = maximum(before, m);
  return {unary::f32::exp2(before - best), unary::f32::exp2(m - best)};
}
// The merge of states, of one column; a state whose l is 0 is of no key.
struct Merged {
  float l = 0, o = 0;
  __device__ void add(float other_l, float other_o, const Factors& by) {
    if (other_l == 0) return;
    o = l == 0 ? other_o : fma32(other_o, by.beta, o * by.alpha);
    l = l == 0 ? other_l : fma32(other_l, by.beta, l * by.alpha);
  }
};

template <class T>
struct FewRows {
  static constexpr int kKeys = static_cast<int>(kKeyBlock), kThreads = kKeys,
                       kLanes = static_cast<int>(kWarp), kWarps = kThreads / kLanes;
  static constexpr int kFew = 4;                        // rows
  static constexpr int kColumns = 64, kThreadRows = 2;  // of values
  // Elements of keys, or columns of values, come in slabs, whose rows meet in no bank.
  static constexpr int kDepth = 64, kSlabRow = kDepth + 4, kStages = 2;
  static_assert(kThreads * kThreadRows == kColumns * kFew && kColumns == kDepth);

  struct Shared {
    Four slabs[kStages][kKeys][kSlabRow / 4];
    Four weights[kKeys];  // of the four rows
    Four best[kWarps];
    float m[kFew], l[kFew];  // m: of all blocks of the piece so far
    Factors factors[kFew];
    Range seen[kFew];
  };
  __device__ int depth() const { return static_cast<int>(ceiling(p.head_size, 4)); }
  static size_t shared_bytes(const AttentionCall& p) {
    return sizeof(Shared) + sizeof(Four) * kFew * static_cast<size_t>(ceiling(p.head_size, 4));
  }

  const FewRowsCall& p;
  const int piece, column, columns;
  const AttentionView<T> view;
  Shared& shared;
  Four* const queries;  // [kFew][depth()]
  const int t, key_slabs;
  const int rows;         // that there are
  int first, end, slabs;  // keys: the first one of a block, and the end of what rows see

  __device__ FewRows(const FewRowsCall& call, int chunks)
      : p(call),
        piece(static_cast<int>(blockIdx.x) / chunks),
        column(static_cast<int>(blockIdx.x) % chunks * kColumns),
        columns(static_cast<int>(least(kColumns, call.value_size - column))),
        view(call, blockIdx.z, blockIdx.y % static_cast<unsigned>(call.kv_heads), column,
             int64_t{blockIdx.y / static_cast<unsigned>(call.kv_heads)} * kFew),
        shared(*shared_memory<Shared>()),
        queries(reinterpret_cast<Four*>(&shared + 1)),
        t(static_cast<int>(threadIdx.x)),
        key_slabs(static_cast<int>(ceiling(call.head_size, kDepth))),
        rows(static_cast<int>(least(kFew, view.rows - view.first_row))) {
    // Neither end of what is seen decreases from row to row.
    const int64_t last = view.first_row + rows - 1;
    const auto begin_of_piece = int64_t{piece} * p.piece_keys;
    const int64_t begin = view.visible(p, view.first_row).begin;
    first = static_cast<int>((begin > begin_of_piece ? begin : begin_of_piece) / kKeys * kKeys);
    end = static_cast<int>(least(view.visible(p, last).end, begin_of_piece + p.piece_keys));
    slabs = first < end ? static_cast<int>(ceiling(end - first, kKeys)) * (key_slabs + 1) : 0;
  }

  // --- what comes from memory

  // The first `count` elements of a block's rows, zeros for keys that are not there.
  __device__ void fetch_rows(const T* base, int64_t size, int block, int64_t count,
                             Four (*to)[kSlabRow / 4]) const {
    const auto row = [&](int r) { return base + view.key_row(p, block + r) * p.kv_heads * size; };
    if (std::is_same_v<T, float> && p.in_words) {
      constexpr int kPieces = kDepth / 4;
      const int i = t % kPieces;
#pragma unroll 4
      for (int r = t / kPieces; r < kKeys; r += kThreads / kPieces) {
        const bool there = block + r < end && 4 * i < count;
        copy_later(&to[r][i], there ? row(r) + 4 * i : p.k, there);
      }
      return;
    }
#pragma unroll 1
    for (int i = t; i < kKeys * kDepth; i += kThreads) {
      const int r = i / kDepth, c = i % kDepth;
      to[r][c / 4].v[c % 4] = block + r < end && c < count ? load(row(r)[c]) : 0.0f;
    }
  }
  // Of each block its keys' slabs, and then its values'.
  __device__ void fetch(int slab) const {
    if (slab < slabs) {
      const int block = first + slab / (key_slabs + 1) * kKeys, at = slab % (key_slabs + 1);
      auto* to = shared.slabs[slab % kStages];
      const bool of_keys = at < key_slabs;
      const int64_t size = of_keys ? p.head_size : p.value_size,
                    count = of_keys ? p.head_size - at * kDepth : columns;
      fetch_rows(of_keys ? view.k + at * kDepth : view.v, size, block, count, to);
    }
    commit_copies();
  }
  __device__ void read_rows() const {
    if (t < kFew) {
      shared.seen[t] = view.visible(p, view.first_row + t);
      shared.m[t] = kUnseen;
    }
    for (int i = t; i < kFew * depth() * 4; i += kThreads) {
      const int64_t row = view.first_row + i / (depth() * 4), at = i % (depth() * 4);
      queries[i / 4].v[i % 4] = row < view.rows && at < p.head_size
                                    ? load(view.q[view.head_row(p, row) * p.head_size + at])
                                    : 0.0f;
    }
  }

  // --- a block of keys

  // Four elements of the thread's key, of which so many are there, by those of four rows.
  __device__ void multiply(const Four& key, int at, int count, float (&s)[kFew]) const {
#pragma unroll
    for (int r = 0; r < kFew; ++r) {
      const Four query = queries[r * depth() + at];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (e < count) s[r] = fma32(query.v[e], key.v[e], s[r]);
    }
  }
  __device__ void multiply_slab(const Four* key, int slab, float (&s)[kFew]) const {
    const int at = slab * kDepth / 4,
              count = static_cast<int>(least(kDepth, p.head_size - slab * kDepth));
#pragma unroll 4
    for (int i = 0; i < count / 4; ++i) multiply(key[i], at + i, 4, s);
    if (count % 4 != 0) multiply(key[count / 4], at + count / 4, count % 4, s);
  }
  // Weights of the keys, the sums and the factors of the rows, into shared memory. Rolled up, as
  // the functions are long.
  __device__ void weigh(int block, const float (&s)[kFew]) const {
    float(&x)[kFew] = shared.weights[t].v;
#pragma unroll
    for (int r = 0; r < kFew; ++r) x[r] = s[r];
#pragma unroll 1
    for (int r = 0; r < rows; ++r) {
      x[r] = p.scaled_score(x[r]);
      float best = shared.seen[r].has(block + t) ? x[r] : kUnseen;
      for (int other = 1; other < kLanes; other *= 2)
        best = maximum(best, __shfl_xor_sync(~0u, best, other));
      if (t % kLanes == 0) shared.best[t / kLanes].v[r] = best;
    }
    __syncthreads();
#pragma unroll 1
    for (int r = 0; r < rows; ++r) x[r] = unary::f32::exp2(x[r] - greatest_of_block(r));
    if (t < rows) {
      const float before = shared.m[t], m = greatest_of_block(t);
      shared.factors[t] = factors_of(before, m);
      shared.m[t] = maximum(before, m);
    }
    __syncthreads();
    if (t < kFew * static_cast<int>(kKeyLanes)) add_weights(block);
  }
  __device__ float greatest_of_block(int row) const {
    float m = shared.best[0].v[row];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) m = maximum(m, shared.best[warp].v[row]);
    return m;
  }
  __device__ void add_weights(int block) const {
    constexpr int kSumLanes = static_cast<int>(kKeyLanes);
    const int r = t / kSumLanes, lane = t % kSumLanes;
    const Range seen = shared.seen[r];
    float sum = 0;
#pragma unroll 4
    for (int key = lane; key < kKeys; key += kSumLanes)
      if (seen.has(block + key)) sum = sum + shared.weights[key].v[r];
    for (int other = 1; other < kSumLanes; other *= 2) sum = sum + __shfl_xor_sync(~0u, sum, other);
    if (lane == 0) shared.l[r] = sum;
  }

  __device__ int thread_row(int i) const { return t / kColumns * kThreadRows + i; }
  // The thread's column of what its rows see.
  __device__ void add_values(int block, const Four (*values)[kSlabRow / 4],
                             float (&o)[kThreadRows]) const {
    const int c = t % kColumns;
    Range seen[kThreadRows];
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      seen[i] = shared.seen[thread_row(i)];
      seen[i] = {seen[i].begin > block ? seen[i].begin - block : 0,
                 least(seen[i].end - block, kKeys)};
      o[i] = 0;
    }
    const auto add = [&](int i, int key) {
      o[i] = fma32(shared.weights[key].v[thread_row(i)], values[key][c / 4].v[c % 4], o[i]);
    };
    if (seen[0].begin == seen[1].begin && seen[0].end == seen[1].end) {
#pragma unroll 8
      for (int key = static_cast<int>(seen[0].begin); key < static_cast<int>(seen[0].end); ++key) {
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) add(i, key);
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i)
      for (int key = static_cast<int>(seen[i].begin); key < static_cast<int>(seen[i].end); ++key)
        add(i, key);
  }

  // --- the piece

  struct Sums {
    float scores[kFew] = {};  // of the thread's key
    Merged states[kThreadRows];
  };
  __device__ void use(int slab, Sums& sums) const {
    const int block = first + slab / (key_slabs + 1) * kKeys, at = slab % (key_slabs + 1);
    const auto* rows_of_slab = shared.slabs[slab % kStages];
    if (at < key_slabs) {
      multiply_slab(rows_of_slab[t], at, sums.scores);
      if (at + 1 < key_slabs) return;
      weigh(block, sums.scores);
#pragma unroll
      for (float& s : sums.scores) s = 0;
      return;
    }
    float o[kThreadRows];
    add_values(block, rows_of_slab, o);
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      const int r = thread_row(i);
      sums.states[i].add(shared.l[r], o[i], shared.factors[r]);
    }
  }
  __device__ void attend() const {
    Sums sums;
#pragma unroll 1
    for (int slab = -kStages; slab < slabs; ++slab) {
      if (slab == -1) read_rows();
      if (slab >= 0) {
        wait_for_copies<kStages - 1>();
        __syncthreads();
        use(slab, sums);
        __syncthreads();
      }
      fetch(slab + kStages);
    }
    wait_for_copies<0>();
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) store_state(thread_row(i), sums.states[i]);
  }
  __device__ void store_state(int r, const Merged& state) const {
    const int c = t % kColumns;
    if (r >= rows || c >= columns) return;
    const int64_t at = piece * p.all_rows + view.head_row(p, view.first_row + r);
    p.o[at * p.value_size + column + c] = state.o;
    if (column + c != 0) return;
    p.ml[2 * at] = state.l == 0 ? kUnseen : shared.m[r];
    p.ml[2 * at + 1] = state.l;
  }
};

template <class T>
__global__ void __launch_bounds__(FewRows<T>::kThreads) attend_piece(FewRowsCall p) {
  FewRows<T>(p, static_cast<int>(ceiling(p.value_size, FewRows<T>::kColumns))).attend();
}

// --- the merge of pieces, by a block of threads for each row

inline constexpr int kMergeThreads = 128;

// A state without its o.
struct Summary {
  float m, l;
};
// The greatest score of states [first, last).
__device__ inline float greatest_score(const Summary* states, int first, int last) {
  float m = kUnseen;
#pragma unroll 4
  for (int i = first; i < last; ++i)
    if (states[i].l != 0) m = maximum(m, states[i].m);
  return m;
}
// Of state i, which is merged with those from `first` on.
__device__ inline Factors factors_of(const Summary* states, int first, int i) {
  return factors_of(greatest_score(states, first, i), states[i].m);
}

// Pieces, and the parts that they are of.
struct Merge {
  const FewRowsCall& p;
  const int of_part, count;  // pieces of a part, and parts
  Summary *pieces, *parts;
  Factors *piece_factors, *part_factors;

  static int parts_of(const FewRowsCall& p) {
    return static_cast<int>(ceiling(int64_t{p.pieces} * p.piece_keys, kKeyRestart));
  }
  static size_t shared_bytes(const FewRowsCall& p) {
    return (sizeof(Summary) + sizeof(Factors)) * static_cast<size_t>(p.pieces + parts_of(p));
  }
  __device__ Merge(const FewRowsCall& call, int part_count)
      : p(call),
        of_part(static_cast<int>(kKeyRestart) / call.piece_keys),
        count(part_count),
        pieces(shared_memory<Summary>()),
        parts(pieces + call.pieces),
        piece_factors(reinterpret_cast<Factors*>(parts + count)),
        part_factors(piece_factors + call.pieces) {}

  __device__ int first_of(int part) const { return part * of_part; }
  __device__ int last_of(int part) const {
    return static_cast<int>(least((part + 1) * of_part, p.pieces));
  }
  __device__ void find_factors(int64_t row) const {
    const int t = static_cast<int>(threadIdx.x);
    for (int i = t; i < p.pieces; i += kMergeThreads) {
      const float* ml = p.ml + 2 * (i * p.all_rows + row);
      pieces[i] = {ml[0], ml[1]};
    }
    __syncthreads();
    for (int i = t; i < p.pieces; i += kMergeThreads)
      piece_factors[i] = factors_of(pieces, i / of_part * of_part, i);
    for (int part = t; part < count; part += kMergeThreads) {
      float l = 0;
      for (int i = first_of(part); i < last_of(part); ++i)
        if (pieces[i].l != 0) l = 1;
      parts[part] = {greatest_score(pieces, first_of(part), last_of(part)), l};
    }
    __syncthreads();
    for (int part = t; part < count; part += kMergeThreads)
      part_factors[part] = factors_of(parts, 0, part);
    __syncthreads();
  }
  __device__ Merged merge(int64_t row, int64_t column) const {
    Merged total;
    for (int part = 0; part < count; ++part) {
      Merged of_its_pieces;
#pragma unroll 4
      for (int i = first_of(part); i < last_of(part); ++i)
        of_its_pieces.add(pieces[i].l, p.o[(i * p.all_rows + row) * p.value_size + column],
                          piece_factors[i]);
      total.add(of_its_pieces.l, of_its_pieces.o, part_factors[part]);
    }
    return total;
  }
};

template <class T>
__global__ void __launch_bounds__(kMergeThreads) merge_pieces(FewRowsCall p, int parts) {
  const Merge merge(p, parts);
  const int64_t row = blockIdx.x;
  merge.find_factors(row);
  for (int64_t c = threadIdx.x; c < p.value_size; c += kMergeThreads) {
    const Merged all = merge.merge(row, c);
    static_cast<T*>(p.out)[row * p.value_size + c] = store<T>(all.l == 0 ? 0.0f : all.o / all.l);
    if (p.m == nullptr || c != 0) continue;
    p.m[row] = all.l == 0 ? 0.0f : greatest_score(merge.parts, 0, parts);
    p.l[row] = all.l;
  }
}

}  // namespace verbatim::cuda::ordered
