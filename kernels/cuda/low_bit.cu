// Products with weights of 1 to 7 bits, of which each 32 codes share an integer scale
// (docs/numerics.md, Family B): sums of integers all the same. The weights lie packed, and few rows
// of x stream them past at so many bits each (stream_product.cuh). For more rows the weights become
// two slices of int8 (code times scale has at most 15 bits), and the product is one of slices.
#include <algorithm>
#include <bit>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/kernels/cuda/codes_epilogue.cuh>
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/stream_product.cuh>

namespace verbatim::cuda {
namespace {

constexpr int kMostBits = 7;
constexpr int kSlabGroups = kSlabBytes / static_cast<int>(kQuantizedGroup);
static_assert(kQuantizedGroup == kUnitBytes, "a group is what one product of tiles takes");
constexpr int kSlabWords =
    kSlabGroups * 4;  // of a thread, unpacked: what it has of A for each group

// A slab of 16 rows, packed. Of the bits of a code, in two's complement, the first four lie in a
// plane of their own, then two, then one, as far as there are so many; a plane of f bits has 8 / f
// of a thread's words in one. Behind the planes are the groups' scales, those of a row one word.
template <int kBits>
struct PackedTile {
  static constexpr int kWords = kSlabWords / 8 * kBits;  // of each thread
  static constexpr int kPlaneBytes = kWords * static_cast<int>(kWarp * sizeof(uint32_t));
  static constexpr int kBytes = kPlaneBytes + kTileRows * static_cast<int>(sizeof(uint32_t));
  // Codes are unpacked to the top of a byte, which is that much too great. A code of one bit is -1
  // or 1: its sign, with a one below.
  static constexpr int kShift = kBits == 1 ? 6 : 8 - kBits;

  uint32_t word[kWords];
  uint32_t scales[2];  // of the thread's rows, lane / 4 and 8 more

  __device__ explicit PackedTile(const std::byte* tile) {
    const auto lane = threadIdx.x % kWarp;
    const auto* planes = reinterpret_cast<const uint32_t*>(tile) + lane;
#pragma unroll
    for (int i = 0; i < kWords; ++i) word[i] = planes[i * static_cast<int>(kWarp)];
    const auto* rows = reinterpret_cast<const uint32_t*>(tile + kPlaneBytes) + lane / 4;
    scales[0] = rows[0];
    scales[1] = rows[8];
  }

  // Word r of the thread's, four codes.
  __device__ uint32_t codes(int r) const {
    uint32_t codes = kBits == 1 ? 0x40404040 : 0;
    int first = 0, top = 8;
#pragma unroll
    for (int width = 4; width > 0; width /= 2) {
      if ((kBits & width) == 0) continue;
      top -= width;
      const int in_word = 8 / width, at = r % in_word * width;
      const uint32_t w = word[first + r / in_word], mask = (0x01010101u * ((1u << width) - 1))
                                                           << top;
      codes |= (top > at ? w << (top - at) : w >> (at - top)) & mask;
      first += kSlabWords / in_word;
    }
    return codes;
  }
  __device__ TileA group(int g) const {
    return {{codes(4 * g), codes(4 * g + 1), codes(4 * g + 2), codes(4 * g + 3)}};
  }
  __device__ int32_t scale(int half, int g) const {
    return static_cast<int32_t>(scales[half] >> (8 * g) & 0xFF);
  }
};

// A stream of packed tiles, [ceil(n / 16), slabs].
template <int kBits>
struct PackedWeights {
  using Tile = PackedTile<kBits>;
  using Sum = int64_t;
  static constexpr int kTileBytes = Tile::kBytes;
  // Sums are exact, so warps may share rows, as far as registers go.
  template <int kTiles>
  static constexpr int kMostWarps = kTiles <= 2 ? 16 : kStreamWarps;
  static constexpr bool kShares = true;
  // Sums of so many slabs are int32: 16 groups of 32 * 127 * 126 * 255.
  static constexpr int kNarrowSlabs = 4;
  static_assert(int64_t{kNarrowSlabs} * kSlabGroups * kQuantizedGroup * 127 * 126 * 255 <
                int64_t{1} << 31);

