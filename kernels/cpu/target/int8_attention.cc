// Attention in exact integers (docs/numerics.md, Attention, family B). As attention.cc, a task
// holds the rows of some queries and goes through the keys in blocks of 128; both products are of
// codes, so their order is free, and a key that a row does not see has weight 0 in it.
#include <verbatim/kernels/cpu/target/attention_state.h>
#include <verbatim/kernels/cpu/target/dot.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim::VB_TARGET {
namespace {

VB_INLINE I32 bytes(const int8_t* p) { return widen(reinterpret_cast<const uint8_t*>(p)); }

// Codes lie in units of four bytes. One step multiplies a unit of a row by those of kLanes columns,
// and adds the kCodes products of each to an int32. Rows' codes are stored as code + kOffset where
// they may be negative. interleave() is kLanes units, of successive rows' codes in one column each.
struct Pairs {
  using Code = int16_t;
  static constexpr int kCodes = 2, kOffset = 0;
  VB_INLINE static I32 add(I32 sums, I32 row, I32 columns) {
    return sums + multiply_pairs(row, columns);
  }
  VB_INLINE static void store(int16_t* to, I32 codes) { store16(to, codes); }
  VB_INLINE static I32 interleave(const int8_t* p, int64_t stride) {
    const I32 codes = shift_left<8>(bytes(p)) | shift_left<24>(bytes(p + stride));
    return shift_right16<8>(codes);
  }
};

// What is the same however bytes are multiplied.
struct Bytes {
  using Code = int8_t;
  static constexpr int kCodes = 4;
  VB_INLINE static void store(int8_t* to, I32 codes) { store8(to, codes); }
  VB_INLINE static I32 interleave(const int8_t* p, int64_t stride) {
    return bytes(p) | shift_left<8>(bytes(p + stride)) | shift_left<16>(bytes(p + 2 * stride)) |
           shift_left<24>(bytes(p + 3 * stride));
  }
};

#if defined(VB_HAS_DOT)
struct Quads : Bytes {
#if defined(__AVX512F__)
  static constexpr int kOffset = 128;
#else
  static constexpr int kOffset = 0;
#endif
  VB_INLINE static I32 add(I32 sums, I32 row, I32 columns) { return dot(sums, row, columns); }
};
#endif

template <class D>
VB_INLINE int64_t units_of(int64_t codes) {
  return (codes + D::kCodes - 1) / D::kCodes;
}

// Units of a row of weights, of either kind.
constexpr int64_t kWeightStride = kKeyBlock / 2 + 16;

struct Task : TaskOf<Int8Attention> {
  int64_t query_units = 0;
  // Units, and for each of a block's scores what kOffset adds to it, negated.
  int32_t *queries = nullptr, *keys = nullptr, *values = nullptr, *weights = nullptr,
          *starts = nullptr;
  float *scores = nullptr, *key_scales = nullptr;
  float* value_steps = nullptr;  // of a block's values: 2^f, or NaN
  float* factors = nullptr;      // what a row's product of codes is multiplied by
  int8_t* copy = nullptr;        // of a block's keys, then of its values
  States block{};

  float q_scale(int64_t row) const {
    return p.q_scales[(from + query(row)) * p.heads + row % p.group] * p.q_factor;
  }
};

// c[r, column] = float(start[column] + the sum over units of a[r] by b's panel) * factor[r].
template <class D, int kRows>
void run_tile(const int32_t* a, int64_t a_stride, const int32_t* b, int64_t units,
              const int32_t* start, const float* factor, float* c, int64_t c_stride) {
  I32 sums[kRows][kTileVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v) sums[r][v] = load(start + v * kLanes);
  }
  for (int64_t u = 0; u < units; ++u) {
    I32 column[kTileVectors];
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v) column[v] = load(b + u * kPanel + v * kLanes);
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const I32 row = all_int(a[r * a_stride + u]);
      VB_UNROLL
      for (int v = 0; v < kTileVectors; ++v) sums[r][v] = D::add(sums[r][v], row, column[v]);
    }
  }
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      store(c + r * c_stride + v * kLanes, to_nearest_float(sums[r][v]) * all(factor[r]));
  }
}

using TileFn = void (*)(const int32_t* a, int64_t a_stride, const int32_t* b, int64_t units,
                        const int32_t* start, const float* factor, float* c, int64_t c_stride);
