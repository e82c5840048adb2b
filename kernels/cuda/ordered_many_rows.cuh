// Ordered attention of many rows, as of a prompt, in binary32 (docs/numerics.md, Attention, family
// A), on the SIMT cores. A block of four warps has 64 rows, and goes through the keys in blocks of
// 128. Both products of such a block, of queries and keys and of weights and values, are one loop
// (compare simt_product.cuh): a thread has 8 x 8 results, each one chain, and steps of 16 elements
// of all keys, or of 16 keys' values, come to shared memory while the step before is multiplied.
// Where a multiprocessor has memory for two or three such blocks, one multiplies while another
// weighs.
#pragma once

#include <verbatim/kernels/cuda/exact_exp2.cuh>
#include <verbatim/kernels/cuda/ordered_few_rows.cuh>
#include <verbatim/kernels/cuda/simt_product.cuh>

namespace verbatim::cuda::ordered {

struct ManyRowsCall : AttentionCall {
  bool in_words = false;                    // values may be copied 16 bytes at once
  uint32_t key_bytes = 0, value_bytes = 0;  // from one token's key, or value, to the next one's
};

// minimum(), whose every NaN is as good as another here.
__device__ inline float minimum_of(float a, float b) { return -maximum_of(-a, -b); }
__device__ inline uint32_t least_of(uint32_t a, uint32_t b) { return a < b ? a : b; }

// kColumns: of values.
template <class T, int kColumns>
struct ManyRows {
  static constexpr int kThreads = 128, kRows = 64, kKeys = static_cast<int>(kKeyBlock);
  static constexpr int kBlocks = kColumns > 64 ? 2 : 3;  // that registers are for, at once
  static constexpr int kMostSize = 128;                  // of heads
  static constexpr int kSlab = 8, kStep = 2 * kSlab;     // elements, or keys
  static constexpr int kPart = static_cast<int>(kKeyRestart);
  // Of an element, or a key: pieces of four floats begin at multiples of 16 bytes, and those that
  // eight threads copy, of neighbouring elements, are in different banks.
  static constexpr int kRowStride = kRows + 4, kKeyStride = kKeys + 4;
  // A thread's results, in pieces of 4 x 4: a warp has all rows, and a quarter of the columns.
  static constexpr int kI = 2, kKeyJ = 2, kValueJ = kColumns / kRows;
  static constexpr int kLanes = static_cast<int>(kKeyLanes), kLaneKeys = kKeys / kLanes;

  // Of a row: l is 0 where it has seen no key, else at least 1, or NaN.
  struct Sums {
    float m = kUnseen, l = 0;
  };
  struct alignas(16) Shared {
    float weights[kKeys + 1][kRowStride];  // scores, before; and a row that is read ahead
    float ring[2][kStep][kKeyStride];
    Exp2::Table exp2;
    uint32_t key_rows[2][kKeys];   // where keys lie, of this block of them and the next
    int begin[kRows], end[kRows];  // keys that rows see
    float alpha[kRows], beta[kRows];
    Sums total[kRows];  // of whole parts
  };
  // Queries lie behind it, and a row that is read ahead and not used.
  static size_t shared_bytes(const AttentionCall& p) {
    return sizeof(Shared) + sizeof(float) * static_cast<size_t>(p.head_size + 1) * kRowStride;
  }

  template <int kJ>
  using Results = float[4 * kI][4 * kJ];
  // Of one element or key.
  template <int kJ>
  struct Pieces {
    Four a[kI], b[kJ];
  };

  const ManyRowsCall& p;
  const AttentionView<T> view;
  Shared& shared;
  float* const queries;  // [head_size][kRowStride]
  const int t, head_size, columns, key_steps;
  const int last_row;
  const unsigned char *keys, *values;  // from what this thread copies of them on
  int begin, end;                      // keys that some row sees
  int whole_begin, whole_end;          // and that all do
  // What is fetched next: of a block of keys the elements of that step, or from key_steps on, the
  // values. And which of all steps is there.
  int ahead_block, ahead_at = 0;
  unsigned step = ~0u;
  Sums running;  // of row sum_row() + lane(), in the threads of the first four lanes
  float o[4 * kI][4 * kValueJ];

