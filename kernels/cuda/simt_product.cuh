// What both loops of ordered products on the SIMT cores share (docs/numerics.md, Family A, Matrix
// product): how operands lie, what follows an exact chain, and the loop for large matrices. Each
// result is one chain of one thread, ascending in k; a matrix's size chooses tiles, never an order.
#pragma once

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/kernels/cuda/tensor_core.cuh>

namespace verbatim::cuda {

// The rows of A, or the columns of B, here called lines: element k of line i at
// data[i * line_step + k * k_step], of which one step is 1.
template <class T>
struct Lines {
  const T* data;
  int64_t count, line_step, k_step, matrix_step;
  bool in_words;  // neighbours in memory may be copied 16 bytes at once

  static constexpr int kWord = 16 / sizeof(T);
  static Lines of(const T* data, int64_t count, int64_t k, int64_t line_step, int64_t k_step,
                  int64_t matrix_step) {
    const bool along_k = k_step == 1;
    return {data,
            count,
            line_step,
            k_step,
            matrix_step,
            reinterpret_cast<uintptr_t>(data) % 16 == 0 && matrix_step % kWord == 0 &&
                (along_k ? line_step : k_step) % kWord == 0 && (along_k ? k : count) % kWord == 0};
  }
  VB_HOST_DEVICE bool along_k() const { return k_step == 1; }
};

// out [m, n] of one matrix after the other. p has what follows a chain.
template <class T>
struct SimtCall {
  Product p;
  Lines<T> a, b;
  int64_t k;
};

template <class T>
struct alignas(16) Word {
  T v[16 / sizeof(T)];
};
using Four = Word<float>;

// What follows an exact chain: see Product.
template <class T>
__device__ T finished(const Product& p, float sum, int64_t row, int64_t column) {
  if (p.alpha != 1) sum = sum * p.alpha;
  if (p.rounded_before_c) sum = load(store<T>(sum));
  if (p.c != nullptr) {
    const float addend = load(static_cast<const T*>(p.c)[row * p.c_row + column * p.c_column]);
    sum = sum + (p.beta == 1 ? addend : addend * p.beta);
  }
  return store<T>(sum);
}

// An operand's element. Which NaN a NaN becomes does not matter: results have one.
template <class T>
__device__ float widened(T x) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, Half>) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
  }
#endif
  return load(x);
}

// One element: later, where nothing is converted.
__device__ inline void bring(float* to, const float* from) { copy_word_later(to, from); }
template <class T>
__device__ void bring(T* to, const T* from) {
  *to = *from;
}
template <class T>
__device__ void bring(float* to, const T* from) {
  *to = widened(*from);
}

// --- The loop for large matrices. A block of 2 x 2 warps computes kRows x kColumns results, a
// thread 4 kI x 4 kJ of them in pieces of 4 x 4. Slabs of 8 k come to shared memory as [k][line],
// two at a time while two are multiplied, and a k's pieces to registers one k ahead. What a block
// of 512 gave joins the sum of those before it, which waits in shared memory: registers are for
// the products.

template <class T, int kI, int kJ>
struct SimtProduct {
  static constexpr int kThreads = 128, kBlocks = kI * kJ == 8 ? 2 : kI * kJ == 4 ? 3 : 4;
  static constexpr int kSlab = 8, kDepth = 2 * kSlab, kSlabs = 4;    // k; k at once; in the ring
  static constexpr int kWarpRows = 32 * kI, kWarpColumns = 16 * kJ;  // 8 x 4 threads
  static constexpr int kRows = 2 * kWarpRows, kColumns = 2 * kWarpColumns;
  static constexpr int kSlabsOfBlock = static_cast<int>(kProductBlock) / kSlab;
  static_assert(kProductBlock % kSlab == 0);
  // Of a k in a slab: multiples of 16 bytes, and eight k of four lines are in 32 banks.
  template <int kLines>
  static constexpr int kStride = kLines + 4;
  static constexpr int kSlabFloats = kSlab * (kStride<kRows> + kStride<kColumns>);
  static constexpr size_t shared_bytes(int64_t k) {
    return sizeof(float) * (kSlabs * kSlabFloats + (k > kProductBlock ? kRows * kColumns : 0));
  }

