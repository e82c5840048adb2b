// Products as tensor cores compute them (docs/numerics.md, Family C), a panel of kLanes columns at
// a time: the panel is decoded group by group for all rows of a call, which are decoded once.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/tensor_core_step.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int64_t kRows = kTensorCoreRows;

// Rows of A, decoded: kRows pieces for each 32 k.
struct Rows {
  RowPiece* pieces;
  Unshift* unshifts;
  Extent* extents;
  Extent all;
  int64_t count;
};

// The chain of K from `begin` to `end` for all rows of a panel: acc[row].
template <class Rule, bool kHalf, bool kCareful>
void chain(const Rows& rows, const Panel& panel, int64_t begin, int64_t end, F32 (&acc)[kRows],
           I32 (&doubt)[kRows]) {
  for (int64_t r = 0; r < rows.count; ++r) acc[r] = zero();
  run_chains<Rule, kHalf, kCareful>(
      rows.pieces, kRows, panel, begin, end,
      [&](int64_t) {
        return RowRange{0, rows.count};
      },
      acc, doubt);
  for (int64_t r = 0; r < rows.count; ++r) acc[r] = unshifted(acc[r], rows.unshifts[r], panel);
}

template <class Rule, bool kHalf, bool kCareful>
void panel_product(const TensorCoreProduct& p, const Rows& rows, const Panel& panel,
                   F32 (&total)[kRows], I32 (&doubt)[kRows]) {
  for (int64_t s = 0; s < p.split; ++s) {
    const int64_t begin = s * p.slice, end = least(p.k, begin + p.slice);
    const int64_t piece = p.restart > 0 ? p.restart : p.slice;
    F32 slice[kRows];
    for (int64_t k = begin; k == begin || k < end; k += piece) {
      F32 acc[kRows];
      chain<Rule, kHalf, kCareful>(rows, panel, k, least(end, k + piece), acc, doubt);
      for (int64_t r = 0; r < rows.count; ++r) slice[r] = k == begin ? acc[r] : slice[r] + acc[r];
      if (piece == 0) break;
    }
    for (int64_t r = 0; r < rows.count; ++r) total[r] = s == 0 ? slice[r] : total[r] + slice[r];
  }
  for (int64_t r = 0; r < rows.count; ++r) total[r] = canonical(total[r]);
}

using PanelFunction = void (*)(const TensorCoreProduct&, const Rows&, const Panel&, F32 (&)[kRows],
                               I32 (&)[kRows]);
template <bool kCareful>
PanelFunction panel_function(const TensorCoreProduct& p) {
  if (p.kept < 24)
    return p.group == 32 ? panel_product<StepRule<32, 13, 14>, false, kCareful>
                         : panel_product<StepRule<16, 13, 14>, false, kCareful>;
  if (p.group == 16)
    return p.half ? panel_product<StepRule<16, 25, 24>, true, kCareful>
                  : panel_product<StepRule<16, 25, 24>, false, kCareful>;
  return p.half ? panel_product<StepRule<8, 24, 24>, true, kCareful>
                : panel_product<StepRule<8, 24, 24>, false, kCareful>;
}

template <bool kHalf>
void decode_rows(const TensorCoreProduct& p, int64_t row, Rows& rows) {
  const CodeType type = {kHalf, p.least_a};
  for (int64_t r = 0; r < rows.count; ++r) {
    const uint16_t* codes = p.a + (row + r) * p.k;
    Magnitudes m;
    for (int64_t k = 0; k < p.k; ++k) see(m, codes[k]);
    Scale scale = scale_of(m, type, kRowOffset);
    decode_row<kHalf>(codes, p.k, scale, type, rows.pieces + r, kRows);
    rows.unshifts[r] = unshift(scale.shift);
    if (p.fraction == 25 && is_crowded<kHalf>(codes, p.k))
      scale.extent.need = worse(scale.extent.need, Codes::careful);
    rows.extents[r] = scale.extent;
    join(rows.all, scale.extent);
  }
}

}  // namespace

void tensor_core_pack(const uint16_t* b, bool half, int least_exponent, int64_t k_size, int64_t n,
                      int64_t from, int64_t to, uint16_t* packed, int16_t* infos) {
  const int64_t panel_size = pieces_of(k_size) * kTensorCoreGroup * kLanes;
  for (int64_t panel = from; panel < to; ++panel) {
    const int64_t column = panel * kLanes;
    const PanelInfo info = pack_panel(b + column * k_size, 1, k_size, least(kLanes, n - column),
                                      k_size, {half, least_exponent}, packed + panel * panel_size);
    std::memcpy(infos + panel * (kLanes + kTensorCoreInfo), &info, sizeof info);
  }
}

size_t tensor_core_scratch(int64_t k) {
  const int64_t bytes = pieces_of(k) * kRows * static_cast<int64_t>(sizeof(RowPiece)) +
                        kRows * static_cast<int64_t>(sizeof(Unshift) + sizeof(Extent));
  return static_cast<size_t>(bytes) / sizeof(float) + 1;
}

void tensor_core_product(const TensorCoreProduct& p, int64_t row, int64_t row_end, int64_t from,
                         int64_t to, float* scratch) {
  auto* pieces = reinterpret_cast<RowPiece*>(scratch);
  auto* unshifts = reinterpret_cast<Unshift*>(pieces + pieces_of(p.k) * kRows);
  Rows rows = {pieces, unshifts, reinterpret_cast<Extent*>(unshifts + kRows), {}, row_end - row};
  if (p.half) {
    decode_rows<true>(p, row, rows);
  } else {
    decode_rows<false>(p, row, rows);
  }
  for (int64_t index = from; index < to; ++index) {
    const int64_t column = index * kLanes, count = least(kLanes, p.n - column);
    PanelInfo info;
    std::memcpy(static_cast<void*>(&info), p.infos + index * (kLanes + kTensorCoreInfo),
                sizeof info);
    const Codes need = worse(rows.all.need, info.extent.need);
    const bool all_exact = info.extent.need == Codes::exact || !fits(rows.all, info.extent);
    F32 total[kRows];
    I32 doubt[kRows];
    if (!all_exact) {
      const Panel panel = panel_of(p.b + index * pieces_of(p.k) * kTensorCoreGroup * kLanes, info,
                                   p.least_b, need != Codes::plain);
      for (int64_t r = 0; r < rows.count; ++r) doubt[r] = all_int(0);
      (need == Codes::plain ? panel_function<false> : panel_function<true>)(p)(p, rows, panel,
                                                                               total, doubt);
    }
    for (int64_t r = 0; r < rows.count; ++r) {
      float* out = p.out + (row + r) * p.n + column;
      if (all_exact || rows.extents[r].need == Codes::exact || is_doubtful(doubt[r], count)) {
        p.exactly(p.context, row + r, column, column + count);
      } else {
        store_up_to(out, count, total[r]);
      }
    }
  }
}

}  // namespace verbatim::VB_TARGET