  __device__ explicit ManyRows(const ManyRowsCall& call)
      : p(call),
        view(call, blockIdx.z, blockIdx.y, 0, int64_t{tile(call)} * kRows),
        shared(*shared_memory<Shared>()),
        queries(reinterpret_cast<float*>(&shared + 1)),
        t(static_cast<int>(threadIdx.x)),
        head_size(static_cast<int>(call.head_size)),
        columns(static_cast<int>(call.value_size)),
        key_steps(static_cast<int>(ceiling(call.head_size, kStep))),
        last_row(static_cast<int>(least(kRows, view.rows - view.first_row)) - 1) {
    const int64_t first = view.pages == nullptr ? view.first_key : 0;
    keys = unknown(reinterpret_cast<const unsigned char*>(view.k) + first * p.key_bytes +
                   t % kSlab * int64_t{sizeof(T)});
    values = unknown(reinterpret_cast<const unsigned char*>(view.v) + first * p.value_bytes +
                     value_column() * int64_t{sizeof(T)});
    // Neither end of what is seen decreases from row to row.
    const Range of_first = visible(0), of_last = visible(last_row);
    begin = static_cast<int>(of_first.begin);
    end = static_cast<int>(of_last.end);
    whole_begin = static_cast<int>(of_last.begin);
    whole_end = static_cast<int>(of_first.end);
    ahead_block = begin / kKeys * kKeys;
  }

  // Those of the last rows, which see the most where they see only keys before them, come first.
  __device__ static unsigned tile(const AttentionCall& p) {
    return p.causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  }
  // Rows that are not there are the last one once more.
  __device__ int64_t row(int i) const { return view.first_row + least(i, last_row); }
  __device__ Range visible(int i) const { return view.visible(p, row(i)); }

  // --- what comes from memory

  __device__ int first_value_step(int block) const {
    return begin > block ? (begin - block) / kStep : 0;
  }
  __device__ int end_of_value_steps(int block) const {
    return end - block < kKeys ? (end - block + kStep - 1) / kStep : kKeys / kStep;
  }
  // Of this block of keys and the next one.
  __device__ uint32_t* key_rows(int block) const {
    return shared.key_rows[static_cast<unsigned>(block) / kKeys % 2];
  }
  // Where the keys of a block lie. Those past the end lie where the last one does, so that what is
  // read is there; those before the first that is seen lie where they do.
  __device__ void find_keys(int block) const {
    if (block >= end) return;
    const auto key = least(block + t, end - 1);
    key_rows(block)[t] = static_cast<uint32_t>(view.pages == nullptr ? key : view.key_row(p, key));
  }
  // copy(i, from) of kCount tokens, `every` apart from the first on. Their places are read first:
  // a copy waits for reads of shared memory before it.
  template <int kCount, class Copy>
  __device__ static void each_token(const uint32_t* rows, int every, const unsigned char* base,
                                    uint32_t bytes, Copy&& copy) {
    uint32_t row[kCount];
    base = unknown(base);
#pragma unroll
    for (int i = 0; i < kCount; ++i) row[i] = rows[i * every];
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      copy(i * every, reinterpret_cast<const T*>(base + uint64_t{row[i]} * bytes));
  }
  // Elements of all keys, [element][key]. A warp reads 8 elements, a sector, of four keys.
  template <bool kWhole>
  __device__ void fetch_keys(float (*to)[kKeyStride]) const {
    constexpr int kAtOnce = kThreads / kSlab;
    const int element = t % kSlab, key = t / kSlab, left = head_size - ahead_at * kStep - element;
    float *first = &to[element][key], *second = &to[element + kSlab][key];
    each_token<kKeys / kAtOnce>(key_rows(ahead_block) + key, kAtOnce,
                                keys + ahead_at * (kStep * sizeof(T)), p.key_bytes,
                                [&](int i, const T* from) {
                                  if (kWhole || left > 0) bring(first + i, from);
                                  if (kWhole || left > kSlab) bring(second + i, from + kSlab);
                                });
  }
  __device__ void fetch_keys(float (*to)[kKeyStride]) const {
    if ((ahead_at + 1) * kStep <= head_size)
      fetch_keys<true>(to);
    else
      fetch_keys<false>(to);
  }
  // Keys' values, [key][column].
  static constexpr int kWords = kColumns / 4;
  __device__ bool values_in_words() const { return std::is_same_v<T, float> && p.in_words; }
  __device__ int value_column() const { return values_in_words() ? t % kWords * 4 : t % kColumns; }
  __device__ void fetch_values(float (*to)[kKeyStride]) const {
    const int column = value_column();
    if (column >= columns) return;
    const uint32_t* rows = key_rows(ahead_block) + (ahead_at - key_steps) * kStep;
    if (values_in_words()) {
      constexpr int kAtOnce = kThreads / kWords;
      const int key = t / kWords;
      float* at = &to[key][column];
      each_token<kStep / kAtOnce>(
          rows + key, kAtOnce, values, p.value_bytes,
          [&](int i, const T* from) { copy_later(at + i * kKeyStride, from, true); });
    } else {
      constexpr int kAtOnce = kThreads / kColumns;
      const int key = t / kColumns;
      float* at = &to[key][column];
      each_token<kStep / kAtOnce>(rows + key, kAtOnce, values, p.value_bytes,
                                  [&](int i, const T* from) { bring(at + i * kKeyStride, from); });
    }
  }
  // The step after the one that is there.
  __device__ void fetch_next() {
    float(*to)[kKeyStride] = shared.ring[(step + 1) % 2];
    if (ahead_at < key_steps) {
      if (ahead_block < end) fetch_keys(to);
      if (++ahead_at == key_steps) ahead_at += first_value_step(ahead_block);
    } else {
      fetch_values(to);
      if (++ahead_at == key_steps + end_of_value_steps(ahead_block)) {
        ahead_block += kKeys;
        ahead_at = 0;
      }
    }
    commit_copies();
  }
  // When everybody's copies are there, and nobody reads the step before any more.
  __device__ void await_next() {
    wait_for_copies<0>();
    __syncthreads();
    ++step;
  }
  __device__ void read_rows() const {
    for (int i = t; i < kRows * kMostSize; i += kThreads) {
      const int r = i / kMostSize, at = i % kMostSize;
      if (at < head_size)
        queries[at * kRowStride + r] = widened(view.q[view.head_row(p, row(r)) * p.head_size + at]);
    }
    if (t < kRows) {
      const Range seen = visible(t);
      shared.begin[t] = static_cast<int>(seen.begin);
      shared.end[t] = static_cast<int>(seen.end);
      shared.total[t] = {};
    }
    shared.exp2.write(t);
  }

