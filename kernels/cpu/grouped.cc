// GroupedLinear, QuantizeGroups and DequantizeGroups: weights packed to 4 or 8 bits, tasks over
// rows and panels of columns.
#include <verbatim/repops/ops/grouped.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

// Smaller groups would be padding for the most part.
constexpr int64_t kLeastGroup = kGroupedStep / 2;
constexpr int64_t kTaskElements = 1 << 13;  // of quantisers

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t rows_for_a_task(int64_t k) { return ceiling(kTaskElements, std::max<int64_t>(1, k)); }

bool fits_four_bits(std::span<const int8_t> codes) {
  return std::ranges::all_of(codes, [](int8_t c) { return -8 <= c && c <= 7; });
}

// The words of one column and group, `panel` words apart.
void pack_group(std::span<const int8_t> codes, int bits, int64_t panel, uint32_t* words) {
  const int64_t in_word = 32 / bits;
  for (size_t k = 0; k < codes.size(); ++k) {
    const auto at = static_cast<int64_t>(k);
    const auto code = static_cast<uint32_t>(codes[k] + (1 << (bits - 1)));
    const int64_t place = at % 4 * 8 + (at % in_word >= 4 ? 4 : 0);
    words[at / in_word * panel] |= code << place;
  }
}

// A row that is shorter than a group is one group of its own length, so that nothing is padding.
GroupedRows with_short_groups(GroupedRows rows) {
  rows.group = std::min(rows.group, rows.k);
  return rows;
}

GroupedRow row_of(const GroupedRows& rows, int64_t i) {
  return {.codes = rows.codes + i * rows.k,
          .scales = rows.scales + i * rows.groups,
          .scale_values = rows.scale_values,
          .k = rows.k,
          .group = rows.group};
}

// x's rows as the product takes them.
Result<Tensor> copy_rows(const CpuKernels& kernels, const GroupedRows& x, int64_t steps, int bits) {
  const int64_t words = kernels.grouped_row_words(x.groups, steps, bits);
  VB_ASSIGN(Tensor rows, Tensor::allocate(DType::i32, {x.rows, words}, Purpose::scratch));
  int32_t* const to = rows.mutable_data<int32_t>().data();
  parallel_for(x.rows, rows_for_a_task(x.k), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      kernels.grouped_activations(row_of(x, i), bits, to + i * words);
  });
  return rows;
}

void run_tasks(const CpuKernels& kernels, const GroupedProduct& p) {
  const int64_t panel = kernels.grouped_panel, panels = ceiling(p.n, panel),
                row_tasks = ceiling(p.m, kGroupedRows), columns = p.m > 16 ? 256 : 64,
                column_tasks = ceiling(panels, columns / panel);
  parallel_for(row_tasks * column_tasks, 1, [&](int64_t begin, int64_t end) {
    float* scratch = thread_scratch(static_cast<size_t>(kGroupedRows * panel));
    for (int64_t i = begin; i < end; ++i) {
      // One after the other with the same rows, which then are at hand.
      const int64_t row = i / column_tasks, column = i % column_tasks;
      kernels.grouped_product(p, p.m * row / row_tasks, p.m * (row + 1) / row_tasks,
                              panels * column / column_tasks, panels * (column + 1) / column_tasks,
                              scratch);
    }
  });
}

}  // namespace

