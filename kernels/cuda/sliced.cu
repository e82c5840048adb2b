// Rows as int8 slices, and their products (docs/numerics.md, Family B, Slices): exact integers,
// rounded once.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/ordered_sum.cuh>

namespace verbatim::cuda {
namespace {

constexpr unsigned kThreads = kRowWarps * kWarp;

// Sums of one weight stay in an int32: four pairs of slices are the most, two of them with a first
// slice (127 * 64) and two without (64 * 64).
constexpr int64_t kMostK = INT32_MAX / (2 * 127 * 64 + 2 * 64 * 64);

__global__ void __launch_bounds__(kThreads) cut_rows(const float* x, int64_t rows, int64_t n,
                                                     int count, int8_t* codes, int32_t* exponents) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float* row = x + r * n;
    const uint32_t greatest = greatest_magnitude(row, n);
    const int32_t e = greatest < 0x7F800000 ? row_exponent(float_of(greatest)) : kFlaggedRow;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      slice_number(row[i], e, count,
                   [&](int slice, int8_t code) { codes[(slice * rows + r) * n + i] = code; });
    if (threadIdx.x == 0) exponents[r] = e;
  }
}

// Raises *beyond where a code of the first `first` is not within kInt8Codes, or a later one not
// within kLaterSliceCodes.
__global__ void check_codes(const int8_t* codes, int64_t n, int64_t first, int64_t* beyond) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * blockDim.x) {
    const int most = i < first ? kInt8Codes : kLaterSliceCodes;
    if (codes[i] < -most || codes[i] > most) *beyond = 1;
  }
}

Result<bool> codes_are_within(Gpu& gpu, const Tensor& slices) {
  const int64_t none[] = {0}, n = slices.elements(), first = n / slices.dim(0);
  if (gpu.knows(slices, Gpu::Known::slices, first)) return true;
  VB_ASSIGN(Tensor beyond, upload(gpu, none));
  VB_TRY(launch(gpu, grid_for(n), check_codes, reinterpret_cast<const int8_t*>(slices.address()), n,
                first, reinterpret_cast<int64_t*>(beyond.mutable_address())));
  VB_ASSIGN(const Tensor found, beyond.on_host());
  const bool within = found.data<int64_t>()[0] == 0;
  if (within) gpu.know(slices, Gpu::Known::slices, first);
  return within;
}

}  // namespace

// Not unnamed: nvcc would warn where Hopper's kernels have no code (kHopperCode) and do not use it.
struct SlicesEpilogue {
  using Out = float;
  using Row = int32_t;
  struct Column {
    int32_t exponent;
    float bias;
  };
  const int32_t *x_exponents, *w_exponents;  // [m], [n]
  const float* bias;                         // [n] or null
  int order;
  float* out;  // [m, n]

  __device__ Row row(int64_t m) const { return x_exponents[m]; }
  __device__ Column column(int64_t n) const {
    return {w_exponents[n], bias == nullptr ? -0.0f : bias[n]};  // which changes no number
  }
  __device__ float finished(int64_t sum, Row x_exponent, const Column& c) const {
    if (x_exponent == kFlaggedRow || c.exponent == kFlaggedRow) return float_of(kNanBits);
    return canonical(sliced_result(sum, x_exponent, c.exponent, order) + c.bias);
  }
};

Outcome run_slices(Gpu& gpu, const KernelBackend& backend, const Node& node,
                   std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t count, node.attributes.require<int64_t>("count"));
  if (x.dtype() != DType::f32 || x.rank() < 1 || x.rank() >= kMaxRank || count < 1 ||
      count > kMaxSlices)
    return not_handled();
  std::vector<int64_t> dims{count};
  dims.insert(dims.end(), x.shape().dims().begin(), x.shape().dims().end());
  VB_ASSIGN(const Shape slices_shape, Shape::of(dims));
  VB_ASSIGN(const Shape rows_shape,
            Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  VB_ASSIGN(Tensor codes, backend.allocate(DType::i8, slices_shape));
  VB_ASSIGN(Tensor exponents, backend.allocate(DType::i32, rows_shape));
  const int64_t rows = exponents.elements();
  if (rows > 0)
    VB_TRY(launch(gpu,
                  {.blocks = {static_cast<unsigned>(least(rows, kMostBlocks)), 1, 1},
                   .threads = {kThreads, 1, 1}},
                  cut_rows, reinterpret_cast<const float*>(x.address()), rows, x.dim(x.rank() - 1),
                  static_cast<int>(count), reinterpret_cast<int8_t*>(codes.mutable_address()),
                  reinterpret_cast<int32_t*>(exponents.mutable_address())));
  if (codes.elements() > 0) gpu.know(codes, Gpu::Known::slices, codes.elements() / count);
  return done({codes, exponents});
}

Result<bool> admits_slices(Gpu& gpu, const Tensor& t) {
  if (t.dtype() == DType::i32)  // on the device they are what run_slices gave, or were admitted
    return t.device() != nullptr || check_slice_exponents(t.data<int32_t>()).ok();
  if (t.dtype() != DType::i8) return true;
  if (t.rank() < 2 || t.dim(0) < 1 || t.elements() == 0) return false;
  if (t.device() == nullptr) return check_slice_codes(t).ok();
  return codes_are_within(gpu, t);
}

Outcome run_sliced_linear(Gpu& gpu, const KernelBackend& backend, const Node&,
                          std::span<const Tensor> inputs) {
  const bool biased = inputs.size() > 4 && inputs[4].defined();
  const Result<Shape> shape = check_sliced_linear(inputs);
  if (!shape.ok()) return not_handled();
  const Tensor &x = inputs[0], &w = inputs[2];
  const int64_t k = w.dim(2);
  const int64_t m = inputs[1].elements(), n = w.dim(1);
  const TileOperands operands{x.address(), w.address(), m, n, k};
  if (k > kMostK || !fits_groups(gpu, operands)) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(DType::f32, *shape));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(const WordOperands words, in_words(gpu, operands, x.dim(0) * m, w.dim(0) * n));
  const TileOperands& codes = words.codes;
  const auto a_slices = static_cast<int>(x.dim(0)), b_slices = static_cast<int>(w.dim(0));
  const auto exponents = [&](size_t i) {
    return reinterpret_cast<const int32_t*>(inputs[i].address());
  };
  const SlicesEpilogue epilogue{
      .x_exponents = exponents(1),
      .w_exponents = exponents(3),
      .bias = biased ? reinterpret_cast<const float*>(inputs[4].address()) : nullptr,
      .order = (a_slices > b_slices ? a_slices : b_slices) - 1,
      .out = reinterpret_cast<float*>(out.mutable_address())};
  VB_TRY(multiply_slices_in_groups(gpu, codes, epilogue, a_slices, b_slices));
  return done({out});
}

}  // namespace verbatim::cuda