  // --- the products

  // Lanes as in simt_product.cuh: 16 are served at once.
  __device__ int piece_row() const { return (t >> 1 & 7) * 4; }
  template <int kJ>
  __device__ int piece_column() const {
    return t / static_cast<int>(kWarp) * (16 * kJ) + ((t & 1) | (t >> 3 & 2)) * 4;
  }
  // Where result [i] lies, and [][j].
  __device__ int row_of(int i) const { return piece_row() + i / 4 * (kRows / kI) + i % 4; }
  template <int kJ>
  __device__ int column_of(int j) const {
    return piece_column<kJ>() + j / 4 * 16 + j % 4;
  }
  // a, b: the thread's first pieces.
  template <int kJ>
  __device__ static Pieces<kJ> pieces(const float* a, const float* b) {
    Pieces<kJ> of;
#pragma unroll
    for (int i = 0; i < kI; ++i) of.a[i] = *reinterpret_cast<const Four*>(a + i * (kRows / kI));
#pragma unroll
    for (int j = 0; j < kJ; ++j) of.b[j] = *reinterpret_cast<const Four*>(b + j * 16);
    return of;
  }
  // Row `at` of the step that is there.
  template <int kJ>
  __device__ const float* there(int at) const {
    return shared.ring[step % 2][at] + piece_column<kJ>();
  }
  // There and back again: each product has a factor of the one before, which is not read anew.
  template <int kJ>
  __device__ static void multiply(const Pieces<kJ>& of, int i, Results<kJ>& sum) {
#pragma unroll
    for (int n = 0; n < 4 * kJ; ++n) {
      const int j = i % 2 == 0 ? n : 4 * kJ - 1 - n;
      sum[i][j] = fma32(of.a[i / 4].v[i % 4], of.b[j / 4].v[j % 4], sum[i][j]);
    }
  }
  template <int kJ>
  __device__ static void multiply(const Pieces<kJ>& of, Results<kJ>& sum) {
#pragma unroll
    for (int i = 0; i < 4 * kI; ++i) multiply<kJ>(of, i, sum);
  }
  // Whole slabs, of which the first begins the step that is there. What is read ahead at the end is
  // not used.
  template <int kJ>
  __device__ void multiply_slabs(const float* a, int slabs, Results<kJ>& sum) {
    constexpr int kSlabFloats = kSlab * kKeyStride;
    const float *ring = shared.ring[0][0] + piece_column<kJ>(), *now = there<kJ>(0);
    unsigned place = step % 2 * 2;  // of the slab, of four
    Pieces<kJ> of[2];
    a += piece_row();
    of[0] = pieces<kJ>(a, now);
#pragma unroll 1
    for (; slabs > 0; --slabs) {
      const bool first_of_two = place % 2 == 0;
      place = (place + 1) % 4;
      const float* next = ring + place * kSlabFloats;
#pragma unroll
      for (int at = 0; at < kSlab; ++at) {
        const bool last = at == kSlab - 1;
        if (last && !first_of_two) await_next();
        of[(at + 1) % 2] =
            pieces<kJ>(a + (at + 1) * kRowStride, last ? next : now + (at + 1) * kKeyStride);
        if (at == 0 && first_of_two) fetch_next();
        multiply<kJ>(of[at % 2], sum);
      }
      a += kSlab * kRowStride;
      now = next;
    }
  }
  __device__ void score(Results<kKeyJ>& sum) {
    const int slabs = head_size / kSlab, rest = head_size % kSlab;
    clear<kKeyJ>(sum);
    multiply_slabs<kKeyJ>(queries, slabs, sum);
    if (slabs % 2 == 0 && rest == 0) return;
    // No zeros instead: +0 * +0 added to a chain that is -0 makes +0 of it.
    if (slabs % 2 == 0) fetch_next();
#pragma unroll 1
    for (int at = 0; at < rest; ++at)
      multiply<kKeyJ>(pieces<kKeyJ>(queries + (slabs * kSlab + at) * kRowStride + piece_row(),
                                    there<kKeyJ>(slabs % 2 * kSlab + at)),
                      sum);
    await_next();
  }
  template <int kJ>
  __device__ static void clear(Results<kJ>& sum) {
#pragma unroll
    for (int i = 0; i < 4 * kI; ++i)
#pragma unroll
      for (int j = 0; j < 4 * kJ; ++j) sum[i][j] = 0;
  }
  // Keys [first, last) of the block, steps of which some rows see some keys.
  __device__ void add_seen_values(int block, int first, int last, Results<kValueJ>& sum) {
#pragma unroll 1
    for (int key = first; key < last; ++key) {
      if (key % kStep == 0) fetch_next();
      const Pieces<kValueJ> of =
          pieces<kValueJ>(shared.weights[key] + piece_row(), there<kValueJ>(key % kStep));
#pragma unroll
      for (int i = 0; i < 4 * kI; ++i)
        if (block + key >= shared.begin[row_of(i)] && block + key < shared.end[row_of(i)])
          multiply<kValueJ>(of, i, sum);
      if (key % kStep == kStep - 1) await_next();
    }
  }
  // Of the block's keys, those that each row sees.
  __device__ void add_values(int block, Results<kValueJ>& sum) {
    const auto inside = [&](int key, int first, int last) {
      return key < first ? first : key > last ? last : key;
    };
    const int first = first_value_step(block) * kStep, last = end_of_value_steps(block) * kStep,
              whole = inside((whole_begin - block + kStep - 1) / kStep * kStep, first, last),
              end_of_whole = inside((whole_end - block) / kStep * kStep, whole, last);
    clear<kValueJ>(sum);
    add_seen_values(block, first, whole, sum);
    multiply_slabs<kValueJ>(shared.weights[whole], (end_of_whole - whole) / kSlab, sum);
    add_seen_values(block, end_of_whole, last, sum);
  }