  // What a thread copies of an operand's slabs: from copy to copy it goes on by copy_step. Along k
  // a warp reads 8 k of 4 lines, which are whole sectors of 32 bytes.
  template <int kLines>
  struct Copier {
    static constexpr int kWords = kLines / 4, kLinesAtOnce = kThreads / kSlab;

    const T* from;  // of the next slabs
    int64_t copy_step, next_step;
    int line, k;  // of the first copy
    int lines;    // of the tile that there are
    bool along_k, in_words;

    __device__ Copier(const Lines<T>& all, int64_t first)
        : next_step(kDepth * all.k_step),
          lines(static_cast<int>(least(kLines, all.count - first))),
          along_k(all.along_k()),
          in_words(all.in_words && std::is_same_v<T, float>) {
      const int t = static_cast<int>(threadIdx.x);
      line = along_k ? t / kSlab : in_words ? t % kWords * 4 : t % kLines;
      k = along_k ? t % kSlab : in_words ? t / kWords : t / kLines;
      copy_step = along_k    ? kLinesAtOnce * all.line_step
                  : in_words ? kThreads / kWords * all.k_step
                             : kThreads / kLines * all.k_step;
      from =
          all.data + blockIdx.z * all.matrix_step + (first + line) * all.line_step + k * all.k_step;
    }

    // The next two slabs, whole ones or what is left. What is not there is left as it is: no result
    // that is stored has it.
    __device__ void fetch(float* slabs, bool both_whole, int64_t left) {
      if (both_whole && lines == kLines)
        fetch<false>(slabs, kDepth);
      else
        fetch<true>(slabs, static_cast<int>(least(left, kDepth)));
      from += next_step;
    }
    template <bool kChecked>
    __device__ void fetch(float* slabs, int depth) const {
      float* to = slabs + k * kStride<kLines> + line;
      if (along_k)
        copy_along_k<kChecked>(to, depth);
      else if (in_words)
        copy_along_lines<kChecked, kThreads / kWords>(to, depth, [](float* at, const T* of) {
          if constexpr (std::is_same_v<T, float>) copy_later(at, of, true);
        });
      else
        copy_along_lines<kChecked, kThreads / kLines>(
            to, depth, [](float* at, const T* of) { bring(at, of); });
    }

    template <bool kChecked>
    __device__ void copy_along_k(float* to, int depth) const {
      const T* of = from;
#pragma unroll(kChecked ? 1 : kLines / kLinesAtOnce)
      for (int e = 0; e < kLines; e += kLinesAtOnce, of += copy_step) {
        if (kChecked && line + e >= lines) continue;
        if (!kChecked || k < depth) bring(to + e, of);
        if (!kChecked || k + kSlab < depth) bring(to + kSlabFloats + e, of + kSlab);
      }
    }
    template <bool kChecked, int kAtOnce, class Copy>
    __device__ void copy_along_lines(float* to, int depth, Copy&& copy) const {
      if (kChecked && line >= lines) return;
      const T* of = from;
#pragma unroll(kChecked ? 1 : kDepth / kAtOnce)
      for (int e = 0; e < kDepth; e += kAtOnce, of += copy_step)
        if (!kChecked || k + e < depth)
          copy(to + e / kSlab * kSlabFloats + e % kSlab * kStride<kLines>, of);
    }
  };

  // Of one k.
  struct Pieces {
    Four a[kI], b[kJ];
  };

  int64_t row, column;  // the block's first
  Copier<kRows> copy_a;
  Copier<kColumns> copy_b;
  int64_t k;
  int whole, slabs;  // whole slabs of K; all
  float* tiles;
  Four* totals;
  int read_a, read_b;  // where the thread's pieces begin in a slab
  float sum[4 * kI][4 * kJ];

  // Blocks that run at the same time share rows and columns.
  struct Place {
    int64_t row, column;
  };
  static __device__ Place place(int64_t m, int64_t n) {
    constexpr unsigned kBand = 16;
    const auto rows = static_cast<unsigned>(ceiling(m, kRows)),
               columns = static_cast<unsigned>(ceiling(n, kColumns)),
               band = blockIdx.x / (kBand * columns), in_band = blockIdx.x % (kBand * columns),
               left = rows - band * kBand, height = left < kBand ? left : kBand;
    return {int64_t{band * kBand + in_band % height} * kRows, int64_t{in_band / height} * kColumns};
  }
  static int64_t blocks(int64_t m, int64_t n) { return ceiling(m, kRows) * ceiling(n, kColumns); }

