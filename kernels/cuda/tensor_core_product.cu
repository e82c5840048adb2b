// Products of bf16 and fp16 as tensor cores compute them (docs/numerics.md, Family C), by the
// tensor cores: one ascending chain for each result, or for each slice of K, whose sums are added
// in binary32. Where the device's units are not those of the contract, nothing runs here.
#include <array>
#include <random>

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/ops/tensor_core.h>
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/stream_product.cuh>

namespace verbatim::cuda {
namespace {

using tensor_core::BFloat16Format;
using tensor_core::HalfFormat;

template <class OutType>
struct Epilogue {
  using Out = OutType;
  tensor_core::Epilogue epilogue;
  Out* out;  // [m, n]

  using Row = float;
  struct Column {
    float scale, addend;
  };
  __device__ Row row(int64_t m) const { return epilogue.x_scale(m); }
  __device__ Column column(int64_t n) const { return {epilogue.w_scale(n), epilogue.addend(n)}; }
  __device__ Out finished(float sum, Row x_scale, const Column& c) const {
    return store<Out>(epilogue.finished(sum, x_scale, c.scale, c.addend));
  }
};
template <class Out>
struct Call {
  TileOperands codes;  // of 16 bits
  int64_t slice;       // elements, a multiple of a step's where there are several
  Epilogue<Out> epilogue;
};

// `kSliced`: K is cut, and what a slice's chain gave joins the sum of those before it.
template <class Format, class Out, bool kSliced, int kRows, int kColumns>
__global__ void __launch_bounds__(kProductThreads) multiply_as_units(Call<Out> p) {
  using Product = TileProduct<FloatUnit<Format>, kRows, kColumns>;
  Product product(p.codes);
  float total[kSliced ? Product::kI : 1][kSliced ? Product::kJ : 1][4];
  int64_t slices = 0;
  const auto end_slice = [&] {
    if constexpr (kSliced) {
#pragma unroll
      for (int i = 0; i < Product::kI; ++i)
#pragma unroll
        for (int j = 0; j < Product::kJ; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float& sum = product.sum[i][j][e];
            total[i][j][e] = slices == 0 ? sum : total[i][j][e] + sum;
            sum = 0;
          }
      ++slices;
    }
  };
  constexpr int kStep = Product::kStepBytes / 2;
  product.run([&](int64_t step) {
    if (kSliced && step > 0 && step * kStep % p.slice == 0) end_slice();
  });
  end_slice();
  product.each([&](int i, int j, int e, int64_t m, int64_t n) {
    float sum = product.sum[i][j][e];
    if constexpr (kSliced) sum = total[i][j][e];
    p.epilogue.out[m * p.codes.n + n] =
        p.epilogue.finished(sum, p.epilogue.row(m), p.epilogue.column(n));
  });
}

template <class Format, class Out, bool kSliced, int kRows, int kColumns>
Status launch_tiles(Gpu& gpu, const Call<Out>& p) {
  return launch(gpu, TileProduct<FloatUnit<Format>, kRows, kColumns>::grid(p.codes),
                multiply_as_units<Format, Out, kSliced, kRows, kColumns>, p);
}

template <class Format, class Out>
Status launch_product(Gpu& gpu, const Call<Out>& p) {
  if (suits_groups(gpu, p.codes)) {
    using Unit = FloatUnit<Format>;
    const int64_t per_fold = ceiling(2 * p.slice, kSlabBytes);
    return p.codes.m <= kStreamRows ? multiply_in_stream<Unit>(gpu, p.codes, per_fold, p.epilogue)
                                    : multiply_in_groups<Unit>(gpu, p.codes, per_fold, p.epilogue);
  }
  const bool sliced = 2 * p.slice < p.codes.row_bytes;
  if (p.codes.m <= 32)
    return sliced ? launch_tiles<Format, Out, true, 32, 64>(gpu, p)
                  : launch_tiles<Format, Out, false, 32, 64>(gpu, p);
  return sliced ? launch_tiles<Format, Out, true, 64, 128>(gpu, p)
                : launch_tiles<Format, Out, false, 128, 128>(gpu, p);
}

template <class Format>
Status multiply_formats(Gpu& gpu, const tensor_core::LinearOperands& o, void* out) {
  return visit_storage(o.output, [&](auto type) {
    using Out = decltype(type);
    return launch_product<Format, Out>(
        gpu, Call<Out>{.codes = {o.x, o.w, o.m, o.n, 2 * o.k},
                       .slice = o.chains.split == 1 ? o.k : o.chains.slice,
                       .epilogue = {o.epilogue, static_cast<Out*>(out)}});
  });
}

// --- whether the device's units are the contract's

constexpr int kProbes = 1024;  // warps, each with a tile of its own
constexpr int kProbeK = 16;
struct Probe {
  uint16_t a[kTileRows][kProbeK], b[kTileColumns][kProbeK];
  float c[kTileRows][kTileColumns];
};

template <class Format>
__global__ void __launch_bounds__(kWarp) probe_tiles(const Probe* probes, float* results) {
  const Probe& p = probes[blockIdx.x];
  const int g = static_cast<int>(threadIdx.x) / 4, q = static_cast<int>(threadIdx.x) % 4;
  const auto word = [](const uint16_t* at) {
    return static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 16;
  };
  const TileA a{{word(&p.a[g][2 * q]), word(&p.a[g + 8][2 * q]), word(&p.a[g][2 * q + 8]),
                 word(&p.a[g + 8][2 * q + 8])}};
  const TileB b{{word(&p.b[g][2 * q]), word(&p.b[g][2 * q + 8])}};
  float d[4];
  for (int e = 0; e < 4; ++e) d[e] = p.c[g + e / 2 * 8][2 * q + e % 2];
  FloatUnit<Format>::multiply(d, a, b);
  for (int e = 0; e < 4; ++e)
    results[(blockIdx.x * kTileRows + g + e / 2 * 8) * kTileColumns + 2 * q + e % 2] =
        canonical(d[e]);
}

// Codes of every exponent, some special, and many that are close to each other, so that sums
// cancel.
std::vector<Probe> probes() {
  std::mt19937 random(1);
  std::vector<Probe> list(kProbes);
  for (int i = 0; i < kProbes; ++i) {
    const auto code = [&]() -> uint16_t {
      const uint32_t bits = random();
      if (i % 4 == 0) return static_cast<uint16_t>(bits);
      return static_cast<uint16_t>((bits & 0x87FF) | (i % 4 == 1 ? 0x3800 : 0x3C00));
    };
    for (auto& row : list[i].a)
      for (uint16_t& c : row) c = code();
    for (auto& row : list[i].b)
      for (uint16_t& c : row) c = code();
    for (auto& row : list[i].c)
      for (float& c : row) {
        const uint32_t bits = random();
        c = float_of(i % 4 == 0 ? bits : (bits & 0x87FFFFFF) | 0x38000000);
      }
  }
  return list;
}

template <class Format>
Result<bool> gives_the_contracts_bits(Gpu& gpu) {
  const std::vector<Probe> list = probes();
  const auto bytes = std::as_bytes(std::span(list));
  VB_ASSIGN(Tensor host, Tensor::allocate(DType::u8, {static_cast<int64_t>(bytes.size())}));
  std::ranges::copy(bytes, host.mutable_bytes().begin());
  VB_ASSIGN(const Tensor in, host.copied_to(gpu));
  VB_ASSIGN(Tensor out,
            Tensor::allocate_on(gpu, DType::f32, Shape{kProbes, kTileRows, kTileColumns}));
  const Grid grid{.blocks = {kProbes, 1, 1}, .threads = {kWarp, 1, 1}};
  VB_TRY(launch(gpu, grid, probe_tiles<Format>, reinterpret_cast<const Probe*>(in.address()),
                reinterpret_cast<float*>(out.mutable_address())));
  VB_ASSIGN(const Tensor have, out.on_host());
  const float* result = have.data<float>().data();
  for (const Probe& p : list)
    for (int r = 0; r < kTileRows; ++r)
      for (int c = 0; c < kTileColumns; ++c) {
        const float want = canonical(tensor_core::step<Format, Format>(
            tensor_core::kSm90, p.c[r][c], p.a[r], p.b[c], kProbeK));
        if (bits_of(want) != bits_of(*result++)) return false;
      }
  return true;
}

}  // namespace

Result<bool> has_units_of_sm90(Gpu& gpu) {
  VB_ASSIGN(const bool bf16, gives_the_contracts_bits<BFloat16Format>(gpu));
  VB_ASSIGN(const bool f16, gives_the_contracts_bits<HalfFormat>(gpu));
  return bf16 && f16;
}

Outcome run_tensor_core_linear(Gpu& gpu, const KernelBackend& backend, const Node& node,
                               std::span<const Tensor> inputs) {
  const Result<tensor_core::LinearOperands> operands = tensor_core::linear_operands(node, inputs);
  if (!operands.ok()) return not_handled();
  const tensor_core::LinearOperands& o = *operands;
  const DType type = inputs[0].dtype();
  const tensor_core::Rule rule = o.unit.rule, ours = tensor_core::kSm90;
  if (is_float8(type) || rule.group != ours.group || rule.fraction != ours.fraction)
    return not_handled();
  VB_ASSIGN(const Shape shape, Shape::of(o.dims));
  VB_ASSIGN(Tensor out, backend.allocate(o.output, shape));
  if (out.elements() == 0) return done({out});
  void* y = out.mutable_address();
  VB_TRY(type == DType::bf16 ? multiply_formats<BFloat16Format>(gpu, o, y)
                             : multiply_formats<HalfFormat>(gpu, o, y));
  return done({out});
}

}  // namespace verbatim::cuda