  const std::byte* tiles;
  int row_tiles;

  // What lies beyond the last rows is the last ones again.
  template <class Ring>
  __device__ void copy(const Ring& ring, int row, int slab, int count, int slabs) const {
    for (int warp = 0; warp < ring.warps; ++warp) {
      const int at = row / kTileRows + warp, tile = at < row_tiles ? at : row_tiles - 1;
      copy_bytes(ring.tile_of_w(warp), tiles + (int64_t{tile} * slabs + slab) * kTileBytes,
                 count * kTileBytes, &ring.full[ring.stage]);
    }
  }

  template <class Ring, int kTiles>
  __device__ static void multiply(const Ring& ring, int32_t (&sums)[kTiles][4], int warp) {
    const Tile tile(ring.tile_of_w(warp));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      TileB x[2][kTiles];
#pragma unroll
      for (int t = 0; t < kTiles; ++t) ring.load_x(t, half, x[0][t], x[1][t]);
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const int g = 2 * half + u;
        const TileA w = tile.group(g);
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          int32_t dots[4] = {};
          Int8Unit::multiply(dots, w, x[u][t]);
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[t][e] += dots[e] * tile.scale(e / 2, g);
        }
      }
    }
  }

  template <class Ring, int kTiles>
  __device__ void sum(Ring& ring, Sum (&sums)[kTiles][4], int warp, int slabs) const {
    const auto each = [](auto&& f) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
#pragma unroll
        for (int e = 0; e < 4; ++e) f(t, e);
    };
    each([&](int t, int e) { sums[t][e] = 0; });
    const int stages = (slabs + ring.parts - 1) / ring.parts;
    for (int first = 0; first < stages; first += kNarrowSlabs) {
      int32_t narrow[kTiles][4] = {};
      for (int i = first; i < stages && i < first + kNarrowSlabs; ++i) {
        ring.wait_until_full();
        if (i * ring.parts + ring.part < slabs) multiply(ring, narrow, warp);
        ring.release();
      }
      each([&](int t, int e) { sums[t][e] += narrow[t][e]; });
    }
    each([&](int t, int e) { sums[t][e] >>= Tile::kShift; });  // without a rest
  }
};

// The weights as slices, int8 [2, n, k]: code times scale is 128 times the first and the second.
template <int kBits>
__global__ void __launch_bounds__(256)
    slice_weights(const std::byte* tiles, int64_t count, int slabs, int64_t n, int64_t k,
                  int8_t* slices) {
  using Tile = PackedTile<kBits>;
  const int64_t warps = int64_t{gridDim.x} * (blockDim.x / kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int64_t at = int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp; at < count;
       at += warps) {
    const Tile tile(tiles + at * Tile::kBytes);
    const int64_t row = at / slabs * kTileRows + lane / 4, first = at % slabs * kSlabBytes;
#pragma unroll
    for (int r = 0; r < kSlabWords; ++r) {
      const int64_t i = row + r % 2 * 8,
                    j = first + r / 4 * kUnitBytes + r % 4 / 2 * 16 + lane % 4 * 4;
      if (i >= n || j >= k) continue;
      const uint32_t codes = tile.codes(r);
      uint32_t high = 0, low = 0;
#pragma unroll
      for (int byte = 0; byte < 4; ++byte) {
        const int32_t value = (static_cast<int8_t>(codes >> (8 * byte)) >> Tile::kShift) *
                              tile.scale(r % 2, r / 4),
                      rest = ((value + 64) & 127) - 64;
        high |= (static_cast<uint32_t>((value - rest) >> 7) & 0xFF) << (8 * byte);
        low |= (static_cast<uint32_t>(rest) & 0xFF) << (8 * byte);
      }
      *reinterpret_cast<uint32_t*>(slices + i * k + j) = high;
      *reinterpret_cast<uint32_t*>(slices + (n + i) * k + j) = low;
    }
  }
}

