// Ordered products in binary32 (docs/numerics.md, Family A, Matrix product) on the SIMT cores: each
// thread owns outputs, and adds their products in ascending k. What a block of 512 gave joins the
// sum of those before it, which waits in shared memory: registers are for the products.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/number.h>

namespace verbatim::cuda {
namespace {

constexpr int kSide = 16;  // threads are kSide x kSide
constexpr int kThreads = kSide * kSide;
constexpr int kDepth = 16;  // k of a step
static_assert(kProductBlock % kDepth == 0);

struct Batch {
  int64_t m, a_step, b_step;  // elements from one matrix to the next
};

// Rows x Columns outputs, thread (x, y) those at (y + 16 i, x + 16 j).
template <class T, int kRows, int kColumns>
struct Tile {
  static constexpr int kI = kRows / kSide, kJ = kColumns / kSide;
  static constexpr size_t kSumBytes = sizeof(float) * kRows * kColumns;

  float a[kDepth][kRows + 1], b[kDepth][kColumns + 1];

  // Elements beyond the matrices are +0, and change nothing that is stored.
  __device__ void load_from(const Product& p, const T* pa, const T* pb, int64_t m, int64_t row,
                            int64_t column, int64_t k, int64_t k_end) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kDepth; i += kThreads) {
      // Neighbours in memory for neighbouring threads, whichever way the matrix lies.
      const int at_k = p.a_k == 1 ? i % kDepth : i / kRows,
                at = p.a_k == 1 ? i / kDepth : i % kRows;
      const bool inside = row + at < m && k + at_k < k_end;
      a[at_k][at] = inside ? load(pa[(row + at) * p.a_row + (k + at_k) * p.a_k]) : 0.0f;
    }
    for (int i = static_cast<int>(threadIdx.x); i < kColumns * kDepth; i += kThreads) {
      const int at_k = p.b_k == 1 ? i % kDepth : i / kColumns,
                at = p.b_k == 1 ? i / kDepth : i % kColumns;
      const bool inside = column + at < p.n && k + at_k < k_end;
      b[at_k][at] = inside ? load(pb[(k + at_k) * p.b_k + (column + at) * p.b_n]) : 0.0f;
    }
  }

  // Of the `steps` first k.
  __device__ void multiply(int steps, float (&sum)[kI][kJ]) const {
    const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
    for (int k = 0; k < steps; ++k) {
      float left[kI], right[kJ];
#pragma unroll
      for (int i = 0; i < kI; ++i) left[i] = a[k][y + kSide * i];
#pragma unroll
      for (int j = 0; j < kJ; ++j) right[j] = b[k][x + kSide * j];
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int j = 0; j < kJ; ++j) sum[i][j] = fma32(left[i], right[j], sum[i][j]);
    }
  }
};

// What follows an exact chain: see Product.
template <class T>
__device__ T finished(const Product& p, const T* c, float sum, int64_t row, int64_t column) {
  if (p.alpha != 1) sum = sum * p.alpha;
  if (p.rounded_before_c) sum = load(store<T>(sum));
  if (c != nullptr) {
    const float addend = load(c[row * p.c_row + column * p.c_column]);
    sum = sum + (p.beta == 1 ? addend : addend * p.beta);
  }
  return store<T>(sum);
}

