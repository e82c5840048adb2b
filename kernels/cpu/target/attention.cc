// Ordered attention (docs/numerics.md, Attention, family A). A task holds the rows of some queries:
// for each block of 128 keys it forms all scores as an ordered product, turns each row's visible
// scores into weights and a block state, multiplies the weights by the values, and merges.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>
#include <verbatim/kernels/cpu/target/unary.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::VB_TARGET {
namespace {

// Room for a block of scores in whole panels; no power of two, as kRowStride.
constexpr int64_t kScoreStride = kKeyBlock + 16;
static_assert((kKeyBlock + kPanel - 1) / kPanel * kPanel <= kScoreStride);
constexpr float kLog2EAsFloat = __builtin_bit_cast(float, kLog2E);

int64_t whole_panels(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

// States of all rows of a task: of a block, of the blocks of the running part, of all parts before.
struct States {
  float *m, *l, *full;  // full: 0 where no key took part yet
  float* o;             // [rows, width]
};

struct Task {
  const Attention& p;
  int64_t from, to;         // queries
  const KeyRange* visible;  // of each
  int64_t rows, width;      // width: value_size in whole panels
  float *queries, *keys, *values, *scores;
  States block, running, total;

  int64_t query(int64_t row) const { return row / p.group; }
  const float* q(int64_t row) const {
    return p.q + (from + query(row)) * p.q_stride + row % p.group * p.head_size;
  }
  float* out(int64_t row) const {
    return p.out + (from + query(row)) * p.out_stride + row % p.group * p.value_size;
  }
  // A row's visible keys in the block of keys from `key` on.
  KeyRange in_block(int64_t row, int64_t key) const {
    const KeyRange& r = visible[query(row)];
    return {greatest(r.begin - key, 0), least(r.end - key, kKeyBlock)};
  }
};

States take_states(float*& scratch, int64_t rows, int64_t width) {
  States s;
  s.m = scratch;
  s.l = s.m + rows;
  s.full = s.l + rows;
  s.o = s.full + rows;
  scratch = s.o + rows * width;
  for (int64_t r = 0; r < rows; ++r) s.full[r] = 0;
  return s;
}

// Accumulators start from `c` and go back there, or start at +0 and are stored (kFirst) or added.
enum class Into { resume, first, add };
template <int kRows, Into kInto>
void run_tile(const float* a, int64_t a_stride, const float* b, int64_t k_size, float* c,
              int64_t c_stride) {
  F32 acc[kRows][kTileVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      acc[r][v] = kInto == Into::resume ? load(c + r * c_stride + v * kLanes) : zero();
  }
  multiply_tile(a, a_stride, b, 0, k_size, acc);
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      float* to = c + r * c_stride + v * kLanes;
      store(to, kInto == Into::add ? load(to) + acc[r][v] : acc[r][v]);
    }
  }
}

using TileFn = void (*)(const float* a, int64_t a_stride, const float* b, int64_t k_size, float* c,
                        int64_t c_stride);
template <Into kInto, int... kRows>
struct TileFunctions {
  static constexpr TileFn kByRows[] = {nullptr, run_tile<kRows, kInto>...};
};
#if defined(__AVX512F__)
template <Into kInto>
using Tiles = TileFunctions<kInto, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>;
#elif defined(__AVX2__)
template <Into kInto>
using Tiles = TileFunctions<kInto, 1, 2, 3, 4, 5, 6>;
#else
template <Into kInto>
using Tiles = TileFunctions<kInto, 1, 2, 3, 4, 5, 6, 7, 8>;
#endif

// scores[row, i] = q[row] . k[key + i], an ordered product, for i < count.
void form_scores(const Task& t, int64_t key, int64_t count, bool queries_are_there) {
  const Attention& p = t.p;
  const int64_t tiles = (t.rows + kTileRows - 1) / kTileRows;
  for (int64_t d = 0; d == 0 || d < p.head_size; d += kProductBlock) {
    const int64_t size = least(kProductBlock, p.head_size - d);
    if (!queries_are_there || p.head_size > kProductBlock)
      for (int64_t r = 0; r < t.rows; ++r)
        std::memcpy(t.queries + r * kRowStride, t.q(r) + d,
                    static_cast<size_t>(size) * sizeof(float));
    pack(p.k + key * p.k_stride + d, 1, p.k_stride, size, count, 0, whole_panels(count) / kPanel,
         t.keys);
    for (int64_t i = 0; i < tiles; ++i) {
      const TileRows r = tile_rows(t.rows, i);
      const int64_t height = r.last - r.first;
      const TileFn run =
          d == 0 ? Tiles<Into::first>::kByRows[height] : Tiles<Into::add>::kByRows[height];
      for (int64_t column = 0; column < count; column += kPanel)
        run(t.queries + r.first * kRowStride, kRowStride, t.keys + column * size, size,
            t.scores + r.first * kScoreStride + column, kScoreStride);
    }
  }
}