template <class F>
Status with_bits(int64_t bits, F&& f) {
  switch (bits) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    case 4:
      return f(std::integral_constant<int, 4>());
    case 5:
      return f(std::integral_constant<int, 5>());
    case 6:
      return f(std::integral_constant<int, 6>());
    default:
      return f(std::integral_constant<int, 7>());
  }
}

// Weights [n, k] as they are packed: uint32 [ceil(n / 16), ceil(k / 128), words of a tile].
constexpr int64_t kBitWords = kSlabWords / 8 * int64_t{kWarp};
constexpr int64_t words_of(int64_t bits) { return kBitWords * bits + kTileRows; }

// A product of x [m, k] with them.
struct LowBitProduct {
  const Tensor& packed;
  StreamOperands x;
  CodesEpilogue epilogue;

  const std::byte* tiles() const { return packed.address(); }
  int64_t bits() const { return (packed.dim(2) - kTileRows) / kBitWords; }
};

template <int kBits>
Status multiply_in_stream(Gpu& gpu, const LowBitProduct& p) {
  using Weights = PackedWeights<kBits>;
  const auto make = [&](int) -> Result<Weights> {
    return Weights{p.tiles(), static_cast<int>(p.packed.dim(0))};
  };
  return with_tiles_of(p.x.m, [&](auto tiles) {
    return launch_stream<tiles(), Weights>(gpu, p.x, p.epilogue, make);
  });
}

template <int kBits>
Status multiply_in_slices(Gpu& gpu, const LowBitProduct& p) {
  // k as far as x's rows go, which are zeros beyond their own.
  const int64_t n = p.x.n, k = p.x.row_bytes, slabs = p.packed.dim(1),
                count = p.packed.dim(0) * slabs;
  VB_ASSIGN(Tensor slices, Tensor::allocate_on(gpu, DType::i8, {2, n, k}, Purpose::scratch));
  VB_TRY(launch(gpu, grid_for(count * kWarp), slice_weights<kBits>, p.tiles(), count,
                static_cast<int>(slabs), n, k,
                reinterpret_cast<int8_t*>(slices.mutable_address())));
  return multiply_slices_in_groups(gpu, {p.x.x, slices.address(), p.x.m, n, k}, p.epilogue, 1, 2);
}

// --- packing, on the host

// The fewest bits that hold the codes: magnitudes below 2^(bits - 1), or 1 and no zero. Codes that
// a scale of 0 takes out need none.
int64_t bits_of_codes(std::span<const int8_t> codes, std::span<const uint8_t> scales, int64_t n) {
  const int64_t k = std::ssize(codes) / n, groups = std::ssize(scales) / n;
  std::vector<int64_t> bits(static_cast<size_t>(n));
  parallel_for(n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int magnitude = 1;
      bool zero = false;
      for (int64_t j = 0; j < k; ++j) {
        if (scales[static_cast<size_t>(i * groups + j / kQuantizedGroup)] == 0) continue;
        const int code = codes[static_cast<size_t>(i * k + j)];
        magnitude = std::max(magnitude, std::abs(code));
        zero = zero || code == 0;
      }
      bits[static_cast<size_t>(i)] =
          magnitude == 1 && !zero ? 1 : std::bit_width(static_cast<unsigned>(magnitude)) + 1;
    }
  });
  return *std::ranges::max_element(bits);
}

// What PackedTile::codes() takes apart: thread `lane`'s word r gets `code` as its byte.
void pack_code(uint32_t* planes, int64_t bits, int lane, int r, int byte, int code) {
  const uint32_t sign_or_all = bits == 1 ? (code < 0 ? 1 : 0) : static_cast<uint32_t>(code);
  int64_t left = bits, first = 0;
  for (int width = 4; width > 0; width /= 2) {
    if ((bits & width) == 0) continue;
    left -= width;
    const int in_word = 8 / width;
    const uint32_t field = sign_or_all >> left & ((1u << width) - 1);
    planes[(first + r / in_word) * int64_t{kWarp} + lane] |= field
                                                             << (8 * byte + r % in_word * width);
    first += kSlabWords / in_word;
  }
}

