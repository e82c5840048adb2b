// Ordered products of few rows, which read the other operand once: a block computes kRows x
// kColumns results, a thread of its first half kR of one column, while those of the second half
// copy what is multiplied some stages later. Chains are as long as K and few threads have one, so
// that nothing but its latency, 4 clocks a k, may be between its steps.
#pragma once

#include <verbatim/kernels/cuda/simt_product.cuh>

namespace verbatim::cuda {

inline constexpr int64_t kMostFewRows = 32;

// kAlongK: how the columns lie.
template <class T, int kColumns, int kR, bool kAlongK>
struct RowProduct {
  static constexpr int kThreads = 128;  // that multiply, and as many that copy
  static constexpr int kSlots = kThreads / kColumns, kRows = kSlots * kR;
  static constexpr int kStages = kRows > 16 ? 6 : 8;
  static constexpr int kDepth = 256 / sizeof(T);  // of a stage
  static constexpr int kStagesOfBlock = static_cast<int>(kProductBlock) / kDepth;
  static_assert(kProductBlock % kDepth == 0);
  static constexpr int kWord = Lines<T>::kWord;
  // Along k the words that 8 lanes read of 8 lines are in different banks.
  static constexpr int kLine = kDepth + kWord;
  static constexpr int kStageSize =
      kRows * kLine + (kAlongK ? kColumns * kLine : kDepth * kColumns);
  static constexpr size_t kSharedBytes = sizeof(T) * kStageSize * kStages;
  static_assert(kSharedBytes <= kMostShared);

  const Lines<T>&rows, &columns;
  const T *a, *b;        // the block's first line
  int a_lines, b_lines;  // from there on
  int64_t k;
  T* stages;
  int slot, column;  // of the thread
  float sum[kR], total[kR];

  __device__ RowProduct(const Lines<T>& rows_, const Lines<T>& columns_, int64_t k_)
      : rows(rows_),
        columns(columns_),
        a(rows.data + blockIdx.z * rows.matrix_step),
        b(columns.data + blockIdx.z * columns.matrix_step + first_column() * columns.line_step),
        a_lines(static_cast<int>(rows.count)),
        b_lines(static_cast<int>(least(kColumns, columns.count - first_column()))),
        k(k_),
        stages(shared_memory<T>()),
        slot(thread() / kColumns),
        column(thread() % kColumns),
        sum{},
        total{} {}

  __device__ static int thread() { return static_cast<int>(threadIdx.x) % kThreads; }
  __device__ static int64_t first_column() { return int64_t{blockIdx.x} * kColumns; }

  // kOuter x kInner elements, of which so many are there, the inner ones one after the other in
  // shared memory. In words they are so in memory too, and words are whole.
  template <int kOuter, int kInner, int kToStep>
  __device__ static void copy(T* to, const T* from, int64_t outer_step, int64_t inner_step,
                              int outer_left, int inner_left, bool in_words) {
    const auto each = [&]<int kAtOnce>(std::integral_constant<int, kAtOnce>) {
      constexpr int kAcross = kInner / kAtOnce, kOuterAtOnce = kThreads / kAcross,
                    kTimes = (kOuter + kOuterAtOnce - 1) / kOuterAtOnce;
      const int inner = thread() % kAcross * kAtOnce, outer = thread() / kAcross;
      if (inner >= inner_left) return;
      T* at = to + outer * kToStep + inner;
      const T* of = from + outer * outer_step + inner * inner_step;
#pragma unroll(kAtOnce == 1 ? 2 : kTimes)
      for (int i = 0; i < kTimes; ++i, of += kOuterAtOnce * outer_step) {
        if (outer + i * kOuterAtOnce >= outer_left) continue;
        if constexpr (kAtOnce == kWord)
          copy_later(at + i * kOuterAtOnce * kToStep, of, true);
        else
          bring(at + i * kOuterAtOnce * kToStep, of);
      }
    };
    if (in_words)
      each(std::integral_constant<int, kWord>());
    else
      each(std::integral_constant<int, 1>());
  }