  // --- weights: a thread has four rows, and the keys of one of the contract's lanes

  __device__ int sum_row() const { return t / kLanes * 4; }
  __device__ int lane() const { return t % kLanes; }
  // Of the lane's i-th key.
  __device__ Four& weights(int i) const {
    return *reinterpret_cast<Four*>(&shared.weights[lane() + i * kLanes][sum_row()]);
  }

  // Scaled ones, but those that a cap awaits.
  __device__ void store_scores(const Results<kKeyJ>& sum) const {
    const float factor = p.softcap == 0 ? p.log_scale : 1.0f;
#pragma unroll
    for (int j = 0; j < 4 * kKeyJ; ++j)
#pragma unroll
      for (int i = 0; i < 4 * kI; i += 4) {
        const Four of_key = {sum[i][j] * factor, sum[i + 1][j] * factor, sum[i + 2][j] * factor,
                             sum[i + 3][j] * factor};
        *reinterpret_cast<Four*>(&shared.weights[column_of<kKeyJ>(j)][row_of(i)]) = of_key;
      }
  }
  // Long, so rolled up, and in place.
  __device__ void cap_scores() const {
#pragma unroll 1
    for (int i = 0; i < 4 * kLaneKeys; ++i) {
      float& x = shared.weights[lane() + i / 4 * kLanes][sum_row() + i % 4];
      x = p.scaled_score(x);
    }
  }
  // Which of the lane's keys of a block its four rows see.
  template <bool kWhole>
  struct Seen {
    int first[4], count[4];
    __device__ Seen(const ManyRows& all, int block) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = all.sum_row() + e;
        first[e] = kWhole ? 0 : all.shared.begin[row] - block - all.lane();
        count[e] = kWhole ? kKeys : all.shared.end[row] - all.shared.begin[row];
      }
    }
    __device__ bool has(int e, int i) const {
      return kWhole || (i * kLanes >= first[e] && i * kLanes - first[e] < count[e]);
    }
  };
  // The rows' greatest scores, of all lanes.
  template <bool kWhole>
  __device__ void find_greatest(const Seen<kWhole>& seen, float (&m)[4]) const {
#pragma unroll
    for (float& greatest : m) greatest = kUnseen;
#pragma unroll 8
    for (int i = 0; i < kLaneKeys; ++i) {
      const Four x = weights(i);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (seen.has(e, i)) m[e] = maximum_of(m[e], x.v[e]);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e)
      for (int other = 1; other < kLanes; other *= 2)
        m[e] = maximum_of(m[e], __shfl_xor_sync(~0u, m[e], other));
  }
  // 2^x each.
  __device__ static Four powers(const Exp2& exp2, const Four& x) {
    Exp2::Fast fast[4];
    Four power;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      fast[e] = exp2.fast(x.v[e]);
      power.v[e] = fast[e].y;
    }
    const float least_x = minimum_of(minimum_of(x.v[0], x.v[1]), minimum_of(x.v[2], x.v[3]));
    const uint32_t distance = least_of(least_of(fast[0].distance, fast[1].distance),
                                       least_of(fast[2].distance, fast[3].distance));
    if (!Exp2::safe(least_x, distance)) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (!Exp2::safe(x.v[e], fast[e].distance)) power.v[e] = exp2_slowly(x.v[e]);
    }
    return power;
  }
  // Weights of scores, and their sums, of the block's greatest score m of each row.
  template <bool kWhole>
  __device__ void weigh(int block, float (&m)[4], float (&l)[4]) const {
    const Exp2 exp2(shared.exp2);
    const Seen<kWhole> seen(*this, block);
    find_greatest(seen, m);
#pragma unroll
    for (float& sum : l) sum = 0;
#pragma unroll 2
    for (int i = 0; i < kLaneKeys; ++i) {
      Four x = weights(i);
#pragma unroll
      for (int e = 0; e < 4; ++e) x.v[e] = seen.has(e, i) ? x.v[e] - m[e] : 0.0f;
      const Four weight = powers(exp2, x);
      weights(i) = weight;
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (seen.has(e, i)) l[e] = l[e] + weight.v[e];
    }
#pragma unroll
    for (int e = 0; e < 4; ++e)
      for (int other = 1; other < kLanes; other *= 2)
        l[e] = l[e] + __shfl_xor_sync(~0u, l[e], other);
  }

  // --- the merge of states

  // Has a row's sums joined by those of later keys, and says what the o of both are multiplied by.
  // Where there are none yet, o is -0, to which whatever is added stays what it is; so is o times
  // `of_none` where none join them.
  __device__ Factors join(Sums& sums, const Sums& later, float of_none) const {
    if (later.l == 0) return {1, of_none};
    const Sums before = sums;
    sums = later;
    if (before.l == 0) return {1, 1};
    const Exp2 exp2(shared.exp2);
    sums.m = maximum_of(before.m, later.m);
    const Factors by = {exp2(before.m - sums.m), exp2(later.m - sums.m)};
    sums.l = fma32(later.l, by.beta, before.l * by.alpha);
    return by;
  }
  __device__ void tell(const Factors& by) const {
    shared.alpha[sum_row() + lane()] = by.alpha;
    shared.beta[sum_row() + lane()] = by.beta;
  }
  // f(i, alpha, beta) of the thread's rows.
  template <class F>
  __device__ void each_row(F&& f) const {
#pragma unroll
    for (int i = 0; i < 4 * kI; ++i) f(i, shared.alpha[row_of(i)], shared.beta[row_of(i)]);
  }
  __device__ void forget_o() {
#pragma unroll
    for (int i = 0; i < 4 * kI; ++i)
#pragma unroll
      for (int j = 0; j < 4 * kValueJ; ++j) o[i][j] = -0.0f;
  }

  __device__ void add_block(int block) {
    Results<kKeyJ> scores;
    score(scores);
    store_scores(scores);
    __syncthreads();
    if (p.softcap != 0) cap_scores();
    float m[4], l[4];
    if (block >= whole_begin && block + kKeys <= whole_end)
      weigh<true>(block, m, l);
    else
      weigh<false>(block, m, l);
    Sums of_lane;
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (lane() == e) of_lane = {m[e], l[e]};
    if (lane() < 4) tell(join(running, of_lane, -1));  // the block's o is +0 where it is of no key
    find_keys(block + kKeys);
    __syncthreads();
    Results<kValueJ> sum;
    add_values(block, sum);
    each_row([&](int i, float alpha, float beta) {
#pragma unroll
      for (int j = 0; j < 4 * kValueJ; ++j) o[i][j] = fma32(sum[i][j], beta, o[i][j] * alpha);
    });
  }
  // Where a part of 2048 keys ends. What parts have come to lies in local memory: registers are for
  // the products.
  __device__ void add_part(float* total_o) {
    __syncthreads();
    if (lane() < 4) tell(join(shared.total[sum_row() + lane()], running, 1));
    running = {};
    __syncthreads();
    each_row([&](int i, float alpha, float beta) {
#pragma unroll
      for (int j = 0; j < 4 * kValueJ; ++j) {
        float& sum = total_o[unknown(i * 4 * kValueJ + j)];
        sum = fma32(o[i][j], beta, sum * alpha);
      }
    });
    forget_o();
  }
  __device__ void write(const float* total_o) const {
    __syncthreads();
    if (lane() < 4) {
      const int r = sum_row() + lane();
      const Sums total = shared.total[r];
      if (p.m != nullptr && r <= last_row) {
        p.m[view.head_row(p, row(r))] = total.l == 0 ? 0.0f : total.m;
        p.l[view.head_row(p, row(r))] = total.l;
      }
    }
#pragma unroll 1
    for (int i = 0; i < 4 * kI; ++i) {
      const int r = row_of(i);
      if (r > last_row) continue;
      const float l = shared.total[r].l;
      T* out = static_cast<T*>(p.out) + view.head_row(p, row(r)) * p.value_size;
#pragma unroll 4
      for (int j = 0; j < 4 * kValueJ; ++j) {
        const int c = column_of<kValueJ>(j);
        if (c < columns) out[c] = store<T>(l == 0 ? 0.0f : total_o[i * 4 * kValueJ + j] / l);
      }
    }
  }

  __device__ void attend() {
    float total_o[4 * kI * 4 * kValueJ];
#pragma unroll 1
    for (int i = 0; i < 4 * kI * 4 * kValueJ; ++i) total_o[i] = -0.0f;
    forget_o();
    read_rows();
    int block = ahead_block;
    find_keys(block);
    __syncthreads();
    fetch_next();
    await_next();
#pragma unroll 1
    for (; block < end; block += kKeys) {
      add_block(block);
      if ((block + kKeys) % kPart == 0 || block + kKeys >= end) add_part(total_o);
    }
    write(total_o);
  }
};

template <class T, int kColumns>
__global__ void __launch_bounds__((ManyRows<T, kColumns>::kThreads),
                                  (ManyRows<T, kColumns>::kBlocks))
    attend_many_rows(const __grid_constant__ ManyRowsCall p) {
  ManyRows<T, kColumns>(p).attend();
}

}  // namespace verbatim::cuda::ordered
