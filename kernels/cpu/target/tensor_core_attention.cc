// Attention as tensor cores compute it (docs/numerics.md, Attention, family C). As attention.cc, a
// task holds the rows of some queries and goes through the keys in blocks of 128; both products are
// chains of steps, of which that of the values goes on from block to block.
#include <verbatim/kernels/cpu/target/attention_state.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/tensor_core_step.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int64_t kWeightPieces = kKeyBlock / kTensorCoreGroup;
constexpr int64_t kWeightStride = kKeyBlock + kLanes;  // codes; whole vectors are written
// Weights are at most 1: all have the scale that makes that the greatest byte.
constexpr int kWeightShift = kGreatestByte + kRowOffset - kBias;
// Exponent fields that acc may have in the frame of weights and values. Terms that are zero have
// byte sums, too: as large as the least here, so that what such a group truncates acc to, 2^-24 of
// that, is no more than acc's last bit. (Where acc comes of nothing but steps, it has none below.)
constexpr int32_t kLeastField = kZeroByte + kGreatestByte, kGreatestField = 250;

struct Task : TaskOf<TensorCoreAttention> {
  RowPiece *queries = nullptr, *weights = nullptr;  // [pieces][rows]
  F32* acc = nullptr;                               // of each row, as doubt
  I32* doubt = nullptr;
  float *scores = nullptr, *alphas = nullptr;
  Unshift* unshifts = nullptr;                  // of queries
  Extent* extents = nullptr;                    // of queries
  Codes* needs = nullptr;                       // of weights
  uint16_t *codes = nullptr, *panel = nullptr;  // weights of a block; a panel of columns
  uint16_t* copy = nullptr;                     // of a panel's keys or values
  Extent all_queries{};

  // The rows that see any of the keys [begin, end): as ranges' ends ascend, others come before or
  // after them.
  RowRange rows_that_see(int64_t begin, int64_t end) const {
    int64_t first = 0, last = to - from;
    while (first < last && visible[first].end <= begin) ++first;
    while (first < last && visible[last - 1].begin >= end) --last;
    return {first * p.group, last * p.group};
  }
};

template <bool kHalf>
CodeType code_type() {
  return {kHalf, kHalf ? kHalfBias + 1 : 1};
}

template <bool kHalf>
void decode_queries(Task& t) {
  for (int64_t r = 0; r < t.rows; ++r) {
    const uint16_t* q = t.q(r);
    Magnitudes m;
    for (int64_t i = 0; i < t.p.head_size; ++i) see(m, q[i]);
    Scale scale = scale_of(m, code_type<kHalf>(), kRowOffset);
    decode_row<kHalf>(q, t.p.head_size, scale, code_type<kHalf>(), t.queries + r, t.rows);
    if (is_crowded<kHalf>(q, t.p.head_size))
      scale.extent.need = worse(scale.extent.need, Codes::careful);
    t.unshifts[r] = unshift(scale.shift);
    t.extents[r] = scale.extent;
    join(t.all_queries, scale.extent);
  }
}

template <class Rule, bool kHalf, class RowsAt>
void run(const Task& t, const RowPiece* pieces, const Panel& panel, bool careful, int64_t k_size,
         RowsAt rows_at) {
  if (careful) {
    run_chains<Rule, kHalf, true>(pieces, t.rows, panel, 0, k_size, rows_at, t.acc, t.doubt);
  } else {
    run_chains<Rule, kHalf, false>(pieces, t.rows, panel, 0, k_size, rows_at, t.acc, t.doubt);
  }
}

// scores[row, i] = q[row] . k[key + i] for the `count` keys of a panel from `column` on, for rows
// that see some of them.
template <class Rule, bool kHalf>
void form_scores(const Task& t, int64_t key, int64_t column, int64_t count) {
  const TensorCoreAttention& p = t.p;
  const Rows<uint16_t> keys =
      rows_of(p.rows, p.k, p.k_stride, p.head_size, key + column, count, t.copy);
  const PanelInfo info =
      pack_panel(keys.at, 1, keys.stride, count, p.head_size, code_type<kHalf>(), t.panel);
  const RowRange rows = t.rows_that_see(key + column, key + column + count);
  const Codes need = worse(t.all_queries.need, info.extent.need);
  const bool all_exact = info.extent.need == Codes::exact || !fits(t.all_queries, info.extent);
  const Panel panel = panel_of(t.panel, info, code_type<kHalf>().least, need != Codes::plain);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    t.acc[r] = zero();
    t.doubt[r] = all_int(0);
  }
  if (!all_exact)
    run<Rule, kHalf>(t, t.queries, panel, need != Codes::plain, p.head_size,
                     [&](int64_t) { return rows; });
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    float* to = t.scores + r * kScoreStride + column;
    if (all_exact || t.extents[r].need == Codes::exact || is_doubtful(t.doubt[r], count)) {
      for (int64_t i = 0; i < count; ++i) to[i] = p.score(p, t.q(r), keys.at + i * keys.stride);
    } else {
      store(to, unshifted(t.acc[r], t.unshifts[r], panel));
    }
  }
}

