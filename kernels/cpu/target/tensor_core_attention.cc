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
// Weights are at most 2^8: all have the scale that makes that the greatest byte.
constexpr int kWeightField = kBias + static_cast<int>(kMostExponent);
constexpr int kWeightShift = kGreatestByte + kRowOffset - kWeightField;
// Exponent fields that acc may have in the frame of weights and values. Terms that are zero have
// byte sums, too: as large as the least here, so that what such a group truncates acc to, 2^-24 of
// that, is no more than acc's last bit. (Where acc comes of nothing but steps, it has none below.)
constexpr int32_t kLeastField = kZeroByte + kGreatestByte, kGreatestField = 250;
// Of l, and of the greatest weight of a step that l takes: its scale and its unit are normal.
constexpr int32_t kLeastSumField = 26;

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

// Rounds weights, which are not negative, to codes.
template <bool kHalf>
VB_INLINE void round_weights(F32 p, uint16_t* codes) {
  p = canonical(p);
  if constexpr (kHalf) return store_half(codes, p);
  const I32 bits = bits_of(p), odd = shift_right_unsigned<16>(bits) & all_int(1);
  store16(reinterpret_cast<int16_t*>(codes),
          shift_right_unsigned<16>(bits + odd + all_int(0x7FFF)));
}
template <bool kHalf>
VB_INLINE F32 load_weights(const uint16_t* codes) {
  if constexpr (kHalf) return load_half(codes);
  return float_of(shift_left<16>(widen(codes)));
}

// Turns the row's visible scores into codes of weights relative to m, others of the block into
// zeros, and what m and l are into what they go on from. A NaN score need not be found by the
// maximum: it makes l and o NaN.
template <bool kHalf>
void weigh(const Task& t, int64_t row, KeyRange range) {
  const TensorCoreAttention& p = t.p;
  float* s = t.scores + row * kScoreStride;
  uint16_t* codes = t.codes + row * kWeightStride;
  const int64_t start = range.begin / kLanes * kLanes;
  const F32 lowest = all_bits(0xFF800000), grid = all(kScoreGrid),
            c = all(p.softcap == 0 ? p.scale * kLog2EAsFloat : kLog2EAsFloat);
  F32 greatest = lowest;
  for (int64_t i = start; i < range.end; i += kLanes) {
    if (p.softcap != 0) store(s + i, capped(p.scale, p.softcap, load(s + i)));
    const F32 x = fma(load(s + i), c, grid) - grid;
    greatest = maximum_number(greatest, only(range, i, x, lowest));
  }
  const bool is_first = t.running.full[row] == 0;
  const float before = is_first ? -__builtin_inff() : t.running.m[row],
              block = greatest_lane(greatest), m = block <= before + kMostExponent ? before : block;
  const bool is_near = m >= -kMostNear && m <= kMostNear;
  std::memset(codes, 0, kKeyBlock * sizeof *codes);
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 score = load(s + i), far = ((fma(score, c, grid) - grid) - all(m)) + grid,
              exponent = is_near ? fma(score, c, all(kScoreGrid - m)) - grid
                                 : minimum_number(all(kMostExponent), far - grid);
    round_weights<kHalf>(only(range, i, exp2p(exponent), zero()), codes + i);
  }
  store_first(t.alphas + row, 1, m == before ? all(1) : exp2p(all(before - m)));
  t.running.l[row] = is_first ? 0 : t.running.l[row] * t.alphas[row];
  t.running.m[row] = m;
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
// can take, of exponent fields from `least` on.
VB_INLINE I32 out_of_range(F32 acc, F32 shifted, int32_t least) {
  const I32 field = bits_of(shifted) & all_int(0x7F800000);
  const I32 outside = (field - all_int(least << 23)) | (all_int(kGreatestField << 23) - field);
  return bits_of(select(differs(acc, zero()), float_of(outside), zero()));
}