  __device__ SimtProduct(const SimtCall<T>& call, const Place& at)
      : row(at.row),
        column(at.column),
        copy_a(call.a, row),
        copy_b(call.b, column),
        k(call.k),
        whole(static_cast<int>(k / kSlab)),
        slabs(static_cast<int>(ceiling(k, kSlab))),
        tiles(shared_memory<float>()),
        totals(reinterpret_cast<Four*>(tiles + kSlabs * kSlabFloats) + threadIdx.x),
        read_a(thread_row()),
        read_b(kSlab * kStride<kRows> + thread_column()),
        sum{} {}

  // Lanes so that either two neighbours, or two that are 2 apart, read the same 16 bytes: 16 lanes
  // are served at once.
  __device__ static int thread_row() {
    const int t = static_cast<int>(threadIdx.x);
    return t / kWarp / 2 * kWarpRows + (t >> 1 & 7) * 4;
  }
  __device__ static int thread_column() {
    const int t = static_cast<int>(threadIdx.x);
    return t / kWarp % 2 * kWarpColumns + ((t & 1) | (t >> 3 & 2)) * 4;
  }

  __device__ float* slab(int s) const { return tiles + s % kSlabs * kSlabFloats; }
  // Two slabs from s on, an even one.
  __device__ void fetch_a(int s) {
    if (s < slabs) copy_a.fetch(slab(s), s + 1 < whole, k - int64_t{s} * kSlab);
  }
  __device__ void fetch_b(int s) {
    if (s < slabs)
      copy_b.fetch(slab(s) + kSlab * kStride<kRows>, s + 1 < whole, k - int64_t{s} * kSlab);
    commit_copies();
  }
  // Until everybody's copies are there; and nobody reads the slabs before any more.
  __device__ static void await_slabs() {
    wait_for_copies<0>();
    __syncthreads();
  }

  __device__ Pieces pieces(const float* of, int at_k) const {
    Pieces p;
#pragma unroll
    for (int i = 0; i < kI; ++i)
      p.a[i] =
          *reinterpret_cast<const Four*>(of + read_a + at_k * kStride<kRows> + i * kWarpRows / kI);
#pragma unroll
    for (int j = 0; j < kJ; ++j)
      p.b[j] = *reinterpret_cast<const Four*>(of + read_b + at_k * kStride<kColumns> +
                                              j * kWarpColumns / kJ);
    return p;
  }
  __device__ void multiply(const Pieces& p) {
#pragma unroll
    for (int i = 0; i < 4 * kI; ++i)
#pragma unroll
      for (int j = 0; j < 4 * kJ; ++j)
        sum[i][j] = fma32(p.a[i / 4].v[i % 4], p.b[j / 4].v[j % 4], sum[i][j]);
  }