// A score in units of log2.
VB_INLINE F32 scaled(const TensorCoreAttention& p, F32 score) {
  if (p.softcap == 0) return score * all(p.scale * kLog2EAsFloat);
  return capped(p.scale, p.softcap, score);
}

// Rounds weights, which are not negative, to codes; gives the rounded ones.
template <bool kHalf>
VB_INLINE F32 round_weights(F32 p, uint16_t* codes) {
  p = canonical(p);
  if constexpr (kHalf) {
    store_half(codes, p);
    return load_half(codes);
  }
  const I32 bits = bits_of(p), odd = shift_right_unsigned<16>(bits) & all_int(1);
  const I32 code = shift_right_unsigned<16>(bits + odd + all_int(0x7FFF));
  store16(reinterpret_cast<int16_t*>(codes), code);
  return float_of(shift_left<16>(code));
}

// Turns the row's visible scores into codes of weights relative to the part's maximum so far,
// others of the block into zeros, decodes them, and takes them into m and l. A NaN score need not
// be found by the maximum: it makes l and o NaN.
template <bool kHalf>
void weigh(const Task& t, int64_t row, KeyRange range) {
  float* x = t.scores + row * kScoreStride;
  uint16_t* codes = t.codes + row * kWeightStride;
  const int64_t start = range.begin / kLanes * kLanes;
  const F32 lowest = all_bits(0xFF800000);
  F32 greatest = lowest;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 v = scaled(t.p, load(x + i));
    store(x + i, v);
    greatest = maximum_number(greatest, only(range, i, v, lowest));
  }
  float& m = t.running.m[row];
  const bool is_first = t.running.full[row] == 0;
  const float block = greatest_lane(greatest), best = is_first || block > m ? block : m;
  std::memset(codes, 0, kKeyBlock * sizeof *codes);
  Octet sums;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 p = only(range, i, exp2p(load(x + i) - all(best)), zero());
    add(sums, round_weights<kHalf>(p, codes + i), i);
  }
  const F32 alpha = is_first ? zero() : exp2p(all(m - best)), sum = all(lane_sum(sums));
  store_first(t.running.l + row, 1, is_first ? sum : fma(all(t.running.l[row]), alpha, sum));
  store_first(t.alphas + row, 1, alpha);
  m = best;
}

template <bool kHalf>
Codes decode_weights(const Task& t, int64_t row, int64_t count) {
  const uint16_t* codes = t.codes + row * kWeightStride;
  Magnitudes m;
  for (int64_t i = 0; i < kKeyBlock; ++i) see(m, codes[i]);
  Scale scale = scale_of(m, code_type<kHalf>(), kRowOffset);
  if (scale.extent.need != Codes::exact) {
    const int floor = kLeastByte + kRowOffset - kWeightShift;
    scale.shift = kWeightShift;
    scale.limit = kHalf ? 0 : floor << 7;
    scale.extent.need = m.least + 1u < scale.limit ? Codes::careful : Codes::plain;
  }
  decode_row<kHalf>(codes, count, scale, code_type<kHalf>(), t.weights + row, t.rows);
  return is_crowded<kHalf>(codes, kKeyBlock) ? worse(scale.extent.need, Codes::careful)
                                             : scale.extent.need;
}

// Its sign bit is set where `shifted`, acc in the frame of weights and values, is not what steps
// can take.
VB_INLINE I32 out_of_range(F32 acc, F32 shifted) {
  const I32 field = bits_of(shifted) & all_int(0x7F800000);
  const I32 outside =
      (field - all_int(kLeastField << 23)) | (all_int(kGreatestField << 23) - field);
  return bits_of(select(differs(acc, zero()), float_of(outside), zero()));
}

// o of a panel of columns from `column` on: times alpha, and on with the chain over the block.
template <class Rule, bool kHalf>
void weigh_values(const Task& t, int64_t key, int64_t count, int64_t column, RowRange rows,
                  const RowRange* rows_of_groups, Codes need) {
  const TensorCoreAttention& p = t.p;
  const int64_t columns = least(kLanes, p.value_size - column);
  const Rows<uint16_t> values =
      rows_of(p.rows, p.v + column, p.v_stride, columns, key, count, t.copy);
  const PanelInfo info =
      pack_panel(values.at, values.stride, 1, columns, count, code_type<kHalf>(), t.panel);
  constexpr Extent kWeights = {kHalf ? kHalfBias + 1 : kLeastByte + kRowOffset - kWeightShift,
                               kBias, Codes::plain};
  const bool all_exact = info.extent.need == Codes::exact || !fits(kWeights, info.extent);
  need = worse(need, info.extent.need);
  const Panel panel = panel_of(t.panel, info, code_type<kHalf>().least, need != Codes::plain);
  const Unshift shift = {1 / unshift(kWeightShift).first, 1 / unshift(kWeightShift).second},
                back = unshift(kWeightShift);
  const F32 first = all(shift.first) / panel.first, second = all(shift.second) / panel.second;
  const auto o = [&](int64_t r) { return t.running.o + r * t.width + column; };
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const F32 acc = t.running.full[r] == 0 ? zero() : load(o(r)) * all(t.alphas[r]);
    store(o(r), acc);
    t.acc[r] = acc * first * second;
    t.doubt[r] = out_of_range(acc, t.acc[r]);
  }
  if (!all_exact)
    run<Rule, kHalf>(t, t.weights, panel, need != Codes::plain, count,
                     [&](int64_t k) { return rows_of_groups[k / Rule::kGroup]; });
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    if (all_exact || t.needs[r] == Codes::exact || is_doubtful(t.doubt[r], columns)) {
      const KeyRange range = t.in_block(r, key);
      for (int64_t j = 0; j < columns; ++j)
        o(r)[j] = p.weighted(p, o(r)[j], t.codes + r * kWeightStride, range.begin, range.end,
                             values.at + j, values.stride);
    } else {
      store(o(r), unshifted(t.acc[r], back, panel));
    }
  }
}

