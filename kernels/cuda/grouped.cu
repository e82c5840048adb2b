// Rows of groups that share floating scales, their products, and such rows from numbers and back
// (docs/numerics.md, Family B, Group formats). A group's dot is an exact integer, whatever computes
// it; groups fold ascending, in one chain that no kernel cuts.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/grouped.h>
#include <verbatim/kernels/cuda/ordered_sum.cuh>
#include <verbatim/kernels/cuda/rotation.cuh>
#include <verbatim/kernels/cuda/tile_product.cuh>

namespace verbatim::cuda {
namespace {

// --- products of tiles

// A block's kRows x kColumns results, of groups that are multiples of kPart codes: 32, as many as
// one product of tiles takes, or 16, of which one half of a left tile is zeros. The scales of a
// step's parts lie in shared memory behind the tiles, already numbers.
template <int kPart, int kRows, int kColumns>
struct GroupedTiles {
  using Product = TileProduct<Int8Unit, kRows, kColumns>;
  static constexpr int kParts = Product::kStepBytes / kPart, kLines = kRows + kColumns;
  static constexpr int kAhead = Product::kStages - 1;
  static constexpr size_t kScaleBytes = size_t{Product::kStages} * kParts * kLines * sizeof(float);

  static Grid grid(const TileOperands& codes) {
    Grid grid = Product::grid(codes);
    grid.shared_bytes += kScaleBytes;
    return grid;
  }

  Product product;
  const GroupFold& p;
  float acc[Product::kI][Product::kJ][4] = {};

  __device__ GroupedTiles(const TileOperands& codes, const GroupFold& fold)
      : product(codes), p(fold) {}

  // Of part 0 of a step, its rows' and then its columns'; behind them, the next part's.
  __device__ float* scales(int64_t step) const {
    return reinterpret_cast<float*>(product.shared + Product::kSharedBytes) +
           step % Product::kStages * (kParts * kLines);
  }
  __device__ void load_scales(int64_t step) const {
    float* to = scales(step);
    for (int i = static_cast<int>(threadIdx.x); i < kParts * kLines; i += kProductThreads) {
      const int part = i / kLines, line = i % kLines;
      const bool of_x = line < kRows;
      const GroupedRows& rows = of_x ? p.x : p.w;
      const int64_t row = of_x ? product.row + line : product.column + line - kRows,
                    g = (step * Product::kStepBytes + part * kPart) / rows.group;
      to[i] = row < rows.rows && g < rows.groups ? rows.scale(row, g) : 0.0f;
    }
  }

  __device__ void multiply(const std::byte* tiles, int part) {
    const int code = part * kPart, unit = code / kUnitBytes * kUnitBytes;
    product.multiply(tiles, unit, [&](TileA x) {
      // Words 0 and 1 hold the first 16 codes of a row, 2 and 3 the others.
      if constexpr (kPart < kUnitBytes) {
        const int other = code == unit ? 2 : 0;
        x.word[other] = x.word[other + 1] = 0;
      }
      return x;
    });
  }