  // f(sums, totals): four of a row of results each.
  template <class F>
  __device__ void each_four(F&& f) {
#pragma unroll
    for (int i = 0; i < 4 * kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j) f(i, j, totals[(i * kJ + j) * kThreads]);
  }
  // Where a block of K ends before slab s.
  __device__ void fold_before(int s) {
    if (s == 0 || s % kSlabsOfBlock != 0) return;
    const bool first = s == kSlabsOfBlock;
    each_four([&](int i, int j, Four& total) {
      Four t{};
      if (!first) t = total;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        t.v[e] = first ? sum[i][4 * j + e] : t.v[e] + sum[i][4 * j + e];
        sum[i][4 * j + e] = 0;
      }
      total = t;
    });
  }

  __device__ void run() {
    fetch_a(0);
    fetch_b(0);
    await_slabs();
    Pieces of[2];
    of[0] = pieces(slab(0), 0);
    // By blocks of K: what happens once in one is not in the way of the others.
    for (int begin = 0; begin < whole; begin += kSlabsOfBlock) {
      fold_before(begin);
      const int end = whole - begin < kSlabsOfBlock ? whole : begin + kSlabsOfBlock;
#pragma unroll 1
      for (int s = begin; s < end; ++s) {
        const bool first_of_two = s % 2 == 0;
        const float *now = slab(s), *next = slab(s + 1);
#pragma unroll
        for (int at = 0; at < kSlab; ++at) {
          const bool last = at == kSlab - 1;
          if (last && !first_of_two) await_slabs();
          of[(at + 1) % 2] = last ? pieces(next, 0) : pieces(now, at + 1);
          if (at == 0 && first_of_two) fetch_a(s + 2);
          if (at == kSlab / 2 && first_of_two) fetch_b(s + 2);
          multiply(of[at % 2]);
        }
      }
    }
    // No zeros instead: +0 * +0 added to a chain that is -0 makes +0 of it.
    const auto rest = static_cast<int>(k % kSlab);
    if (rest > 0) fold_before(whole);
#pragma unroll 1
    for (int at = 0; at < rest; ++at) multiply(pieces(slab(whole), at));
  }

  __device__ void store_results(const Product& p, int64_t m) {
    const int64_t first_row = row + thread_row(), first_column = column + thread_column();
    T* out = static_cast<T*>(p.out) + blockIdx.z * m * p.n;
    struct alignas(4 * sizeof(T)) Results {
      T v[4];
    };
    const bool whole = p.n % 4 == 0 && reinterpret_cast<uintptr_t>(p.out) % alignof(Results) == 0;
    each_four([&](int i, int j, Four& total) {
      const int64_t r = first_row + i / 4 * (kWarpRows / kI) + i % 4,
                    c = first_column + j * (kWarpColumns / kJ);
      if (r >= m || c >= p.n) return;
      Four before{};
      if (k > kProductBlock) before = total;
      Results results{};
      const auto count = static_cast<int>(least(4, p.n - c));
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float s = sum[i][4 * j + e], all = k > kProductBlock ? before.v[e] + s : s;
        if (e < count) results.v[e] = finished<T>(p, all, r, c + e);
      }
      if (whole) {
        *reinterpret_cast<Results*>(out + r * p.n + c) = results;
        return;
      }
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (e < count) out[r * p.n + c + e] = results.v[e];
    });
  }
};

template <class T, int kI, int kJ>
__global__ void __launch_bounds__((SimtProduct<T, kI, kJ>::kThreads),
                                  (SimtProduct<T, kI, kJ>::kBlocks))
    multiply_tiles_of(const __grid_constant__ SimtCall<T> call) {
  using Product = SimtProduct<T, kI, kJ>;
  Product product(call, Product::place(call.a.count, call.b.count));
  product.run();
  product.store_results(call.p, call.a.count);
}

template <class T, int kI, int kJ>
Status launch_tiles(Gpu& gpu, const SimtCall<T>& call, int64_t matrices) {
  using Product = SimtProduct<T, kI, kJ>;
  const Grid grid{.blocks = {static_cast<unsigned>(Product::blocks(call.a.count, call.b.count)), 1,
                             static_cast<unsigned>(matrices)},
                  .threads = {Product::kThreads, 1, 1},
                  .shared_bytes = Product::shared_bytes(call.k)};
  return launch(gpu, grid, multiply_tiles_of<T, kI, kJ>, call);
}

// The tile whose blocks end first: a multiprocessor takes as long as its results, and small tiles
// read shared memory more often.
template <class T>
Status multiply_in_tiles(Gpu& gpu, const SimtCall<T>& call, int64_t matrices) {
  const auto cost = [&](int64_t rows, int64_t columns, int64_t percent) {
    const int64_t blocks = ceiling(call.a.count, rows) * ceiling(call.b.count, columns) * matrices;
    return ceiling(blocks, gpu.device().multiprocessors) * rows * columns * 100 / percent;
  };
  const int64_t large = cost(128, 128, 100), flat = cost(64, 128, 93), small = cost(64, 64, 80);
  if (large <= flat && large <= small) return launch_tiles<T, 2, 4>(gpu, call, matrices);
  return flat <= small ? launch_tiles<T, 1, 4>(gpu, call, matrices)
                       : launch_tiles<T, 1, 2>(gpu, call, matrices);
}

}  // namespace verbatim::cuda
