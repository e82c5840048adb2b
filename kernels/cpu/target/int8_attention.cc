// Attention in exact integers (docs/numerics.md, Attention, family B). As attention.cc, a task
// holds the rows of some queries and goes through the keys in blocks of 128; both products are of
// codes, so their order is free, and a key that a row does not see has weight 0 in it.
#include <verbatim/kernels/cpu/target/attention_state.h>
#include <verbatim/kernels/cpu/target/dot.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/repops/ops/int8_weights.h>
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
  // Of a block's values f, or NaN; and what makes l's weights of codes' 2^t.
  float *value_exponents = nullptr, *value_steps = nullptr;
  float* products = nullptr;                  // [rows, width], of codes: a block's sums
  float *alphas = nullptr, *units = nullptr;  // of each row: of its o, and of its products
  int8_t* copy = nullptr;                     // of a block's keys, then of its values

  float q_scale(int64_t row) const {
    return p.q_scales[(from + query(row)) * p.heads + row % p.group] * p.q_factor;
  }
};

// c[r, column] = float(start[column] + the sum over units of a[r] by b's panel).
template <class D, int kRows>
void run_tile(const int32_t* a, int64_t a_stride, const int32_t* b, int64_t units,
              const int32_t* start, float* c, int64_t c_stride) {
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
      store(c + r * c_stride + v * kLanes, to_nearest_float(sums[r][v]));
  }
}

using TileFn = void (*)(const int32_t* a, int64_t a_stride, const int32_t* b, int64_t units,
                        const int32_t* start, float* c, int64_t c_stride);
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
              int64_t panels, const int32_t* starts, int64_t start_step, float* c,
              int64_t c_stride) {
  for (int64_t i = 0, tiles = (t.rows + kTileRows - 1) / kTileRows; i < tiles; ++i) {
    const TileRows r = tile_rows(t.rows, i);
    const TileFn run = Tiles<D>::kByRows[r.last - r.first];
    for (int64_t panel = 0; panel < panels; ++panel)
      run(a + r.first * a_stride, a_stride, b + panel * units * kPanel, units,
          starts + panel * start_step, c + r.first * c_stride + panel * kPanel, c_stride);
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
  multiply<D>(t, t.queries, t.query_units, t.keys, t.query_units, panels, t.starts, kPanel,
              t.scores, kScoreStride);
}

VB_INLINE float power_of(float whole) {
  return __builtin_bit_cast(float, (static_cast<int32_t>(whole) + 127) << 23);
}

// The scales of a block's keys, and the exponents of its values.
void gather_scales(const Task& t, int64_t key, int64_t count) {
  for_runs(t.p.rows, key, count, [&](int64_t i, int64_t n, int64_t row) {
    for (const int64_t end = i + n; i < end; ++i, ++row) {
      const int32_t f = t.p.v_exponents[row * t.p.kv_heads];
      t.key_scales[i] = t.p.k_scales[row * t.p.kv_heads];
      const auto exponent = static_cast<float>(f);
      t.value_exponents[i] = f == kFlaggedRow ? __builtin_nanf("") : exponent;
      t.value_steps[i] = f == kFlaggedRow ? 1 : kTotalOfCode * power_of(-exponent);
    }
  });
  for (int64_t i = count; i < kKeyBlock; ++i)
    t.key_scales[i] = t.value_exponents[i] = t.value_steps[i] = 0;
}

// A score in units of log2, on the grid: float(S) times scales, as the contract associates them.
VB_INLINE F32 scaled(const Int8Attention& p, F32 score, float q_scale, F32 key_scale) {
  const F32 grid = all(kScoreGrid), product = score * key_scale;
  if (p.softcap == 0) return fma(product, all(q_scale * (p.scale * kLog2EAsFloat)), grid) - grid;
  return fma(capped(p.scale, p.softcap, product * all(q_scale)), all(kLog2EAsFloat), grid) - grid;
}

// What a row's scores z, relative to their greatest, e, are weighed by (int8_weights.h).
struct Greatest {
  float e, g;
};
// The row's visible scores become z. NaN where a score or a value is.
Greatest find_greatest(const Task& t, int64_t row, KeyRange range) {
  float* z = t.scores + row * kScoreStride;
  const int64_t start = range.begin / kLanes * kLanes;
  const F32 lowest = all_bits(0xFF800000);
  const float q_scale = t.q_scale(row);
  F32 e = lowest, g = lowest;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 x = scaled(t.p, load(z + i), q_scale, load(t.key_scales + i));
    store(z + i, x);
    e = maximum_number(e, only(range, i, x, lowest));
  }
  const float best = greatest_lane(e);
  F32 nan = zero();
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 x = load(z + i) - all(best),
              y = only(range, i, x + load(t.value_exponents + i), lowest);
    store(z + i, x);
    g = maximum_number(g, y);
    nan = select(is_nan(y), y, nan);
  }
  // The maximum passes over NaN.
  const bool has_nan = greatest_lane(bits_of(absolute(nan))) > 0x7F800000;
  return {best, has_nan ? __builtin_nanf("") : greatest_lane(g)};
}