struct CodesOfRows {
  std::span<const int8_t> codes;    // [n, k]
  std::span<const uint8_t> scales;  // [n, groups]
  int64_t n, k, groups, bits;
};

// Row i's part of a tile, its slab `slab`.
void pack_row(const CodesOfRows& w, int64_t i, int64_t slab, uint32_t* tile) {
  const auto row = static_cast<int>(i % kTileRows);
  uint32_t scales = 0;
  for (int g = 0; g < kSlabGroups; ++g) {
    const int64_t group = slab * kSlabGroups + g, first = group * kQuantizedGroup;
    const uint8_t scale =
        group < w.groups ? w.scales[static_cast<size_t>(i * w.groups + group)] : 0;
    if (scale == 0) continue;  // its codes may be any, and count for nothing
    scales |= uint32_t{scale} << (8 * g);
    for (int64_t k = first; k < std::min(w.k, first + kQuantizedGroup); ++k) {
      const auto in_group = static_cast<int>(k - first);
      pack_code(tile, w.bits, row % 8 * 4 + in_group % 16 / 4, 4 * g + row / 8 + in_group / 16 * 2,
                in_group % 4, w.codes[static_cast<size_t>(i * w.k + k)]);
    }
  }
  tile[words_of(w.bits) - kTileRows + row] = scales;
}

}  // namespace

Result<Tensor> pack_low_bit(Gpu& gpu, const Tensor& codes, const Tensor& scales) {
  if (!are_grouped_codes(codes, scales) || codes.elements() == 0 ||
      !check_quantized_codes(codes).ok())
    return Tensor();
  const int64_t n = codes.dim(0), k = codes.dim(1);
  CodesOfRows w{codes.data<int8_t>(), scales.data<uint8_t>(), n, k, scales.dim(1), 0};
  w.bits = bits_of_codes(w.codes, w.scales, n);
  if (w.bits > kMostBits) return Tensor();
  const int64_t tiles = ceiling(n, kTileRows), slabs = ceiling(k, kSlabBytes),
                words = words_of(w.bits);
  VB_ASSIGN(Tensor packed, Tensor::zeros(DType::u32, {tiles, slabs, words}, Purpose::scratch));
  uint32_t* to = packed.mutable_data<uint32_t>().data();
  parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * kTileRows; i < std::min(n, end * kTileRows); ++i)
      for (int64_t slab = 0; slab < slabs; ++slab)
        pack_row(w, i, slab, to + (i / kTileRows * slabs + slab) * words);
  });
  return packed.copied_to(gpu);
}

Outcome run_low_bit_linear(Gpu& gpu, const KernelBackend& backend, const Node&,
                           std::span<const Tensor> inputs) {
  const Result<Shape> shape = check_quantized_linear(inputs.first(kPackedLowBit));
  if (!shape.ok()) return not_handled();
  const int64_t m = inputs[1].elements(), n = inputs[2].dim(0), k = inputs[2].dim(1);
  const TileOperands x{inputs[0].address(), nullptr, m, n, k};
  if (!fits_groups(gpu, x)) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(DType::f32, *shape));
  if (out.elements() == 0) return done({out});
  StreamOperands operands{x.a, m, n, k};
  Tensor words;
  if (!x.in_words()) {
    VB_ASSIGN(words, in_whole_words(gpu, x.a, m, k));
    operands.x = words.address();
    operands.row_bytes = words.dim(1);
  }
  const auto floats = [&](size_t i) { return reinterpret_cast<const float*>(inputs[i].address()); };
  const LowBitProduct p{.packed = inputs[kPackedLowBit],
                        .x = operands,
                        .epilogue = {.x_scales = floats(1),
                                     .w_scales = floats(3),
                                     .bias = inputs[5].defined() ? floats(5) : nullptr,
                                     .out = reinterpret_cast<float*>(out.mutable_address())}};
  VB_TRY(with_bits(p.bits(), [&](auto bits) {
    return m <= kStreamRows ? multiply_in_stream<bits()>(gpu, p)
                            : multiply_in_slices<bits()>(gpu, p);
  }));
  return done({out});
}

}  // namespace verbatim::cuda