// A score in units of log2, as repops/ops/attention.cc's scaled_score().
VB_INLINE F32 scaled(const Attention& p, F32 score) {
  if (p.softcap == 0) return score * all(p.scale * kLog2EAsFloat);
  const F32 capped = all(p.softcap) * tanh(score * all(p.scale) / all(p.softcap));
  return capped * all(kLog2EAsFloat);
}

// Lanes of elements i .. of the range [begin, end); the others `rest`.
VB_INLINE F32 only(KeyRange range, int64_t i, F32 x, F32 rest) {
  if (i < range.begin) x = select(first(least(range.begin - i, kLanes)), rest, x);
  if (i + kLanes > range.end) x = select(first(greatest(range.end - i, 0)), x, rest);
  return x;
}

// Turns the row's visible scores into weights relative to their maximum, other places it touches
// into +0, and fills m and l of its block state. A NaN score need not be found by the maximum: it
// makes l and o NaN.
void weigh(const Task& t, int64_t row, KeyRange range) {
  float* x = t.scores + row * kScoreStride;
  const int64_t start = range.begin / kLanes * kLanes;
  const F32 lowest = all_bits(0xFF800000);
  F32 m = lowest;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 v = scaled(t.p, load(x + i));
    store(x + i, v);
    m = maximum_number(m, only(range, i, v, lowest));
  }
  float lane[kLanes > kKeyLanes ? kLanes : kKeyLanes];
  store(lane, m);
  float best = lane[0];
  for (int i = 1; i < kLanes; ++i) best = lane[i] > best ? lane[i] : best;
  Octet sums;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 weight = only(range, i, exp2(load(x + i) - all(best)), zero());
    store(x + i, weight);
    add(sums, weight, i);
  }
  store(lane, sums);
  t.block.m[row] = best;
  t.block.l[row] =
      ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// block.o[rows r] += weights[i] * v[i] for keys i of [begin, end) of the block, whose first `count`
// keys are packed.
void add_values(const Task& t, TileRows r, int64_t begin, int64_t end, int64_t count) {
  if (begin >= end) return;
  for (int64_t column = 0; column < t.width; column += kPanel)
    Tiles<Into::resume>::kByRows[r.last - r.first](
        t.scores + r.first * kScoreStride + begin, kScoreStride,
        t.values + column * count + begin * kPanel, end - begin,
        t.block.o + r.first * t.width + column, t.width);
}

// The rows of a tile share their loop over the keys that all of them see; what only some see, a
// masked key's product being no part of a row, they take one by one before and after.
void weigh_values(const Task& t, TileRows r, int64_t key, int64_t count) {
  int64_t begin = 0, end = kKeyBlock;
  for (int64_t row = r.first; row < r.last; ++row) {
    const KeyRange range = t.in_block(row, key);
    begin = greatest(begin, range.begin);
    end = least(end, range.end);
  }
  end = greatest(begin, end);
  for (int64_t row = r.first; row < r.last; ++row) {
    const KeyRange range = t.in_block(row, key);
    add_values(t, {row, row + 1}, range.begin, least(range.end, begin), count);
  }
  add_values(t, r, begin, end, count);
  for (int64_t row = r.first; row < r.last; ++row) {
    const KeyRange range = t.in_block(row, key);
    add_values(t, {row, row + 1}, greatest(range.begin, end), range.end, count);
  }
}

