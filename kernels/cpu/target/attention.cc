// Ordered attention (docs/numerics.md, Attention, family A). A task holds the rows of some queries:
// for each block of 128 keys it forms all scores as an ordered product, turns each row's visible
// scores into weights and a block state, multiplies the weights by the values, and merges.
#include <verbatim/kernels/cpu/target/attention_state.h>
#include <verbatim/kernels/cpu/target/kernels.h>

namespace verbatim::VB_TARGET {
namespace {

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
    return verbatim::VB_TARGET::in_block(visible[query(row)], key);
  }
};

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

// A score in units of log2.
VB_INLINE F32 scaled(const Attention& p, F32 score) {
  if (p.softcap == 0) return score * all(p.scale * kLog2EAsFloat);
  return capped(p.scale, p.softcap, score);
}

VB_INLINE F32 weight_of(F32 x) { return exp2(x); }

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
  const float best = greatest_lane(m);
  Octet sums;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 weight = only(range, i, exp2(load(x + i) - all(best)), zero());
    store(x + i, weight);
    add(sums, weight, i);
  }
  t.block.m[row] = best;
  t.block.l[row] = lane_sum(sums);
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
    if (range.begin < range.end) merge(t.running, t.block, r, t.width, weight_of);
  }
}

}  // namespace

size_t attention_scratch(int64_t rows, int64_t value_size) {
  const int64_t width = whole_panels(value_size);
  return static_cast<size_t>(rows * (kRowStride + kScoreStride + 3 * states_size(1, width)) +
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
  for (States* states : {&t.block, &t.running, &t.total})
    *states = states_at(take(states_size(rows, width)), rows, width);

  bool queries_are_there = false;
  for_blocks(
      keys_of_all(visible, to - from),
      [&](int64_t key, int64_t count) {
        attend_block(t, key, count, queries_are_there);
        queries_are_there = true;
      },
      [&] { end_part(t.total, t.running, rows, width, weight_of); });
  for (int64_t r = 0; r < rows; ++r) write_row(t.total, r, width, p.value_size, t.out(r));
}

}  // namespace verbatim::VB_TARGET
