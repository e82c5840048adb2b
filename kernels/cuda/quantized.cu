// Rows of int8 codes (docs/numerics.md, Family B): quantising them, and their exact products.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/ordered_sum.cuh>
#include <verbatim/kernels/cuda/stream_product.cuh>

namespace verbatim::cuda {
namespace {

// --- quantising

constexpr int kRowThreads = kRowWarps * kWarp;

// quantized.h's rotate_row, by a block of threads, of a row in shared memory.
__device__ inline void rotate_row(float* x, int64_t n, int64_t block) {
  const auto pairs = static_cast<int>(n / 2), strides = static_cast<int>(block);
  for (int stride = 1; stride < strides; stride *= 2) {  // a power of two
    for (int i = static_cast<int>(threadIdx.x); i < pairs; i += static_cast<int>(blockDim.x)) {
      const int at = (i & ~(stride - 1)) << 1 | (i & (stride - 1));
      const float u = x[at], v = x[at + stride];
      x[at] = u + v;
      x[at + stride] = u - v;
    }
    __syncthreads();
  }
  const int64_t blocks = n / block;
  if (blocks <= 1 || block == 1) return;
  const float factor = 2.0f / static_cast<float>(blocks);
  for (int64_t i = threadIdx.x; i < block; i += blockDim.x) {
    float sum = x[i];
    for (int64_t j = 1; j < blocks; ++j) sum = sum + x[i + j * block];
    const float shift = sum * factor;
    for (int64_t j = 0; j < blocks; ++j) x[i + j * block] = x[i + j * block] - shift;
  }
  __syncthreads();
}

__device__ inline int8_t code_of_quotient(float x) {
  if (is_nan(x)) return 0;
  constexpr auto kMost = static_cast<float>(kInt8Codes);
  return static_cast<int8_t>(round_even(x < -kMost ? -kMost : x > kMost ? kMost : x));
}

__global__ void __launch_bounds__(kRowThreads) quantize(RowCodes p, int64_t rows) {
  float* row = shared_memory<float>();
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) row[i] = p.x[r * p.n + i];
    __syncthreads();
    rotate_row(row, p.n, p.rotation);
    const uint32_t greatest = greatest_magnitude(row, p.n);
    const float most = float_of(greatest < 0x7F800000 ? greatest : kNanBits),
                scale = most / static_cast<float>(kInt8Codes);
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x)
      p.codes[r * p.n + i] = scale > 0 ? code_of_quotient(row[i] / scale) : int8_t{0};
    if (threadIdx.x == 0) p.scales[r] = canonical(scale);
    __syncthreads();
  }
}

// --- products

struct CodesEpilogue {
  using Out = float;
  const float *x_scales, *w_scales, *bias;  // [m], [n], [n] or null
  float* out;                               // [m, n]

  using Row = float;
  struct Column {
    float scale, bias;
  };
  __device__ Row row(int64_t m) const { return x_scales[m]; }
  __device__ Column column(int64_t n) const {
    return {w_scales[n], bias == nullptr ? 0.0f : bias[n]};
  }
  __device__ float finished(int32_t sum, Row x_scale, const Column& c) const {
    const float v = static_cast<float>(sum) * (x_scale * c.scale);
    return canonical(bias == nullptr ? v : v + c.bias);
  }
};

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

Outcome run_quantize_rows(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t rotation, node.attributes.get<int64_t>("rotation", 1));
  VB_ASSIGN(const int64_t to, node.attributes.get<int64_t>("to", static_cast<int64_t>(DType::i8)));
  if (x.dtype() != DType::f32 || x.rank() < 1 || dtype_from_onnx(to) != DType::i8)
    return not_handled();
  const int64_t n = x.dim(x.rank() - 1);
  const bool power = rotation > 0 && (rotation & (rotation - 1)) == 0;
  if (n == 0 || !power || n % rotation != 0 || n * int64_t{sizeof(float)} > int64_t{kMostShared})
    return not_handled();
  VB_ASSIGN(const Shape rows_shape,
            Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  VB_ASSIGN(Tensor codes, backend.allocate(DType::i8, x.shape()));
  VB_ASSIGN(Tensor scales, backend.allocate(DType::f32, rows_shape));
  const RowCodes p{.x = reinterpret_cast<const float*>(x.address()),
                   .n = n,
                   .rotation = rotation,
                   .codes = reinterpret_cast<int8_t*>(codes.mutable_address()),
                   .scales = reinterpret_cast<float*>(scales.mutable_address())};
  const int64_t rows = scales.elements();
  const Grid grid{.blocks = {static_cast<unsigned>(least(rows, kMostBlocks)), 1, 1},
                  .threads = {kRowThreads, 1, 1},
                  .shared_bytes = static_cast<size_t>(n) * sizeof(float)};
  if (rows > 0) VB_TRY(launch(gpu, grid, quantize, p, rows));
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