// a = merge(a, b) of one row that has keys in b; b's keys follow a's.
void merge(const States& a, const States& b, int64_t row, int64_t width) {
  float *ao = a.o + row * width, *bo = b.o + row * width;
  if (a.full[row] == 0) {
    a.full[row] = 1;
    a.m[row] = b.m[row];
    a.l[row] = b.l[row];
    std::memcpy(ao, bo, static_cast<size_t>(width) * sizeof(float));
    return;
  }
  const float m = a.m[row] > b.m[row] ? a.m[row] : b.m[row];
  const float alpha = exp2_f32(a.m[row] - m), beta = exp2_f32(b.m[row] - m);
  a.m[row] = m;
  const F32 scale = all(alpha), other = all(beta);
  float lane[kLanes];
  store(lane, fma(all(b.l[row]), other, all(a.l[row]) * scale));
  a.l[row] = lane[0];
  for (int64_t j = 0; j < width; j += kLanes)
    store(ao + j, fma(load(bo + j), other, load(ao + j) * scale));
}

// One block of keys, `count` of them up to the last that any row sees.
void attend_block(const Task& t, int64_t key, int64_t count, bool queries_are_there) {
  form_scores(t, key, count, queries_are_there);
  pack(t.p.v + key * t.p.v_stride, t.p.v_stride, 1, count, t.p.value_size, 0, t.width / kPanel,
       t.values);
  for (int64_t r = 0; r < t.rows; ++r) {
    const KeyRange range = t.in_block(r, key);
    if (range.begin < range.end) weigh(t, r, range);
  }
  std::memset(t.block.o, 0, static_cast<size_t>(t.rows * t.width) * sizeof(float));
  const int64_t tiles = (t.rows + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < tiles; ++i) weigh_values(t, tile_rows(t.rows, i), key, count);
  for (int64_t r = 0; r < t.rows; ++r) {
    const KeyRange range = t.in_block(r, key);
    if (range.begin < range.end) merge(t.running, t.block, r, t.width);
  }
}

void end_part(const Task& t) {
  for (int64_t r = 0; r < t.rows; ++r) {
    if (t.running.full[r] == 0) continue;
    merge(t.total, t.running, r, t.width);
    t.running.full[r] = 0;
  }
}

void finish_row(const Task& t, int64_t row) {
  const F32 l = all(t.total.l[row]);
  for (int64_t j = 0; j < t.p.value_size; j += kLanes) {
    const F32 o = load(t.total.o + row * t.width + j);
    store_up_to(t.out(row) + j, t.p.value_size - j,
                t.total.full[row] == 0 ? zero() : canonical(o / l));
  }
}

}  // namespace

size_t attention_scratch(int64_t rows, int64_t value_size) {
  const int64_t width = whole_panels(value_size);
  return static_cast<size_t>(rows * (kRowStride + kScoreStride + 3 * (3 + width)) +
                             kScoreStride * kProductBlock + kKeyBlock * width);
}

void attend(const Attention& p, int64_t from, int64_t to, const KeyRange* visible, float* scratch) {
  const int64_t rows = (to - from) * p.group, width = whole_panels(p.value_size);
  const auto take = [&](int64_t size) {
    float* memory = scratch;
    scratch += size;
    return memory;
  };
  Task t{p, from, to, visible, rows, width, {}, {}, {}, {}, {}, {}, {}};
  t.keys = take(kScoreStride * kProductBlock);
  t.queries = take(rows * kRowStride);
  t.values = take(kKeyBlock * width);
  t.scores = take(rows * kScoreStride);
  t.block = take_states(scratch, rows, width);
  t.running = take_states(scratch, rows, width);
  t.total = take_states(scratch, rows, width);

  int64_t begin = INT64_MAX, end = 0;
  for (int64_t i = 0; i < to - from; ++i) {
    if (visible[i].begin >= visible[i].end) continue;
    begin = least(begin, visible[i].begin);
    end = greatest(end, visible[i].end);
  }
  bool queries_are_there = false;
  for (int64_t key = begin / kKeyBlock * kKeyBlock; key < end; key += kKeyBlock) {
    attend_block(t, key, least(kKeyBlock, end - key), queries_are_there);
    queries_are_there = true;
    if ((key + kKeyBlock) % kKeyRestart == 0) end_part(t);
  }
  end_part(t);
  for (int64_t r = 0; r < rows; ++r) finish_row(t, r);
}

}  // namespace verbatim::VB_TARGET