// One block of keys, `count` of them up to the last that any row sees.
template <class Rule, bool kHalf>
void attend_block(const Task& t, int64_t key, int64_t count) {
  for (int64_t column = 0; column < count; column += kLanes)
    form_scores<Rule, kHalf>(t, key, column, least(kLanes, count - column));
  const RowRange rows = t.rows_that_see(key, key + count);
  Codes need = Codes::plain;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    weigh<kHalf>(t, r, t.in_block(r, key));
    t.needs[r] = decode_weights<kHalf>(t, r, count);
    need = worse(need, t.needs[r]);
  }
  RowRange rows_of_groups[kKeyBlock / 8];
  for (int64_t k = 0; k < count; k += Rule::kGroup)
    rows_of_groups[k / Rule::kGroup] = t.rows_that_see(key + k, key + k + Rule::kGroup);
  for (int64_t column = 0; column < t.width; column += kLanes)
    weigh_values<Rule, kHalf>(t, key, count, column, rows, rows_of_groups, need);
  for (int64_t r = rows.begin; r < rows.end; ++r) t.running.full[r] = 1;
}

VB_INLINE F32 weight_of(F32 x) { return exp2p(x); }

template <class Rule, bool kHalf>
void attend_all(Task& t) {
  decode_queries<kHalf>(t);
  attend_blocks(&t, 1, attend_block<Rule, kHalf>, weight_of);
}

int64_t width_of(int64_t value_size) { return (value_size + kLanes - 1) / kLanes * kLanes; }

// Bytes of a task's arrays, each a multiple of 64.
template <class T>
uintptr_t bytes_of(int64_t count) {
  return (static_cast<uintptr_t>(count) * sizeof(T) + 63) / 64 * 64;
}

// Gives each of a task's arrays its memory, from the address `memory` on; returns the end.
uintptr_t place(Task& t, uintptr_t memory) {
  const auto take = [&]<class T>(T*& array, int64_t count) {
    array = reinterpret_cast<T*>(memory);
    memory += bytes_of<T>(count);
  };
  const int64_t longest = greatest(kKeyBlock, pieces_of(t.p.head_size) * kTensorCoreGroup);
  take(t.acc, t.rows);
  take(t.doubt, t.rows);
  take(t.queries, pieces_of(t.p.head_size) * t.rows);
  take(t.weights, kWeightPieces * t.rows);
  take(t.panel, longest * kLanes);
  take(t.copy, longest * kLanes);
  take(t.scores, t.rows * kScoreStride);
  take(t.codes, t.rows * kWeightStride);
  take(t.alphas, t.rows);
  take(t.unshifts, t.rows);
  take(t.extents, t.rows);
  take(t.needs, t.rows);
  for (States* states : {&t.running, &t.total}) {
    float* state = nullptr;
    take(state, states_size(t.rows, t.width));
    *states = states_in(state, t.rows, t.width);
  }
  return memory;
}

}  // namespace

size_t tensor_core_attention_scratch(int64_t rows, int64_t head_size, int64_t value_size) {
  TensorCoreAttention p;
  p.head_size = head_size;
  Task t{{p, 0, 0, nullptr, rows, width_of(value_size)}};
  return place(t, 0) / sizeof(float);
}

void attend_tensor_core(const TensorCoreAttention& p, int64_t from, int64_t to,
                        const KeyRange* visible, float* scratch) {
  Task t{{p, from, to, visible, (to - from) * p.group, width_of(p.value_size)}};
  place(t, reinterpret_cast<uintptr_t>(scratch));
  for (const States& states : {t.running, t.total}) states_at(states.o, t.rows, t.width);
  if (p.product_group == 16) {
    p.half ? attend_all<StepRule<16, 25, 24>, true>(t) : attend_all<StepRule<16, 25, 24>, false>(t);
  } else {
    p.half ? attend_all<StepRule<8, 24, 24>, true>(t) : attend_all<StepRule<8, 24, 24>, false>(t);
  }
}

}  // namespace verbatim::VB_TARGET
