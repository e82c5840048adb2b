// Whether the device's tensor cores are those of the contract: asked of them, at the start.
#include <algorithm>
#include <random>
#include <vector>

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/tensor_core.h>
#include <verbatim/kernels/cuda/attention_tiles.cuh>
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/stream_product.cuh>

namespace verbatim::cuda {

// Not unnamed: nvcc would warn where Hopper's kernels have no code (kHopperCode) and do not use it.
struct ProbeEpilogue {
  using Out = float;
  using Row = int;
  using Column = int;
  float* out;
  __device__ Row row(int64_t) const { return 0; }
  __device__ Column column(int64_t) const { return 0; }
  __device__ Out finished(float sum, Row, Column) const { return canonical(sum); }
};

namespace {

using tensor_core::BFloat16Format;
using tensor_core::E4M3Format;
using tensor_core::E5M2Format;
using tensor_core::HalfFormat;

Result<Tensor> upload_bytes(Gpu& gpu, std::span<const std::byte> bytes) {
  VB_ASSIGN(Tensor host, Tensor::allocate(DType::u8, {static_cast<int64_t>(bytes.size())}));
  std::ranges::copy(bytes, host.mutable_bytes().begin());
  return host.copied_to(gpu);
}

// --- a warp's tiles

constexpr int kProbes = 1024;  // warps, each with a tile of its own
constexpr int kProbeK = 16;
struct TileProbe {
  uint16_t a[kTileRows][kProbeK], b[kTileColumns][kProbeK];
  float c[kTileRows][kTileColumns];
};

template <class Format>
__global__ void __launch_bounds__(kWarp) probe_tiles(const TileProbe* probes, float* results) {
  const TileProbe& p = probes[blockIdx.x];
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
std::vector<TileProbe> probes() {
  std::mt19937 random(1);
  std::vector<TileProbe> list(kProbes);
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
Result<bool> tiles_give_the_contracts_bits(Gpu& gpu) {
  const std::vector<TileProbe> list = probes();
  VB_ASSIGN(const Tensor in, upload_bytes(gpu, std::as_bytes(std::span(list))));
  VB_ASSIGN(Tensor out,
            Tensor::allocate_on(gpu, DType::f32, Shape{kProbes, kTileRows, kTileColumns}));
  const Grid grid{.blocks = {kProbes, 1, 1}, .threads = {kWarp, 1, 1}};
  VB_TRY(launch(gpu, grid, probe_tiles<Format>, reinterpret_cast<const TileProbe*>(in.address()),
                reinterpret_cast<float*>(out.mutable_address())));
  VB_ASSIGN(const Tensor have, out.on_host());
  const float* result = have.data<float>().data();
  for (const TileProbe& p : list)
    for (int r = 0; r < kTileRows; ++r)
      for (int c = 0; c < kTileColumns; ++c) {
        const float want = canonical(tensor_core::step<Format, Format>(
            tensor_core::kSm90, p.c[r][c], p.a[r], p.b[c], kProbeK));
        if (bits_of(want) != bits_of(*result++)) return false;
      }
  return true;
}

// --- products, by each loop that there is

#if defined(VERBATIM_EMULATED_GPU)
constexpr bool kEmulated = true;  // its units are the contract's own: little is asked of them
#else
constexpr bool kEmulated = false;
#endif
// Several blocks of results with edges, more steps than a ring has stages, a step that is not
// whole.
constexpr int kProductRows = kEmulated ? 64 : 300, kProductColumns = kEmulated ? 64 : 520,
              kProductBytes = kEmulated ? 2 * kSlabBytes : 9 * kSlabBytes + 16;

// Rows of any codes, and of codes from 1 to 2 of either sign, so that sums cancel.
template <class Format>
std::vector<uint8_t> probe_rows(int count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> rows(static_cast<size_t>(count) * kProductBytes);
  constexpr int kBytes = Format::bits / 8;
  for (size_t i = 0; i < rows.size(); i += kBytes) {
    const uint32_t bits = random(), fraction = (1u << Format::fraction_bits) - 1,
                   sign = 1u << (Format::bits - 1),
                   one = uint32_t{Format::bias} << Format::fraction_bits;
    const bool any = i / kProductBytes % 4 == 0;
    const uint32_t code = any ? bits : (bits & (sign | fraction)) | one;
    std::memcpy(&rows[i], &code, kBytes);
  }
  return rows;
}

// Chains of so many bytes of the rows, their sums added ascending.
template <class Unit>
float product_of(const uint8_t* x, const uint8_t* w, int chain) {
  float total = 0;
  for (int begin = 0; begin < kProductBytes; begin += chain) {
    float sum = 0;
    for (int at = begin; at < std::min(begin + chain, kProductBytes); at += kUnitBytes) {
      uint8_t a[kUnitBytes] = {}, b[kUnitBytes] = {};
      const auto size = static_cast<size_t>(std::min(kUnitBytes, kProductBytes - at));
      std::memcpy(a, x + at, size);
      std::memcpy(b, w + at, size);
      sum = Unit::dot(sum, a, b);
    }
    total = begin == 0 ? sum : total + sum;
  }
  return canonical(total);
}

template <class X, class W>
class ProductProbe {
 public:
  using Unit = FloatUnit<X, W>;
  // Multiplies the first `m` rows of x in chains of so many slabs.
  using Multiply = Status (*)(Gpu& gpu, const TileOperands& codes, int64_t slabs,
                              const ProbeEpilogue& epilogue);

  static Result<ProductProbe> create(Gpu& gpu) {
    ProductProbe p;
    VB_ASSIGN(p.left_, upload_bytes(gpu, std::as_bytes(std::span(p.x_))));
    VB_ASSIGN(p.right_, upload_bytes(gpu, std::as_bytes(std::span(p.w_))));
    return p;
  }
  // Of a part of the results.
  Result<bool> gives_the_contracts_bits(Gpu& gpu, Multiply multiply, int m, int slabs) const {
    VB_ASSIGN(Tensor out, Tensor::allocate_on(gpu, DType::f32, Shape{m, kProductColumns}));
    VB_TRY(multiply(gpu, {left_.address(), right_.address(), m, kProductColumns, kProductBytes},
                    slabs, {reinterpret_cast<float*>(out.mutable_address())}));
    VB_ASSIGN(const Tensor have, out.on_host());
    for (int i = 0; i < m * kProductColumns; i += m * kProductColumns / 600 | 1) {
      const auto row = static_cast<size_t>(i / kProductColumns),
                 column = static_cast<size_t>(i % kProductColumns);
      const float want = product_of<Unit>(&x_[row * kProductBytes], &w_[column * kProductBytes],
                                          slabs * kSlabBytes);
      if (bits_of(want) != bits_of(have.data<float>()[static_cast<size_t>(i)])) return false;
    }
    return true;
  }

 private:
  std::vector<uint8_t> x_ = probe_rows<X>(kProductRows, 1), w_ = probe_rows<W>(kProductColumns, 2);
  Tensor left_, right_;
};

template <class Unit, int kColumns, Fold kFold>
Status by_groups(Gpu& gpu, const TileOperands& codes, int64_t slabs, const ProbeEpilogue& e) {
  return launch_groups<Unit, kColumns, kFold>(gpu, codes, slabs, e);
}

template <class X, class W>
Result<bool> products_give_the_contracts_bits(Gpu& gpu) {
  using Unit = FloatUnit<X, W>;
  constexpr auto kAll = static_cast<int>((kProductBytes + kSlabBytes - 1) / kSlabBytes);
  VB_ASSIGN(const auto probe, (ProductProbe<X, W>::create(gpu)));
  const auto gives = [&](auto multiply, int m, int slabs) {
    return probe.gives_the_contracts_bits(gpu, multiply, m, slabs);
  };
  VB_ASSIGN(bool all, gives(by_groups<Unit, 128, Fold::none>, kProductRows, kAll));
  if (kEmulated || !all) return all;
  VB_ASSIGN(all, gives(by_groups<Unit, 64, Fold::none>, kProductRows, kAll));
  if (!all) return false;
  VB_ASSIGN(all, gives(by_groups<Unit, 256, Fold::none>, kProductRows, kAll));
  if (!all) return false;
  VB_ASSIGN(all, gives(by_groups<Unit, 128, Fold::sums>, kProductRows, 2));
  if constexpr (X::bits == 16) {
    for (const int m : {1, 64}) {
      if (!all) return false;
      VB_ASSIGN(all, gives(multiply_in_stream<Unit, ProbeEpilogue>, m, kAll));
    }
  }
  return all;
}

// --- attention

// Every exponent that a weight may have, and those below -126 whose weights are zero.
constexpr float kLeastProbed = -127, kStep = 1.0f / 512;
constexpr int kExponents = static_cast<int>((kMostExponent - kLeastProbed) / kStep) + 1;
__host__ __device__ constexpr float probed_exponent(int64_t i) {
  return kLeastProbed + static_cast<float>(i) * kStep;
}
__global__ void probe_exponents(float* results) {
  each_element(kExponents, [&](int64_t i) { results[i] = grid_exp2(probed_exponent(i)); });
}
// Whether a weight rounds to 16 bits as the contract's; and to whole numbers of 10 bits, which two
// units in the last place cannot change.
bool is_near(float have, float want) {
  const uint32_t distance = bits_of(have) - bits_of(want) + 2;
  return store<BFloat16>(have).bits == store<BFloat16>(want).bits &&
         store<Half>(have).bits == store<Half>(want).bits && distance <= 4;
}

// Numbers from 1/2 to 2 of either sign.
template <class T>
Result<Tensor> probe_tensor(DType type, const Shape& shape, unsigned seed) {
  using Format = typename tensor_core::FormatOf<T>::type;
  std::mt19937 random(seed);
  VB_ASSIGN(Tensor t, Tensor::allocate(type, shape));
  for (T& x : t.mutable_data<T>()) {
    const uint32_t bits = random(),
                   kept = 1u << (Format::bits - 1) | ((1u << Format::fraction_bits) - 1),
                   field = uint32_t{Format::bias} - (bits >> 16 & 1);
    x.bits = static_cast<uint16_t>((bits & kept) | field << Format::fraction_bits);
  }
  return t;
}

// Masked and not, of rows enough for warp groups, of few rows, and of few keys, which warps attend
// to, with a block of keys that is not whole.
template <class T>
Result<bool> attends_as_the_contract(Backend& backend, DType type, int64_t size) {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{70, 300}, {5, 300}, {5, 100}})
    for (const int64_t causal : {0, 1}) {
      Node node;
      node.domain = kVerbatimDomain;
      node.op = "AttentionTensorCore";
      node.attributes = {
          {"heads", int64_t{2}}, {"kv_heads", int64_t{1}}, {"scale", 0.1f}, {"causal", causal}};
      Tensors inputs(3);
      VB_ASSIGN(inputs[0], probe_tensor<T>(type, Shape{1, queries, 2 * size}, 1));
      VB_ASSIGN(inputs[1], probe_tensor<T>(type, Shape{1, keys, size}, 2));
      VB_ASSIGN(inputs[2], probe_tensor<T>(type, Shape{1, keys, size}, 3));
      VB_ASSIGN(const Tensors there, backend.run(node, inputs));
      VB_ASSIGN(const Tensor have, there[0].on_host());
      VB_ASSIGN(const Tensors want, evaluate_reference(node, inputs));
      if (!std::ranges::equal(have.bytes(), want[0].bytes())) return false;
    }
  return true;
}

// All that `probes` ask.
using Probe = Result<bool> (*)(Gpu&);
Result<bool> all_give(Gpu& gpu, std::initializer_list<Probe> probes) {
  for (const Probe probe : probes) {
    VB_ASSIGN(const bool gives, probe(gpu));
    if (!gives) return false;
  }
  return true;
}

}  // namespace

Result<bool> has_near_powers(Gpu& gpu) {
  VB_ASSIGN(Tensor there,
            Tensor::allocate_on(gpu, DType::f32, Shape{kExponents}, Purpose::scratch));
  auto* results = reinterpret_cast<float*>(there.mutable_address());
  VB_TRY(launch(gpu, grid_for(kExponents), probe_exponents, results));
  VB_ASSIGN(const Tensor have, there.on_host());
  for (int i = 0; i < kExponents; ++i) {
    const float t = probed_exponent(i), want = exp2p(t), power = have.data<float>()[i];
    if (!is_near(power, want) || (round_even(t) == t && power != want)) return false;
  }
  return true;
}

Result<bool> has_units_of_sm90(Gpu& gpu) {
  VB_ASSIGN(const bool tiles, all_give(gpu, {tiles_give_the_contracts_bits<BFloat16Format>,
                                             tiles_give_the_contracts_bits<HalfFormat>}));
  if (!tiles || !gpu.device().hopper) return tiles;
  return all_give(gpu, {products_give_the_contracts_bits<BFloat16Format, BFloat16Format>,
                        products_give_the_contracts_bits<HalfFormat, HalfFormat>,
                        products_give_the_contracts_bits<E4M3Format, E4M3Format>,
                        products_give_the_contracts_bits<E4M3Format, E5M2Format>,
                        products_give_the_contracts_bits<E5M2Format, E4M3Format>,
                        products_give_the_contracts_bits<E5M2Format, E5M2Format>});
}

Result<bool> attends_as_sm90(Backend& backend) {
  if (kEmulated) return true;
  for (const int64_t size : {64, 128}) {
    VB_ASSIGN(const bool bf16, attends_as_the_contract<BFloat16>(backend, DType::bf16, size));
    VB_ASSIGN(const bool f16, attends_as_the_contract<Half>(backend, DType::f16, size));
    if (!bf16 || !f16) return false;
  }
  return true;
}

}  // namespace verbatim::cuda