  __device__ T* stage(int s) const { return stages + s % kStages * kStageSize; }
  __device__ void fetch(int s) const {
    const int64_t at = int64_t{s} * kDepth;
    if (at < k) {
      const auto left = static_cast<int>(least(kDepth, k - at));
      T* to = stage(s);
      copy<kRows, kDepth, kLine>(to, a + at * rows.k_step, rows.line_step, rows.k_step, a_lines,
                                 left, rows.in_words && rows.along_k());
      to += kRows * kLine;
      if constexpr (kAlongK)
        copy<kColumns, kDepth, kLine>(to, b + at, columns.line_step, 1, b_lines, left,
                                      columns.in_words);
      else
        copy<kDepth, kColumns, kColumns>(to, b + at * columns.k_step, columns.k_step,
                                         columns.line_step, left, b_lines, columns.in_words);
    }
    commit_copies();
  }

  // What the thread multiplies of some k.
  static constexpr int kBatchK = kR == 1   ? 16
                                 : kR == 2 ? 8
                                           : 4,
                       kBatch = kBatchK > kWord ? kBatchK / kWord : 1;  // words
  static_assert(kDepth % (kBatch * kWord) == 0);
  struct Batch {
    Word<T> left[kBatch][kR], right[kBatch];
  };
  __device__ void read(Batch& batch, const T* of, int at) const {
    const T* x = of + slot * kR * kLine + at;
#pragma unroll
    for (int w = 0; w < kBatch; ++w) {
#pragma unroll
      for (int r = 0; r < kR; ++r)
        batch.left[w][r] = *reinterpret_cast<const Word<T>*>(x + r * kLine + w * kWord);
      if constexpr (kAlongK) {
        batch.right[w] =
            *reinterpret_cast<const Word<T>*>(of + (kRows + column) * kLine + at + w * kWord);
      } else {
#pragma unroll
        for (int e = 0; e < kWord; ++e)
          batch.right[w].v[e] = of[kRows * kLine + (at + w * kWord + e) * kColumns + column];
      }
    }
    __syncwarp();  // reads stay ahead of the products before them
  }
  __device__ void multiply(const Batch& batch) {
#pragma unroll
    for (int w = 0; w < kBatch; ++w)
#pragma unroll
      for (int e = 0; e < kWord; ++e)
#pragma unroll
        for (int r = 0; r < kR; ++r)
          sum[r] = fma32(widened(batch.left[w][r].v[e]), widened(batch.right[w].v[e]), sum[r]);
  }
  static constexpr int kStep = kBatch * kWord;
  __device__ void multiply_whole(const T* of) {
    Batch batches[2];
    read(batches[0], of, 0);
#pragma unroll
    for (int at = 0; at < kDepth; at += kStep) {
      if (at + kStep < kDepth) read(batches[(at / kStep + 1) % 2], of, at + kStep);
      multiply(batches[at / kStep % 2]);
    }
  }
  __device__ void multiply(const T* of, int depth) {
    int at = 0;
#pragma unroll 1
    for (; at + kStep <= depth; at += kStep) {
      Batch batch;
      read(batch, of, at);
      multiply(batch);
    }
    const T *x = of + slot * kR * kLine,
            *y = of + kRows * kLine + (kAlongK ? column * kLine : column);
#pragma unroll 1
    for (; at < depth; ++at)
#pragma unroll
      for (int r = 0; r < kR; ++r)
        sum[r] =
            fma32(widened(x[r * kLine + at]), widened(y[kAlongK ? at : at * kColumns]), sum[r]);
  }

  // What a block of K gave joins the sum of those before it.
  __device__ void fold_before(int s) {
    if (s == 0 || s % kStagesOfBlock != 0) return;
#pragma unroll
    for (int r = 0; r < kR; ++r) {
      total[r] = s == kStagesOfBlock ? sum[r] : total[r] + sum[r];
      sum[r] = 0;
    }
  }

