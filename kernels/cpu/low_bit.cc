// QuantizedLinear with group scales: weights packed to the bits that their codes need, and tasks
// over panels of columns.
#include <algorithm>
#include <bit>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim {
namespace {

static_assert(kLowBitGroup == kQuantizedGroup);
constexpr int64_t kTaskColumns = 64;

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The fewest bits that hold the codes of a row: magnitudes below 2^(bits - 1), or 1 and no zero.
// Codes that a scale of 0 takes out need none.
int bits_of_row(const int8_t* codes, const uint8_t* group_scales, int64_t k_size) {
  int magnitude = 1;
  bool zero = false;
  for (int64_t k = 0; k < k_size; ++k) {
    if (group_scales[k / kLowBitGroup] == 0) continue;
    magnitude = std::max(magnitude, std::abs(int{codes[k]}));
    zero = zero || codes[k] == 0;
  }
  return magnitude == 1 && !zero ? 1 : std::bit_width(static_cast<unsigned>(magnitude)) + 1;
}

int bits_of(const Tensor& codes, const Tensor& group_scales) {
  const int64_t n = codes.dim(0), k = codes.dim(1), groups = ceiling(k, kLowBitGroup);
  std::vector<int> bits(static_cast<size_t>(n));
  parallel_for(n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      bits[static_cast<size_t>(i)] = bits_of_row(
          codes.data<int8_t>().data() + i * k, group_scales.data<uint8_t>().data() + i * groups, k);
  });
  return bits.empty() ? 1 : *std::ranges::max_element(bits);
}

// The words of one column and group, `panel` words apart.
void pack_group(std::span<const int8_t> codes, int bits, int64_t panel, uint32_t* words) {
  const int offset = bits == 1 ? 1 : (1 << (bits - 1)) - 1;
  for (size_t k = 0; k < codes.size(); ++k) {
    // A code of one bit is -1 or 1: its sign.
    const auto code = static_cast<uint32_t>((codes[k] + offset) >> (bits == 1 ? 1 : 0));
    uint32_t* plane = words;
    for (int width = 4, place = 0; width > 0; width /= 2) {
      if (!(bits & width)) continue;
      const auto word = static_cast<int>(k / 4), a_word = 8 / width;  // registers in a word
      const uint32_t field = code >> place & ((1u << width) - 1);
      plane[word / a_word * panel] |= field << (k % 4 * 8 + word % a_word * width);
      plane += width * panel;
      place += width;
    }
  }
}

}  // namespace

Result<PackedCodes> pack_low_bit(const CpuKernels& kernels, const Tensor& codes,
                                 const Tensor& group_scales) {
  VB_TRY(check_quantized_codes(codes));
  PackedCodes packed;
  const int bits = bits_of(codes, group_scales);
  if (bits > kLowBitMostBits) return packed;
  packed.bits = bits;
  const int64_t n = codes.dim(0), k = codes.dim(1), groups = ceiling(k, kLowBitGroup),
                panel = kernels.low_bit_panel, panels = ceiling(n, panel);
  VB_ASSIGN(packed.codes,
            Tensor::zeros(DType::u32, {panels, groups, bits, panel}, Purpose::scratch));
  VB_ASSIGN(packed.group_scales,
            Tensor::zeros(DType::u8, {panels, groups, panel}, Purpose::scratch));
  const int8_t* from = codes.data<int8_t>().data();
  const uint8_t* scales = group_scales.data<uint8_t>().data();
  uint32_t* to = packed.codes.mutable_data<uint32_t>().data();
  uint8_t* to_scales = packed.group_scales.mutable_data<uint8_t>().data();
  parallel_for(panels, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * panel; i < std::min(end * panel, n); ++i) {
      for (int64_t g = 0; g < groups; ++g) {
        const uint8_t scale = scales[i * groups + g];
        const int64_t block = i / panel * groups + g, column = i % panel;
        to_scales[block * panel + column] = scale;
        if (scale == 0) continue;  // its codes may be any, and count for nothing
        const int64_t first = g * kLowBitGroup, count = std::min<int64_t>(kLowBitGroup, k - first);
        pack_group({from + i * k + first, static_cast<size_t>(count)}, bits, panel,
                   to + block * bits * panel + column);
      }
    }
  });
  return packed;
}

Outcome run_low_bit_linear(const CpuBackend& backend, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[2];
  const Result<Shape> shape = check_quantized_linear(inputs);
  if (!shape.ok() || !check_quantized_codes(x).ok()) return not_handled();
  VB_ASSIGN(const PackedCodes packed, backend.packed_codes(w, inputs[4]));
  if (packed.bits == 0) return not_handled();
  const CpuKernels& kernels = backend.kernels();
  const int64_t m = inputs[1].elements(), n = w.dim(0), k = w.dim(1),
                groups = ceiling(k, kLowBitGroup), panel = kernels.low_bit_panel;
  VB_ASSIGN(Tensor rows, Tensor::allocate(DType::i32, {m, groups, kLowBitWords}, Purpose::scratch));
  int32_t* words = rows.mutable_data<int32_t>().data();
  parallel_for(m, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      kernels.low_bit_activations(x.data<int8_t>().data() + i * k, k, packed.bits,
                                  words + i * groups * kLowBitWords);
  });
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, *shape));
  const bool biased = inputs.size() > 5 && inputs[5].defined();
  const LowBitProduct p = {.x = words,
                           .codes = packed.codes.data<uint32_t>().data(),
                           .group_scales = packed.group_scales.data<uint8_t>().data(),
                           .x_scales = inputs[1].data<float>().data(),
                           .w_scales = inputs[3].data<float>().data(),
                           .bits = packed.bits,
                           .m = m,
                           .n = n,
                           .groups = groups,
                           .bias = biased ? inputs[5].data<float>().data() : nullptr,
                           .out = out.mutable_data<float>().data()};
  parallel_for(ceiling(n, panel), kTaskColumns / panel,
               [&](int64_t begin, int64_t end) { kernels.low_bit_product(p, begin, end); });
  return done({out});
}

}  // namespace verbatim
