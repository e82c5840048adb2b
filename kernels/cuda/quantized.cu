// Rows of int8 codes (docs/numerics.md, Family B): quantising them, and their exact products.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>
#include <verbatim/kernels/cuda/codes_epilogue.cuh>
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/ordered_sum.cuh>
#include <verbatim/kernels/cuda/rotation.cuh>
#include <verbatim/kernels/cuda/stream_product.cuh>

namespace verbatim::cuda {
namespace {

// --- quantising

constexpr int kRowThreads = kRowWarps * kWarp;

__device__ inline uint32_t greater_of(uint32_t a, uint32_t b) { return a > b ? a : b; }

// How the numbers of a row become codes: quantized.h's quantize_row's, or quantize_value's where
// rows have exponents.
struct RowStep {
  bool flagged;          // all codes are zero
  bool ordinary;         // quotients are normal, or so small that their codes are zero
  int32_t exponent;      // where rows have exponents
  float scale, inverse;  // of those 2^exponent

  __device__ RowStep(const RowCodes& p, uint32_t greatest) {
    flagged = greatest >= 0x7F800000;
    exponent = 0;
    if (p.scales != nullptr) {
      scale = flagged ? float_of(kNanBits) : float_of(greatest) / static_cast<float>(kInt8Codes);
      flagged = !(scale > 0);
      ordinary = scale >= 0x1p-100f && scale <= 0x1p100f;
      inverse = 1.0f / scale;
      return;
    }
    const int32_t least_e = row_exponent(flagged ? 0.0f : float_of(greatest)) - kSliceBits;
    exponent = least_e > kLeastValueExponent ? least_e : kLeastValueExponent;
    scale = float_of(static_cast<uint32_t>(127 + exponent) << 23);
    inverse = float_of(static_cast<uint32_t>(127 - exponent) << 23);
    ordinary = !flagged;
    if (flagged) exponent = kFlaggedRow;
  }
  // Where the row is ordinary, a division's result by two steps from its product with the inverse
  // (Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990),
  // which is within +-127.00001, so that rounding it keeps to the codes.
  __device__ int8_t code(float x) const {
    if (flagged) return 0;
    if (!ordinary) return code_of(x / scale, kInt8Codes);
    float quotient = x * inverse;
#pragma unroll
    for (int step = 0; step < 2; ++step)
      quotient = fma32(fma32(-quotient, scale, x), inverse, quotient);
    return static_cast<int8_t>(bits_of(quotient + 12582912.0f));  // 1.5 * 2^23
  }
  __device__ void store(const RowCodes& p, int64_t r) const {
    if (p.scales != nullptr)
      p.scales[r] = scale;
    else
      p.exponents[r] = exponent;
  }
};

__global__ void __launch_bounds__(kRowThreads) quantize(RowCodes p, int64_t rows) {
  float* row = shared_memory<float>();
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) row[i] = p.x[r * p.n + i];
    __syncthreads();
    rotate_row(row, p.n, p.rotation);
    const RowStep step(p, greatest_magnitude(row, p.n));
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x)
      p.codes[r * p.n + i] = step.code(row[i]);
    if (threadIdx.x == 0) step.store(p, r);
    __syncthreads();
  }
}

// Rows of fp8: max|x| / 448 is the scale, and codes are e4m3 of x / scale (quantized.h's
// quantize_rows_float8).
__global__ void __launch_bounds__(kRowThreads)
    quantize_float8(const float* x, int64_t n, uint8_t* codes, float* scales, int64_t rows) {
  float* row = shared_memory<float>();
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) row[i] = x[r * n + i];
    __syncthreads();
    const uint32_t greatest = greatest_magnitude(row, n);
    const float scale = greatest >= 0x7F800000 ? float_of(kNanBits) : float_of(greatest) / 448.0f;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      codes[r * n + i] = scale > 0 ? e4m3_from_float(row[i] / scale, true) : uint8_t{0};
    if (threadIdx.x == 0) scales[r] = scale;
    __syncthreads();
  }
}