  // Both halves of the block meet before each stage: its copies are there, and nobody reads the one
  // that is fetched next.
  __device__ void copy_stages(int count) const {
#pragma unroll 1
    for (int s = 0; s < kStages - 1; ++s) fetch(s);
#pragma unroll 1
    for (int s = 0; s < count; ++s) {
      wait_for_copies<kStages - 2>();
      __syncthreads();
      fetch(s + kStages - 1);
    }
  }
  __device__ void multiply_stages(int count) {
    // By whole warps.
    const bool has_rows =
        thread() / static_cast<int>(kWarp) * static_cast<int>(kWarp) / kColumns * kR < a_lines;
#pragma unroll 1
    for (int s = 0; s < count; ++s) {
      __syncthreads();
      if (!has_rows) continue;
      fold_before(s);
      const int64_t left = k - int64_t{s} * kDepth;
      if (left >= kDepth)
        multiply_whole(stage(s));
      else
        multiply(stage(s), static_cast<int>(left));
    }
  }
  __device__ void run() {
    const auto count = static_cast<int>(ceiling(k, kDepth));
    if (threadIdx.x >= kThreads)
      copy_stages(count);
    else
      multiply_stages(count);
  }

  // `turned`: rows are columns of the results.
  __device__ void store_results(const Product& p, bool turned) const {
    if (threadIdx.x >= kThreads) return;
    T* out = static_cast<T*>(p.out) + blockIdx.z * rows.count * columns.count;
#pragma unroll
    for (int r = 0; r < kR; ++r) {
      if (slot * kR + r >= a_lines || column >= b_lines) continue;
      const int64_t i = slot * kR + r, j = first_column() + column, m = turned ? j : i,
                    n = turned ? i : j;
      out[m * p.n + n] = finished<T>(p, k > kProductBlock ? total[r] + sum[r] : sum[r], m, n);
    }
  }
};

template <class T, int kColumns, int kR, bool kAlongK>
__global__ void __launch_bounds__((2 * RowProduct<T, kColumns, kR, kAlongK>::kThreads),
                                  kR > 4 ? 1 : 2)
    multiply_rows_of(const __grid_constant__ SimtCall<T> call, bool turned) {
  RowProduct<T, kColumns, kR, kAlongK> product(turned ? call.b : call.a, turned ? call.a : call.b,
                                               call.k);
  product.run();
  product.store_results(call.p, turned);
}

template <int kColumns, int kR, bool kAlongK, class T>
Status launch_rows(Gpu& gpu, const SimtCall<T>& call, int64_t matrices, bool turned) {
  using Product = RowProduct<T, kColumns, kR, kAlongK>;
  const int64_t columns = (turned ? call.a : call.b).count;
  const Grid grid{.blocks = {static_cast<unsigned>(ceiling(columns, kColumns)), 1,
                             static_cast<unsigned>(matrices)},
                  .threads = {2 * Product::kThreads, 1, 1},
                  .shared_bytes = Product::kSharedBytes};
  return launch(gpu, grid, multiply_rows_of<T, kColumns, kR, kAlongK>, call, turned);
}

// Few columns a block where there are few: then more multiprocessors read.
template <bool kAlongK, class T>
Status multiply_rows(Gpu& gpu, const SimtCall<T>& call, int64_t matrices, bool turned) {
  const int64_t rows = (turned ? call.b : call.a).count,
                blocks = ceiling((turned ? call.a : call.b).count, 32) * matrices;
  const auto by = [&](auto launch_some) { return launch_some(gpu, call, matrices, turned); };
  if (blocks * 4 < gpu.device().multiprocessors * int64_t{3})
    return by(rows <= 16 ? launch_rows<8, 1, kAlongK, T> : launch_rows<8, 2, kAlongK, T>);
  if (rows <= 4) return by(launch_rows<32, 1, kAlongK, T>);
  return by(rows <= 16 ? launch_rows<32, 4, kAlongK, T> : launch_rows<32, 8, kAlongK, T>);
}

// A product of so few rows, or columns.
template <class T>
Status multiply_few(Gpu& gpu, const SimtCall<T>& call, int64_t matrices) {
  const bool turned = call.a.count > kMostFewRows;
  return (turned ? call.a : call.b).along_k() ? multiply_rows<true>(gpu, call, matrices, turned)
                                              : multiply_rows<false>(gpu, call, matrices, turned);
}

}  // namespace verbatim::cuda