Result<PackedCodes> pack_groups(const CpuKernels& kernels, const GroupedRows& rows) {
  const GroupedRows w = with_short_groups(rows);
  PackedCodes packed;
  if (w.group < kLeastGroup) return packed;
  packed.bits = fits_four_bits({w.codes, static_cast<size_t>(w.rows * w.k)}) ? 4 : 8;
  const int64_t panel = kernels.grouped_panel, panels = ceiling(w.rows, panel),
                words = ceiling(w.group, kGroupedStep) * (kGroupedStep * packed.bits / 32);
  VB_ASSIGN(packed.codes,
            Tensor::zeros(DType::u32, {panels, w.groups, words, panel}, Purpose::scratch));
  VB_ASSIGN(packed.group_scales,
            Tensor::zeros(DType::bf16, {panels, w.groups, panel}, Purpose::scratch));
  uint32_t* const codes = packed.codes.mutable_data<uint32_t>().data();
  BFloat16* const scales = packed.group_scales.mutable_data<BFloat16>().data();
  parallel_for(panels, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * panel; i < std::min(end * panel, w.rows); ++i) {
      for (int64_t g = 0; g < w.groups; ++g) {
        const int64_t block = i / panel * w.groups + g, column = i % panel, first = g * w.group;
        scales[block * panel + column].bits = bfloat16_from_float(w.scale(i, g));
        pack_group({w.codes + i * w.k + first, static_cast<size_t>(std::min(w.group, w.k - first))},
                   packed.bits, panel, codes + block * words * panel + column);
      }
    }
  });
  return packed;
}

Outcome run_grouped_linear(const CpuBackend& backend, const Node& node,
                           std::span<const Tensor> inputs) {
  const Result<GroupedOperands> o = grouped_operands(node, inputs);
  if (!o.ok()) return not_handled();
  const GroupedRows x = with_short_groups(o->x), w = with_short_groups(o->w);
  const CpuKernels& kernels = backend.kernels();
  VB_ASSIGN(const PackedCodes packed, backend.packed_codes(inputs[2], inputs[3], o->w.group));
  if (packed.bits == 0) return not_handled();
  const int64_t steps = ceiling(w.group, kGroupedStep);
  VB_ASSIGN(const Tensor rows, copy_rows(kernels, x, steps, packed.bits));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, o->shape));
  GroupedProduct p = {
      .x = rows.data<int32_t>().data(),
      .codes = reinterpret_cast<const int32_t*>(packed.codes.bytes().data()),
      .scales = reinterpret_cast<const uint16_t*>(packed.group_scales.bytes().data()),
      .bits = packed.bits,
      .m = x.rows,
      .n = w.rows,
      .groups = w.groups,
      .steps = steps,
      .power = o->power,
      .bias = o->bias,
      .out = out.mutable_data<float>().data()};
  static constexpr float kOne = 1;
  if (o->has_row_scales()) {
    p.x_scales = x.row_scales != nullptr ? x.row_scales : &kOne;
    p.w_scales = w.row_scales != nullptr ? w.row_scales : &kOne;
    p.x_scale_step = x.row_scales != nullptr && !x.one_row_scale;
    p.w_scale_step = w.row_scales != nullptr && !w.one_row_scale;
  }
  run_tasks(kernels, p);
  return done({out});
}

Outcome run_quantize_groups(const CpuBackend& backend, const Node& node,
                            std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const Result<QuantizeGroups> wanted = quantize_groups_of(node, x);
  if (!wanted.ok() || wanted->whole) return not_handled();
  VB_ASSIGN(GroupedTensor q, allocate_groups(x, wanted->format));
  const GroupCodes p = group_codes(x, wanted->format, q);
  parallel_for(q.row_scales.elements(), rows_for_a_task(p.k), [&](int64_t from, int64_t to) {
    backend.kernels().quantize_groups(p, from, to, thread_scratch(static_cast<size_t>(p.k)));
  });
  return done(q.outputs());
}

Outcome run_dequantize_groups(const CpuBackend& backend, const Node& node,
                              std::span<const Tensor> inputs) {
  VB_ASSIGN(const GroupFormat f, group_format_of(node));
  const Result<GroupedRows> r =
      grouped_rows(f.group, inputs[0], inputs[1], inputs.size() > 2 ? inputs[2] : Tensor());
  if (!r.ok()) return not_handled();
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, inputs[0].shape()));
  float* const y = out.mutable_data<float>().data();
  parallel_for(r->rows, rows_for_a_task(r->k), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const float scale = r->row_scale(i);
      backend.kernels().dequantize_groups(row_of(*r, i), r->row_scales ? &scale : nullptr,
                                          y + i * r->k);
    }
  });
  return done({out});
}

}  // namespace verbatim