template <class D, int... kRows>
struct TileFunctions {
  static constexpr TileFn kByRows[] = {nullptr, run_tile<D, kRows>...};
};
#if defined(__AVX512F__)
template <class D>
using Tiles = TileFunctions<D, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>;
#elif defined(__AVX2__)
template <class D>
using Tiles = TileFunctions<D, 1, 2, 3, 4, 5, 6>;
#else
template <class D>
using Tiles = TileFunctions<D, 1, 2, 3, 4, 5, 6, 7, 8>;
#endif

// All rows of `a` by `panels` panels of b.
template <class D>
void multiply(const Task& t, const int32_t* a, int64_t a_stride, const int32_t* b, int64_t units,
              int64_t panels, const int32_t* starts, int64_t start_step, const float* factors,
              float* c, int64_t c_stride) {
  for (int64_t i = 0, tiles = (t.rows + kTileRows - 1) / kTileRows; i < tiles; ++i) {
    const TileRows r = tile_rows(t.rows, i);
    const TileFn run = Tiles<D>::kByRows[r.last - r.first];
    for (int64_t panel = 0; panel < panels; ++panel)
      run(a + r.first * a_stride, a_stride, b + panel * units * kPanel, units,
          starts + panel * start_step, factors + r.first, c + r.first * c_stride + panel * kPanel,
          c_stride);
  }
}

// One unit of codes code[0], code[step], ..., `count` of them and zeros.
template <class D>
VB_INLINE int32_t unit_of(const int8_t* code, int64_t step, int64_t count = D::kCodes) {
  typename D::Code codes[D::kCodes] = {};
  for (int64_t i = 0; i < least(count, D::kCodes); ++i) codes[i] = code[i * step];
  int32_t unit;
  std::memcpy(&unit, codes, sizeof unit);
  return unit;
}

// A row of `size` codes: its units `step` apart.
template <class D>
VB_INLINE void pack_row(const int8_t* codes, int64_t size, int32_t* units, int64_t step,
                        int32_t offsets = 0) {
  int64_t i = 0;
  for (; i + D::kCodes <= size; i += D::kCodes, units += step)
    *units = unit_of<D>(codes + i, 1) ^ offsets;
  if (i < size) *units = unit_of<D>(codes + i, 1, size - i) ^ offsets;
}

// The keys of a block are columns, whose units lie in panels; columns beyond are zero.
template <class D>
void pack_keys(const int8_t* keys, int64_t count, int64_t stride, int64_t size, int32_t* packed) {
  const int64_t units = units_of<D>(size);
  for (int64_t key = 0; key < whole_panels(count); ++key) {
    int32_t* to = packed + key / kPanel * units * kPanel + key % kPanel;
    if (key < count) {
      pack_row<D>(keys + key * stride, size, to, kPanel);
    } else {
      for (int64_t u = 0; u < units; ++u) to[u * kPanel] = 0;
    }
  }
}

// The elements of values are columns, and a unit has codes of successive values.
template <class D>
void pack_values(const int8_t* values, int64_t count, int64_t stride, int64_t size,
                 int32_t* packed) {
  const int64_t units = units_of<D>(count);
  for (int64_t u = 0; u < units; ++u) {
    const int64_t codes = least(D::kCodes, count - u * D::kCodes);
    const int8_t* from = values + u * D::kCodes * stride;
    for (int64_t c = 0; c < whole_panels(size); c += kLanes) {
      int32_t* to = packed + (c / kPanel * units + u) * kPanel + c % kPanel;
      if (codes == D::kCodes && c + kLanes <= size) {
        VB_TARGET::store(to, D::interleave(from + c, stride));
      } else {
        for (int64_t i = 0; i < kLanes; ++i)
          to[i] = c + i < size ? unit_of<D>(from + c + i, stride, codes) : 0;
      }
    }
  }
}

template <class D>
void pack_queries(const Task& t) {
  static_assert(D::kOffset == 0 || (D::kOffset == 128 && D::kCodes == 4));
  constexpr auto kOffsets = static_cast<int32_t>(D::kOffset == 0 ? 0 : 0x80808080);
  for (int64_t r = 0; r < t.rows; ++r)
    pack_row<D>(t.q(r), t.p.head_size, t.queries + r * t.query_units, 1, kOffsets);
}

