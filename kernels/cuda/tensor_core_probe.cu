// Whether the device's tensor cores are those of the contract: asked of them, at the start.
#include <algorithm>
#include <random>
#include <vector>

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/kernels/cuda/group_product.cuh>

namespace verbatim::cuda {
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

// --- products of warp groups

constexpr int kGroupProbeRows = 128, kGroupProbeBytes = 2 * kSlabBytes;
struct ProbeEpilogue {
  using Out = float;
  using Row = int;
  using Column = int;
  float* out;
  __device__ Row row(int64_t) const { return 0; }
  __device__ Column column(int64_t) const { return 0; }
  __device__ Out finished(float sum, Row, Column) const { return canonical(sum); }
};

// Rows of any codes, and of codes from 1 to 2 of either sign, so that sums cancel.
template <class Format>
std::vector<uint8_t> probe_rows(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> rows(size_t{kGroupProbeRows} * kGroupProbeBytes);
  constexpr int kBytes = Format::bits / 8;
  for (size_t i = 0; i < rows.size(); i += kBytes) {
    const uint32_t bits = random(), fraction = (1u << Format::fraction_bits) - 1,
                   sign = 1u << (Format::bits - 1),
                   one = uint32_t{Format::bias} << Format::fraction_bits;
    const bool any = i / kGroupProbeBytes % 4 == 0;
    const uint32_t code = any ? bits : (bits & (sign | fraction)) | one;
    std::memcpy(&rows[i], &code, kBytes);
  }
  return rows;
}

template <class X, class W>
Result<bool> groups_give_the_contracts_bits(Gpu& gpu) {
  using Unit = FloatUnit<X, W>;
  const std::vector<uint8_t> x = probe_rows<X>(1), w = probe_rows<W>(2);
  VB_ASSIGN(const Tensor left, upload_bytes(gpu, std::as_bytes(std::span(x))));
  VB_ASSIGN(const Tensor right, upload_bytes(gpu, std::as_bytes(std::span(w))));
  VB_ASSIGN(Tensor out,
            Tensor::allocate_on(gpu, DType::f32, Shape{kGroupProbeRows, kGroupProbeRows}));
  VB_TRY(multiply_in_groups<Unit>(
      gpu, {left.address(), right.address(), kGroupProbeRows, kGroupProbeRows, kGroupProbeBytes},
      kGroupProbeBytes / kSlabBytes,
      ProbeEpilogue{reinterpret_cast<float*>(out.mutable_address())}));
  VB_ASSIGN(const Tensor have, out.on_host());
  for (int i = 0; i < kGroupProbeRows * kGroupProbeRows; i += 29) {
    float want = 0;
    for (int byte = 0; byte < kGroupProbeBytes; byte += kUnitBytes) {
      uint8_t a[kUnitBytes], b[kUnitBytes];
      std::memcpy(a, &x[size_t(i / kGroupProbeRows * kGroupProbeBytes + byte)], kUnitBytes);
      std::memcpy(b, &w[size_t(i % kGroupProbeRows * kGroupProbeBytes + byte)], kUnitBytes);
      want = Unit::dot(want, a, b);
    }
    if (bits_of(canonical(want)) != bits_of(have.data<float>()[static_cast<size_t>(i)]))
      return false;
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

Result<bool> has_units_of_sm90(Gpu& gpu) {
  VB_ASSIGN(const bool tiles, all_give(gpu, {tiles_give_the_contracts_bits<BFloat16Format>,
                                             tiles_give_the_contracts_bits<HalfFormat>}));
  if (!tiles || gpu.device().major != 9) return tiles;
  return all_give(gpu, {groups_give_the_contracts_bits<BFloat16Format, BFloat16Format>,
                        groups_give_the_contracts_bits<HalfFormat, HalfFormat>,
                        groups_give_the_contracts_bits<E4M3Format, E4M3Format>,
                        groups_give_the_contracts_bits<E4M3Format, E5M2Format>,
                        groups_give_the_contracts_bits<E5M2Format, E4M3Format>,
                        groups_give_the_contracts_bits<E5M2Format, E5M2Format>});
}

}  // namespace verbatim::cuda