// The same of heads as most models have them, which are rotated as a whole, in the registers of a
// warp: thread t has elements kEach t to kEach t + kEach - 1.
template <int kEach>
__global__ void __launch_bounds__(kRowThreads) quantize_heads(RowCodes p, int64_t rows) {
  constexpr int kAtOnce = kEach < 4 ? kEach : 4;
  struct alignas(kAtOnce * sizeof(float)) Piece {
    float x[kAtOnce];
  };
  struct alignas(kEach) Codes {
    int8_t of[kEach];
  };
  const int64_t lane = threadIdx.x % kWarp, step_rows = int64_t{gridDim.x} * kRowWarps;
  for (int64_t r = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarp; r < rows;
       r += step_rows) {
    float x[kEach];
    const auto* pieces = reinterpret_cast<const Piece*>(p.x + (r * kWarp + lane) * kEach);
#pragma unroll
    for (int i = 0; i < kEach; i += kAtOnce) {
      const Piece piece = pieces[i / kAtOnce];
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) x[i + e] = piece.x[e];
    }
#pragma unroll
    for (int stride = 1; stride < kEach; stride *= 2) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if ((i & stride) != 0) continue;
        const float u = x[i], v = x[i + stride];
        x[i] = u + v;
        x[i + stride] = u - v;
      }
    }
#pragma unroll
    for (int stride = 1; stride < static_cast<int>(kWarp); stride *= 2) {
#pragma unroll
      for (float& element : x) element = rotated_across(element, stride);
    }
    uint32_t greatest = 0;
#pragma unroll
    for (const float element : x) greatest = greater_of(greatest, bits_of(element) & 0x7FFFFFFF);
#pragma unroll
    for (int other = 1; other < static_cast<int>(kWarp); other *= 2)
      greatest = greater_of(greatest, __shfl_xor_sync(~0u, greatest, other));
    const RowStep step(p, greatest);
    Codes codes;
#pragma unroll
    for (int i = 0; i < kEach; ++i) codes.of[i] = step.code(x[i]);
    reinterpret_cast<Codes*>(p.codes)[r * kWarp + lane] = codes;
    if (lane == 0) step.store(p, r);
  }
}

template <int kEach>
Status launch_heads(Gpu& gpu, const RowCodes& p, int64_t rows) {
  const Grid grid{
      .blocks = {static_cast<unsigned>(least(ceiling(rows, kRowWarps), kMostBlocks)), 1, 1},
      .threads = {kRowThreads, 1, 1}};
  return launch(gpu, grid, quantize_heads<kEach>, p, rows);
}

// --- products

template <int kRows, int kColumns>
__global__ void __launch_bounds__(kProductThreads)
    multiply_codes(TileOperands codes, CodesEpilogue epilogue) {
  TileProduct<Int8Unit, kRows, kColumns> product(codes);
  product.run([](int64_t) {});
  product.each([&](int i, int j, int e, int64_t m, int64_t n) {
    epilogue.out[m * codes.n + n] =
        epilogue.finished(product.sum[i][j][e], epilogue.row(m), epilogue.column(n));
  });
}

template <int kRows, int kColumns>
Status launch_codes(Gpu& gpu, const TileOperands& codes, const CodesEpilogue& epilogue) {
  return launch(gpu, TileProduct<Int8Unit, kRows, kColumns>::grid(codes),
                multiply_codes<kRows, kColumns>, codes, epilogue);
}

Status multiply_codes_of(Gpu& gpu, const TileOperands& codes, const CodesEpilogue& epilogue) {
  if (suits_groups(gpu, codes)) {
    const int64_t slabs = ceiling(codes.row_bytes, kSlabBytes);
    return codes.m <= kStreamRows ? multiply_in_stream<Int8Unit>(gpu, codes, slabs, epilogue)
                                  : multiply_in_groups<Int8Unit>(gpu, codes, slabs, epilogue);
  }
  return codes.m <= 32 ? launch_codes<32, 64>(gpu, codes, epilogue)
                       : launch_codes<128, 128>(gpu, codes, epilogue);
}

}  // namespace