// scores[row, i] = float(q[row] . k[key + i]) for i < count.
template <class D>
void form_scores(const Task& t, int64_t key, int64_t count) {
  const Int8Attention& p = t.p;
  const int64_t panels = whole_panels(count) / kPanel;
  const Rows<int8_t> keys = rows_of(p.rows, p.k, p.k_stride, p.head_size, key, count, t.copy);
  pack_keys<D>(keys.at, count, keys.stride, p.head_size, t.keys);
  std::memset(t.starts, 0, static_cast<size_t>(panels * kPanel) * sizeof(int32_t));
  if constexpr (D::kOffset != 0) {
    for (int64_t c = 0; c < panels * kPanel; c += kLanes) {
      const int32_t* units = t.keys + c / kPanel * t.query_units * kPanel + c % kPanel;
      I32 sums = all_int(0);
      for (int64_t u = 0; u < t.query_units; ++u)
        sums = D::add(sums, all_int(0x01010101), load(units + u * kPanel));
      store(t.starts + c, all_int(0) - shift_left<7>(sums));
    }
  }
  for (int64_t r = 0; r < t.rows; ++r) t.factors[r] = 1;
  multiply<D>(t, t.queries, t.query_units, t.keys, t.query_units, panels, t.starts, kPanel,
              t.factors, t.scores, kScoreStride);
}

// The scales of a block's keys, and what its values' codes are in.
void gather_scales(const Task& t, int64_t key, int64_t count) {
  for_runs(t.p.rows, key, count, [&](int64_t i, int64_t n, int64_t row) {
    for (const int64_t end = i + n; i < end; ++i, ++row) {
      const int32_t f = t.p.v_exponents[row * t.p.kv_heads];
      t.key_scales[i] = t.p.k_scales[row * t.p.kv_heads];
      t.value_steps[i] =
          f == kFlaggedRow ? __builtin_nanf("") : __builtin_bit_cast(float, (f + 127) << 23);
    }
  });
  for (int64_t i = count; i < kKeyBlock; ++i) t.key_scales[i] = t.value_steps[i] = 0;
}

// A score in units of log2: float(S) times scales, as the contract associates them.
VB_INLINE F32 scaled(const Int8Attention& p, F32 score, float q_scale, F32 key_scale) {
  if (p.softcap == 0) return score * (all(q_scale * (p.scale * kLog2EAsFloat)) * key_scale);
  return capped(p.scale, p.softcap, score * (all(q_scale) * key_scale)) * all(kLog2EAsFloat);
}

// The codes of a row's weights x[start..end) relative to their greatest, W, and its factor. Greater
// than W * (127 / W) < 127.5 is no t, so no code is above 127; W is 2^-100 at least or NaN, since
// the greatest score's p is 1.
template <class D>
void quantize_weights(const Task& t, int64_t row, int64_t start, int64_t end, float greatest) {
  const F32 up = all(127.0f / greatest);
  int32_t* units = t.weights + row * kWeightStride;
  std::memset(units, 0, kKeyBlock / D::kCodes * sizeof(int32_t));
  auto* codes = reinterpret_cast<typename D::Code*>(units);
  for (int64_t i = start; i < end; i += kLanes) {
    const F32 x = load(t.scores + row * kScoreStride + i) * up;
    I32 code = nearest_int(x);
    if (t.p.slices == 2)
      code = shift_left<7>(code) + nearest_int((x - to_nearest_float(code)) * all(128));
    D::store(codes + i, code);
  }
  t.factors[row] = t.p.slices == 2 ? greatest / 127.0f * 0x1p-7f : greatest / 127.0f;
}

// Turns the row's visible scores into codes of weights relative to their maximum, and fills m and l
// of its block state. A NaN score need not be found by the maximum: it makes l, and by W, o NaN.
template <class D>
void weigh(const Task& t, int64_t row, KeyRange range) {
  float* x = t.scores + row * kScoreStride;
  const int64_t start = range.begin / kLanes * kLanes;
  const F32 lowest = all_bits(0xFF800000);
  const float q_scale = t.q_scale(row);
  F32 m = lowest;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 v = scaled(t.p, load(x + i), q_scale, load(t.key_scales + i));
    store(x + i, v);
    m = maximum_number(m, only(range, i, v, lowest));
  }
  const float best = greatest_lane(m);
  Octet sums;
  I32 greatest = all_int(0);  // of weights' magnitudes as bits, where NaN is above all
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 p = only(range, i, exp2p(load(x + i) - all(best)), zero());
    add(sums, p, i);
    const F32 w = only(range, i, absolute(p * load(t.value_steps + i)), zero());
    store(x + i, w);
    greatest = maximum(greatest, bits_of(w));
  }
  t.block.m[row] = best;
  t.block.l[row] = lane_sum(sums);
  quantize_weights<D>(t, row, start, range.end, __builtin_bit_cast(float, greatest_lane(greatest)));
}