  // A group has ended, whose scales these are.
  __device__ void fold(const float* scales) {
#pragma unroll
    for (int i = 0; i < Product::kI; ++i)
#pragma unroll
      for (int j = 0; j < Product::kJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          acc[i][j][e] = fma32(
              static_cast<float>(product.sum[i][j][e]),
              scales[product.row_of(i, e)] * scales[kRows + product.column_of(j, e)], acc[i][j][e]);
    product.clear();
  }

  __device__ void run() {
    const int64_t k = p.x.k;
    const auto group = static_cast<int>(p.x.group);
    int in_group = 0;
    for (int64_t step = 0; step < kAhead; ++step) load_scales(step);
    product.each_step([&](int64_t step, const std::byte* tiles) {
      load_scales(step + kAhead);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int64_t begin = step * Product::kStepBytes + part * kPart;
        if (begin >= k) return;
        multiply(tiles, part);
        in_group += kPart;
        if (in_group < group && begin + kPart < k) continue;
        fold(scales(step) + part * kLines);
        in_group = 0;
      }
    });
  }
};

template <int kPart, int kRows, int kColumns>
__global__ void __launch_bounds__(kProductThreads)
    multiply_tiles(TileOperands codes, GroupFold p, float* out) {
  GroupedTiles<kPart, kRows, kColumns> tiles(codes, p);
  tiles.run();
  tiles.product.each([&](int i, int j, int e, int64_t m, int64_t n) {
    out[m * codes.n + n] = p.finished(tiles.acc[i][j][e], m, n);
  });
}

template <int kPart, int kRows, int kColumns>
Status launch_tiles(Gpu& gpu, const GroupFold& p, float* out) {
  const TileOperands codes{p.x.codes, p.w.codes, p.x.rows, p.w.rows, p.x.k};
  return launch(gpu, GroupedTiles<kPart, kRows, kColumns>::grid(codes),
                multiply_tiles<kPart, kRows, kColumns>, codes, p, out);
}

template <int kPart>
Status multiply_in_tiles(Gpu& gpu, const GroupFold& p, float* out) {
  return p.x.rows <= 32 ? launch_tiles<kPart, 32, 64>(gpu, p, out)
                        : launch_tiles<kPart, 64, 128>(gpu, p, out);
}

// --- products of warps: few rows, and groups of any size

constexpr int kDotThreads = 256;
// So many rows of x, or fewer, read the weights once each: from the cache, but for the first.
constexpr int64_t kFewRows = 8;

struct alignas(16) Codes16 {
  uint32_t word[4];
};

// kWords: groups begin at multiples of 16 and have multiples of 16 codes.
template <bool kWords>
__device__ int32_t dot(const int8_t* a, const int8_t* b, int count) {
  int32_t sum = 0;
  if constexpr (kWords) {
#pragma unroll 2
    for (int i = 0; i < count; i += 16) {
      const auto x = *reinterpret_cast<const Codes16*>(a + i),
                 y = *reinterpret_cast<const Codes16*>(b + i);
#pragma unroll
      for (int w = 0; w < 4; ++w)
        sum = __dp4a(static_cast<int>(x.word[w]), static_cast<int>(y.word[w]), sum);
    }
  } else {
    for (int i = 0; i < count; ++i) sum += int32_t{a[i]} * b[i];
  }
  return sum;
}

// A warp for each result. Each thread takes every 32nd group, and all fold what each has found.
template <bool kWords>
__global__ void __launch_bounds__(kDotThreads) multiply_by_warps(GroupFold p, float* out) {
  const int64_t k = p.x.k, groups = p.x.groups, results = p.x.rows * p.w.rows,
                step = int64_t{gridDim.x} * (kDotThreads / kWarp), lane = threadIdx.x % kWarp;
  for (int64_t at = int64_t{blockIdx.x} * (kDotThreads / kWarp) + threadIdx.x / kWarp; at < results;
       at += step) {
    const int64_t m = at / p.w.rows, n = at % p.w.rows;
    float acc = 0;
    for (int64_t first = 0; first < groups; first += kWarp) {
      const int64_t g = first + lane, begin = g * p.x.group;
      float sum = 0, scale = 0;
      if (g < groups) {
        const auto count = static_cast<int>(least(p.x.group, k - begin));
        sum = static_cast<float>(
            dot<kWords>(p.x.codes + m * k + begin, p.w.codes + n * k + begin, count));
        scale = p.x.scale(m, g) * p.w.scale(n, g);
      }
      const auto there = static_cast<int>(least(kWarp, groups - first));
      for (int i = 0; i < there; ++i)
        acc = fma32(__shfl_sync(~0u, sum, i), __shfl_sync(~0u, scale, i), acc);
    }
    if (lane == 0) out[at] = p.finished(acc, m, n);
  }
}

Status multiply_groups(Gpu& gpu, const GroupFold& p, float* out) {
  const int64_t group = p.x.group;
  if (p.x.rows > kFewRows && group % 32 == 0) return multiply_in_tiles<32>(gpu, p, out);
  if (p.x.rows > kFewRows && group % 16 == 0) return multiply_in_tiles<16>(gpu, p, out);
  const bool words =
      group % 16 == 0 &&
      TileOperands{.a = p.x.codes, .b = p.w.codes, .m = p.x.rows, .n = p.w.rows, .row_bytes = p.x.k}
          .in_words();
  return launch(gpu, grid_for(p.x.rows * p.w.rows * kWarp, kDotThreads),
                words ? multiply_by_warps<true> : multiply_by_warps<false>, p, out);
}

// --- rows to codes and back

constexpr int kRowThreads = kRowWarps * static_cast<int>(kWarp);

__device__ inline uint32_t greater_of(uint32_t a, uint32_t b) { return a > b ? a : b; }

// Of a group, by a warp.
__device__ inline float greatest_of_group(const float* x, int count) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  uint32_t greatest = 0;
  for (int i = lane; i < count; i += static_cast<int>(kWarp))
    greatest = greater_of(greatest, bits_of(x[i]) & 0x7FFFFFFF);
  for (int other = 1; other < static_cast<int>(kWarp); other *= 2)
    greatest = greater_of(greatest, __shfl_xor_sync(~0u, greatest, other));
  return magnitude_or_nan(greatest);
}

template <class Step>
__device__ void store_group(const Step& step, const float* x, int count, int8_t* codes,
                            uint8_t* scale) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int i = lane; i < count; i += static_cast<int>(kWarp)) codes[i] = step.code(x[i]);
  if (lane == 0) *scale = step.scale;
}