template <class T, int kRows, int kColumns>
__global__ void __launch_bounds__(kThreads) product(Product p, Batch batch) {
  using Tile = Tile<T, kRows, kColumns>;
  __shared__ Tile tile;
  float* totals = shared_memory<float>();  // [output of a thread][thread]
  const int64_t column_tiles = ceiling(p.n, kColumns), row = blockIdx.x / column_tiles * kRows,
                column = blockIdx.x % column_tiles * kColumns, matrix = blockIdx.z;
  const T *a = static_cast<const T*>(p.a) + matrix * batch.a_step,
          *b = static_cast<const T*>(p.b) + matrix * batch.b_step;
  const auto each = [&](auto&& f) {
#pragma unroll
    for (int i = 0; i < Tile::kI; ++i)
#pragma unroll
      for (int j = 0; j < Tile::kJ; ++j)
        f(i, j, totals[(i * Tile::kJ + j) * kThreads + threadIdx.x]);
  };

  float sum[Tile::kI][Tile::kJ] = {};
  for (int64_t k = 0; k < p.k; k += kDepth) {
    if (k > 0 && k % kProductBlock == 0) {
      const bool first = k == kProductBlock;
      each([&](int i, int j, float& total) {
        total = first ? sum[i][j] : total + sum[i][j];
        sum[i][j] = 0;
      });
    }
    tile.load_from(p, a, b, batch.m, row, column, k, p.k);
    __syncthreads();
    tile.multiply(static_cast<int>(least(kDepth, p.k - k)), sum);
    __syncthreads();
  }

  const int64_t y = threadIdx.x / kSide, x = threadIdx.x % kSide;
  T* out = static_cast<T*>(p.out) + matrix * batch.m * p.n;
  each([&](int i, int j, float& total) {
    const float all = p.k > kProductBlock ? total + sum[i][j] : sum[i][j];
    const int64_t m = row + y + kSide * i, n = column + x + kSide * j;
    if (m < batch.m && n < p.n)
      out[m * p.n + n] = finished(p, static_cast<const T*>(p.c), all, m, n);
  });
}

template <class T, int kRows, int kColumns>
Status launch_product(Gpu& gpu, const Product& p, const Batch& batch, int64_t matrices) {
  const Grid grid{
      .blocks = {static_cast<unsigned>(ceiling(batch.m, kRows) * ceiling(p.n, kColumns)), 1,
                 static_cast<unsigned>(matrices)},
      .threads = {kThreads, 1, 1},
      .shared_bytes = p.k > kProductBlock ? Tile<T, kRows, kColumns>::kSumBytes : 0};
  return launch(gpu, grid, product<T, kRows, kColumns>, p, batch);
}

// The longest run of products from `first` on whose matrices of A, and of B, lie a step apart.
struct Run {
  int64_t count, a_step, b_step;  // in matrices
};
Run run_from(std::span<const MatrixPair> pairs, size_t first) {
  constexpr int64_t kMost = 65535;  // blocks in z
  const auto left = static_cast<int64_t>(pairs.size() - first);
  if (left == 1) return {1, 0, 0};
  const auto at = [&](int64_t i) { return pairs[first + static_cast<size_t>(i)]; };
  Run run{2, at(1).first - at(0).first, at(1).second - at(0).second};
  while (run.count < least(left, kMost) &&
         at(run.count).first - at(run.count - 1).first == run.a_step &&
         at(run.count).second - at(run.count - 1).second == run.b_step)
    ++run.count;
  return run;
}

}  // namespace

Status multiply(Gpu& gpu, const Product& product, const MatrixView& b, int64_t m,
                std::span<const MatrixPair> pairs) {
  if (m == 0 || b.n == 0) return {};
  return visit_storage(b.type, [&](auto type) -> Status {
    using T = decltype(type);
    Product p = product;
    p.type = b.type;
    p.b_k = b.k_stride;
    p.b_n = b.n_stride;
    p.n = b.n;
    p.k = b.k;
    for (size_t i = 0; i < pairs.size();) {
      const Run run = run_from(pairs, i);
      p.a = static_cast<const T*>(product.a) + pairs[i].first * m * b.k;
      p.b = reinterpret_cast<const T*>(b.data) + pairs[i].second * b.k * b.n;
      p.out = static_cast<T*>(product.out) + static_cast<int64_t>(i) * m * b.n;
      const Batch batch{m, run.a_step * m * b.k, run.b_step * b.k * b.n};
      VB_TRY(m <= kSide ? (launch_product<T, 16, 64>(gpu, p, batch, run.count))
                        : (launch_product<T, 64, 64>(gpu, p, batch, run.count)));
      i += static_cast<size_t>(run.count);
    }
    return {};
  });
}

}  // namespace verbatim::cuda