bool quantizes(int64_t n) { return n * int64_t{sizeof(float)} <= int64_t{kMostShared}; }

Status quantize_rows(Gpu& gpu, const RowCodes& p, int64_t rows) {
  if (rows == 0) return {};
  const bool aligned =
      reinterpret_cast<uintptr_t>(p.x) % 16 == 0 && reinterpret_cast<uintptr_t>(p.codes) % 16 == 0;
  if (p.rotation == p.n && aligned) {
    if (p.n == 64) return launch_heads<2>(gpu, p, rows);
    if (p.n == 128) return launch_heads<4>(gpu, p, rows);
    if (p.n == 256) return launch_heads<8>(gpu, p, rows);
  }
  return launch(gpu, grid_of_shared_rows(rows, p.n), quantize, p, rows);
}

Outcome run_quantize_rows(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t rotation, node.attributes.get<int64_t>("rotation", 1));
  VB_ASSIGN(const int64_t to, node.attributes.get<int64_t>("to", static_cast<int64_t>(DType::i8)));
  const DType type = dtype_from_onnx(to);
  const bool float8 = type == DType::f8e4m3;
  if (x.dtype() != DType::f32 || x.rank() < 1 || !(type == DType::i8 || (float8 && rotation == 1)))
    return not_handled();
  const int64_t n = x.dim(x.rank() - 1);
  const bool power = rotation > 0 && (rotation & (rotation - 1)) == 0;
  if (n == 0 || !power || n % rotation != 0 || !quantizes(n)) return not_handled();
  VB_ASSIGN(const Shape rows_shape,
            Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  VB_ASSIGN(Tensor codes, backend.allocate(type, x.shape()));
  VB_ASSIGN(Tensor scales, backend.allocate(DType::f32, rows_shape));
  if (float8) {
    const int64_t rows = scales.elements();
    if (rows > 0)
      VB_TRY(launch(gpu, grid_of_shared_rows(rows, n), quantize_float8,
                    reinterpret_cast<const float*>(x.address()), n,
                    reinterpret_cast<uint8_t*>(codes.mutable_address()),
                    reinterpret_cast<float*>(scales.mutable_address()), rows));
    return done({codes, scales});
  }
  const RowCodes p{.x = reinterpret_cast<const float*>(x.address()),
                   .n = n,
                   .rotation = rotation,
                   .codes = reinterpret_cast<int8_t*>(codes.mutable_address()),
                   .scales = reinterpret_cast<float*>(scales.mutable_address())};
  VB_TRY(quantize_rows(gpu, p, scales.elements()));
  return done({codes, scales});
}

Outcome run_quantized_linear(Gpu& gpu, const KernelBackend& backend, const Node&,
                             std::span<const Tensor> inputs) {
  const auto given = [&](size_t i) { return inputs.size() > i && inputs[i].defined(); };
  const Result<Shape> shape = check_quantized_linear(inputs);
  if (!shape.ok() || given(4)) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(DType::f32, *shape));
  if (out.elements() == 0) return done({out});
  const auto floats = [&](size_t i) { return reinterpret_cast<const float*>(inputs[i].address()); };
  const int64_t n = inputs[2].dim(0), k = inputs[2].dim(1);
  const CodesEpilogue epilogue{.x_scales = floats(1),
                               .w_scales = floats(3),
                               .bias = given(5) ? floats(5) : nullptr,
                               .out = reinterpret_cast<float*>(out.mutable_address())};
  VB_TRY(multiply_codes_of(
      gpu, {inputs[0].address(), inputs[2].address(), inputs[1].elements(), n, k}, epilogue));
  return done({out});
}

}  // namespace verbatim::cuda