// A block of threads for each row, a warp for each of its groups.
__global__ void __launch_bounds__(kRowThreads) quantize(GroupCodes p, int64_t rows) {
  float* row = shared_memory<float>();
  const int64_t groups = ceiling(p.k, p.group);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    for (int64_t i = threadIdx.x; i < p.k; i += blockDim.x) row[i] = p.x[r * p.k + i];
    __syncthreads();
    turn_blocks(row, p.k, p.rotation);
    float t = 0;
    if (p.row_scales != nullptr) {
      t = group_row_scale(magnitude_or_nan(greatest_magnitude(row, p.k)), p.greatest);
      if (threadIdx.x == 0) p.row_scales[r] = t;
    }
    for (int64_t g = threadIdx.x / kWarp; g < groups; g += blockDim.x / kWarp) {
      const int64_t begin = g * p.group;
      const float* x = row + begin;
      const auto count = static_cast<int>(least(p.group, p.k - begin));
      const float most = greatest_of_group(x, count);
      int8_t* codes = p.codes + r * p.k + begin;
      uint8_t* scale = p.scales + r * groups + g;
      if (p.row_scales != nullptr)
        store_group(SmallFloatStep(most, t, p.greatest), x, count, codes, scale);
      else
        store_group(PowerStep(most, p.greatest), x, count, codes, scale);
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kRowThreads) dequantize(GroupedRows p, float* y) {
  for (int64_t r = blockIdx.x; r < p.rows; r += gridDim.x)
    for (int64_t i = threadIdx.x; i < p.k; i += blockDim.x) y[r * p.k + i] = p.value(r, i);
}

}  // namespace

Outcome run_grouped_linear(Gpu& gpu, const KernelBackend& backend, const Node& node,
                           std::span<const Tensor> inputs) {
  const Result<GroupedOperands> p = grouped_operands(node, inputs);
  if (!p.ok()) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(DType::f32, p->shape));
  if (out.elements() > 0)
    VB_TRY(multiply_groups(gpu, *p, reinterpret_cast<float*>(out.mutable_address())));
  return done({out});
}

Outcome run_quantize_groups(Gpu& gpu, const KernelBackend&, const Node& node,
                            std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const Result<QuantizeGroups> wanted = quantize_groups_of(node, x);
  if (!wanted.ok() || wanted->whole) return not_handled();
  const int64_t k = x.dim(x.rank() - 1);
  if (k == 0 || !quantizes(k)) return not_handled();
  VB_ASSIGN(GroupedTensor q, allocate_groups(x, wanted->format));
  const int64_t rows = q.row_scales.elements();
  if (rows > 0)
    VB_TRY(launch(gpu, grid_of_shared_rows(rows, k), quantize, group_codes(x, wanted->format, q),
                  rows));
  return done(q.outputs());
}

Outcome run_dequantize_groups(Gpu& gpu, const KernelBackend& backend, const Node& node,
                              std::span<const Tensor> inputs) {
  const Result<GroupFormat> f = group_format_of(node);
  if (!f.ok()) return not_handled();
  const Result<GroupedRows> p =
      grouped_rows(f->group, inputs[0], inputs[1], input_or_none(inputs, 2));
  if (!p.ok()) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(DType::f32, inputs[0].shape()));
  if (out.elements() > 0)
    VB_TRY(launch(gpu, grid_of_rows(p->rows, p->k), dequantize, *p,
                  reinterpret_cast<float*>(out.mutable_address())));
  return done({out});
}

}  // namespace verbatim::cuda