VB_INLINE F32 weight_of(F32 x) { return exp2p(x); }

// One block of keys, `count` of them up to the last that any row sees.
template <class Scores, class Values>
void attend_block(const Task& t, int64_t key, int64_t count) {
  const Int8Attention& p = t.p;
  form_scores<Scores>(t, key, count);
  gather_scales(t, key, count);
  for (int64_t r = 0; r < t.rows; ++r)
    if (t.sees_some(r, key)) weigh<Values>(t, r, t.in_block(r, key));
  const Rows<int8_t> values = rows_of(p.rows, p.v, p.v_stride, p.value_size, key, count, t.copy);
  pack_values<Values>(values.at, count, values.stride, p.value_size, t.values);
  std::memset(t.starts, 0, kPanel * sizeof(int32_t));
  multiply<Values>(t, t.weights, kWeightStride, t.values, units_of<Values>(count), t.width / kPanel,
                   t.starts, 0, t.factors, t.block.o, t.width);
  merge_rows(
      t.running, t.block, t.rows, t.width, [&](int64_t row) { return t.sees_some(row, key); },
      weight_of);
}

template <class Scores, class Values>
void attend_all(Task& t) {
  t.query_units = units_of<Scores>(t.p.head_size);
  pack_queries<Scores>(t);
  attend_blocks(&t, 1, attend_block<Scores, Values>, weight_of, divided);
}

// Floats, or units, of each of a task's arrays, in the order that attend_int8() takes them.
struct Sizes {
  int64_t queries, keys, values, weights, starts, scores, block, factors, copy, states;
  Sizes(int64_t rows, int64_t head_size, int64_t value_size)
      : queries(rows * units_of<Pairs>(head_size)),
        keys(kScoreStride * units_of<Pairs>(head_size)),
        values(whole_panels(value_size) * units_of<Pairs>(kKeyBlock)),
        weights(rows * kWeightStride),
        starts(kScoreStride),
        scores(rows * kScoreStride),
        block(kKeyBlock),
        factors(rows),
        copy(kKeyBlock / 4 * greatest(head_size, value_size)),
        states(states_size(rows, whole_panels(value_size))) {}
  int64_t total() const {
    return queries + keys + values + weights + starts + scores + 2 * block + factors + copy +
           3 * states;
  }
};

}  // namespace

size_t int8_attention_scratch(int64_t rows, int64_t head_size, int64_t value_size) {
  return static_cast<size_t>(Sizes(rows, head_size, value_size).total());
}

void attend_int8(const Int8Attention& p, int64_t from, int64_t to, const KeyRange* visible,
                 float* scratch) {
  const int64_t rows = (to - from) * p.group, width = whole_panels(p.value_size);
  const Sizes sizes(rows, p.head_size, p.value_size);
  const auto take = [&](int64_t size) {
    float* memory = scratch;
    scratch += size;
    return memory;
  };
  const auto take_units = [&](int64_t size) { return reinterpret_cast<int32_t*>(take(size)); };
  Task t{{p, from, to, visible, rows, width}};
  t.queries = take_units(sizes.queries);
  t.keys = take_units(sizes.keys);
  t.values = take_units(sizes.values);
  t.weights = take_units(sizes.weights);
  t.starts = take_units(sizes.starts);
  t.scores = take(sizes.scores);
  t.key_scales = take(sizes.block);
  t.value_steps = take(sizes.block);
  t.factors = take(sizes.factors);
  t.copy = reinterpret_cast<int8_t*>(take(sizes.copy));
  for (States* states : {&t.block, &t.running, &t.total})
    *states = states_at(take(sizes.states), rows, width);
#if defined(VB_HAS_DOT)
  if (has_dot()) return p.slices == 2 ? attend_all<Quads, Pairs>(t) : attend_all<Quads, Quads>(t);
#endif
  attend_all<Pairs, Pairs>(t);
}

}  // namespace verbatim::VB_TARGET