// The codes of the row's weights, in its units; returns the sum of l's weights, as lanes. kOnce: of
// one slice and g up to kMostRise, so that l's weights are the codes' 2^t times a number.
template <class D, bool kOnce>
I32 code_weights(const Task& t, int64_t row, KeyRange range, float g, float shift) {
  const float* z = t.scores + row * kScoreStride;
  int32_t* units = t.weights + row * kWeightStride;
  std::memset(units, 0, kKeyBlock / D::kCodes * sizeof(int32_t));
  auto* codes = reinterpret_cast<typename D::Code*>(units);
  const F32 up = kOnce ? all(power_of(whole_below(g) + 3)) : zero();
  I32 total = all_int(0);
  for (int64_t i = range.begin / kLanes * kLanes; i < range.end; i += kLanes) {
    const F32 y = load(z + i) + load(t.value_exponents + i);
    const F32 w = only(range, i, exp2p((y - all(g)) + all(kMostCodeExponent)), zero());
    I32 code = nearest_int(w);
    if constexpr (kOnce) {
      total = total + nearest_int(w * load(t.value_steps + i) * up);
    } else {
      if (t.p.slices == 2)
        code = shift_left<7>(code) + nearest_int((w - to_nearest_float(code)) * all(128));
      total = total + nearest_int(only(range, i, exp2p(load(z + i) + all(shift)), zero()));
    }
    D::store(codes + i, code);
  }
  return total;
}

// Turns the row's visible scores into codes of weights, and goes on with m and l.
template <class D>
void weigh(const Task& t, int64_t row, KeyRange range) {
  const auto slices = static_cast<int>(t.p.slices);
  const auto [e, g] = find_greatest(t, row, range);
  const float shift = total_shift(g, slices);
  const I32 total = slices == 1 && g <= kMostRise ? code_weights<D, true>(t, row, range, g, shift)
                                                  : code_weights<D, false>(t, row, range, g, shift);
  const bool fresh = t.running.full[row] == 0;
  const float before = fresh ? __builtin_bit_cast(float, 0xFF800000) : t.running.m[row],
              m = grid_maximum(before, e);
  float powers[kLanes] = {value_unit(e - m, g, slices), total_unit(e - m, shift), before - m};
  store(powers, exp2p(load(powers)));
  t.units[row] = powers[0];
  t.alphas[row] = m == before ? 1 : powers[2];
  int32_t sums[kLanes];
  store(sums, total);
  uint32_t sum = 0;  // of anything, where the units are NaN
  for (const int32_t x : sums) sum += static_cast<uint32_t>(x);
  const F32 l = fresh ? zero() : all(t.running.l[row]) * all(t.alphas[row]);
  store_first(t.running.l + row, 1,
              fma(all(static_cast<float>(static_cast<int32_t>(sum))), all(powers[1]), l));
  t.running.m[row] = m;
}

// Each o of the rows that see some of the block: on with its products.
void join_products(const Task& t, int64_t key) {
  for (int64_t r = 0; r < t.rows; ++r) {
    if (!t.sees_some(r, key)) continue;
    const bool fresh = t.running.full[r] == 0;
    t.running.full[r] = 1;
    float* o = t.running.o + r * t.width;
    for (int64_t j = 0; j < t.width; j += kLanes) {
      const F32 before = fresh ? zero() : load(o + j) * all(t.alphas[r]);
      store(o + j, fma(load(t.products + r * t.width + j), all(t.units[r]), before));
    }
  }
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
                   t.starts, 0, t.products, t.width);
  join_products(t, key);
}

template <class Scores, class Values>
void attend_all(Task& t) {
  t.query_units = units_of<Scores>(t.p.head_size);
  pack_queries<Scores>(t);
  attend_blocks(&t, 1, attend_block<Scores, Values>, weight_of, shared);
}

// Floats, or units, of each of a task's arrays, in the order that attend_int8() takes them.
struct Sizes {
  int64_t rows, queries, keys, values, weights, starts, scores, block, products, copy, states;
  Sizes(int64_t rows, int64_t head_size, int64_t value_size)
      : rows(rows),
        queries(rows * units_of<Pairs>(head_size)),
        keys(kScoreStride * units_of<Pairs>(head_size)),
        values(whole_panels(value_size) * units_of<Pairs>(kKeyBlock)),
        weights(rows * kWeightStride),
        starts(kScoreStride),
        scores(rows * kScoreStride),
        block(kKeyBlock),
        products(rows * whole_panels(value_size)),
        copy(kKeyBlock / 4 * greatest(head_size, value_size)),
        states(states_size(rows, whole_panels(value_size))) {}
  int64_t total() const {
    return queries + keys + values + weights + starts + scores + 3 * block + products + 2 * rows +
           copy + 2 * states;
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
  t.value_exponents = take(sizes.block);
  t.value_steps = take(sizes.block);
  t.products = take(sizes.products);
  t.alphas = take(sizes.rows);
  t.units = take(sizes.rows);
  t.copy = reinterpret_cast<int8_t*>(take(sizes.copy));
  for (States* states : {&t.running, &t.total})
    *states = states_at(take(sizes.states), rows, width);
#if defined(VB_HAS_DOT)
  if (has_dot()) return p.slices == 2 ? attend_all<Quads, Pairs>(t) : attend_all<Quads, Quads>(t);
#endif
  attend_all<Pairs, Pairs>(t);
}

}  // namespace verbatim::VB_TARGET