// A step of l of kLanes rows, whose weights of key k are w(k), for the group from `key` on; the
// other operand is 1. As nothing is negative, numbers themselves tell E, and the sum of integers
// fits.
template <class Rule, bool kHalf, class Weights>
VB_INLINE F32 step_of_ones(Weights w, int64_t key, F32 l, I32& doubt) {
  F32 most = w(key);
  VB_UNROLL
  for (int k = 1; k < Rule::kGroup; ++k) most = maximum_number(most, w(key + k));
  if constexpr (kHalf)  // a subnormal number's exponent is the least normal one's
    most = select(differs(most, zero()), maximum_number(most, all(0x1p-14f)), zero());
  const I32 top = maximum(bits_of(l) & all_int(INT32_MAX), bits_of(most));
  doubt = doubt | out_of_range(float_of(top), float_of(top), kLeastSumField);
  const I32 e = maximum(top, all_int(kLeastSumField << 23)) & all_int(0x7F800000);
  const F32 scale = float_of(all_int((Rule::kFraction + 2 * kBias) << 23) - e),
            unit = float_of(e - all_int(Rule::kFraction << 23));
  I32 sum = to_int(l * scale);
  VB_UNROLL
  for (int k = 0; k < Rule::kGroup; ++k) sum = sum + to_int(w(key + k) * scale);
  static_assert(Rule::kKept == 24);
  return to_float(sum) * unit;
}

// The chain from l on of kLanes rows' weights times ones, over the block's first `count` keys;
// codes(i) are those of row i.
template <class Rule, bool kHalf, class CodesOf>
VB_INLINE F32 chain_of_ones(CodesOf codes, int64_t count, F32 l, I32& doubt) {
  constexpr int64_t kSpan = greatest(Rule::kGroup, kLanes);
  for (int64_t key = 0; key < count; key += kSpan) {
    F32 w[kSpan / kLanes][kLanes];  // of keys, when they are transposed
    for (int64_t j = 0; j < kSpan; j += kLanes) {
      for (int i = 0; i < kLanes; ++i) w[j / kLanes][i] = load_weights<kHalf>(codes(i) + key + j);
      transpose(w[j / kLanes]);
    }
    for (int64_t j = 0; j < kSpan; j += Rule::kGroup)
      l = step_of_ones<Rule, kHalf>([&](int64_t k) { return w[k / kLanes][k % kLanes]; }, j, l,
                                    doubt);
  }
  return l;
}

// l of rows goes on as o does, as if values were 1. Lanes are rows: it is no panel of columns.
// Where a weight is NaN o is, whatever becomes of l.
template <class Rule, bool kHalf>
void sum_weights(const Task& t, int64_t key, int64_t count, RowRange rows) {
  constexpr uint16_t kOne = kHalf ? 0x3C00 : 0x3F80;
  const auto codes = [&](int64_t row) { return t.codes + row * kWeightStride; };
  for (int64_t from = rows.begin; from < rows.end; from += kLanes) {
    const int64_t last = least(kLanes, rows.end - from) - 1;
    float* l = t.running.l + from;
    I32 doubt = all_int(0);
    const F32 sum =
        chain_of_ones<Rule, kHalf>([&](int64_t i) { return codes(from + least(i, last)); }, count,
                                   load_up_to(l, last + 1, zero()), doubt);
    float sums[kLanes];
    int32_t doubts[kLanes];
    store(sums, sum);
    store(doubts, doubt);
    for (int64_t i = 0; i <= last; ++i) {
      const KeyRange range = t.in_block(from + i, key);
      l[i] = doubts[i] < 0
                 ? t.p.weighted(t.p, l[i], codes(from + i), range.begin, range.end, &kOne, 0)
                 : sums[i];
    }
  }
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
                               kWeightField, Codes::plain};
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
    t.doubt[r] = out_of_range(acc, t.acc[r], kLeastField);
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
  sum_weights<Rule, kHalf>(t, key, count, rows);
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
  attend_blocks(&t, 1, attend_block<Rule, kHalf>, weight_of, shared);
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
