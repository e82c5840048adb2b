// Ordered attention (docs/numerics.md, Attention, family A). A task holds the rows of some queries:
// for each block of 128 keys it forms all scores as an ordered product, turns each row's visible
// scores into weights and a block state, multiplies the weights by the values, and merges.
#include <verbatim/kernels/cpu/target/attention_state.h>
#include <verbatim/kernels/cpu/target/kernels.h>

namespace verbatim::VB_TARGET {
namespace {

struct Task : TaskOf<Attention> {
  float *queries = nullptr, *keys = nullptr, *values = nullptr, *scores = nullptr, *copy = nullptr;
  States block{};
  KeyRange* means = nullptr;   // what queries see of a block of means
  int pool = 0;                // keys and values are means of 2^pool rows
  int64_t seen_end = 0;        // of the keys that any row sees
  const Task* next = nullptr;  // whose block comes after this one's, `next_step` keys on
  int64_t next_step = 0;
};

// Rows of keys or values that are wanted soon: heads lie too far apart in memory for the processor
// to foresee them, so they are fetched a few lines at a time, beside the arithmetic. Unlike a
// product's Ahead, through tables of pages.
struct Fetch {
  const float* x = nullptr;
  int64_t stride = 0, size = 0;
  const KeyRows* rows = nullptr;
  int64_t key = 0, end = 0;  // the next row, and that after the last
  const float *at = nullptr, *row_end = nullptr;

  VB_INLINE void lines(int count) {
    if (key >= end) return;
    if (at == row_end) {
      at = x + row_of(*rows, key) * stride;
      row_end = at + size;
    }
    for (int i = 0; i < count; ++i) prefetch(at + i * kLine);
    at += count * kLine;
    if (at < row_end) return;
    at = row_end;
    ++key;
  }
};

// Accumulators start from `c` and go back there, or start at +0 and are stored or added.
// Row r of A is at a + r * kStride, row k of B at b + k * b_stride: in a panel, or values where
// they lie.
enum class Into { resume, first, add };
template <int kRows, Into kInto, int64_t kStride>
void run_tile(const float* a, const float* b, int64_t b_stride, int64_t k_size, float* c,
              int64_t c_stride, Fetch& ahead) {
  F32 acc[kRows][kTileVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      acc[r][v] = kInto == Into::resume ? load(c + r * c_stride + v * kLanes) : zero();
  }
  const auto step = [&](int64_t k) __attribute__((always_inline)) {
    F32 column[kTileVectors];
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v) column[v] = load(b + v * kLanes);
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const F32 x = all(a[r * kStride + k]);
      VB_UNROLL
      for (int v = 0; v < kTileVectors; ++v) acc[r][v] = fma(x, column[v], acc[r][v]);
    }
    b += b_stride;
  };
  constexpr int kSteps = 4;  // as in multiply_tile()
  for (; k_size >= kSteps; k_size -= kSteps, a += kSteps) {
    ahead.lines(kSteps);
    VB_UNROLL
    for (int k = 0; k < kSteps; ++k) step(k);
  }
  for (int64_t k = 0; k < k_size; ++k) step(k);
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      float* to = c + r * c_stride + v * kLanes;
      store(to, kInto == Into::add ? load(to) + acc[r][v] : acc[r][v]);
    }
  }
}

using TileFn = void (*)(const float* a, const float* b, int64_t b_stride, int64_t k_size, float* c,
                        int64_t c_stride, Fetch& ahead);
template <Into kInto, int64_t kStride, int... kRows>
struct TileFunctions {
  static constexpr TileFn kByRows[] = {nullptr, run_tile<kRows, kInto, kStride>...};
};
#if defined(__AVX512F__)
template <Into kInto, int64_t kStride>
using Tiles = TileFunctions<kInto, kStride, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>;
#elif defined(__AVX2__)
template <Into kInto, int64_t kStride>
using Tiles = TileFunctions<kInto, kStride, 1, 2, 3, 4, 5, 6>;
#else
template <Into kInto, int64_t kStride>
using Tiles = TileFunctions<kInto, kStride, 1, 2, 3, 4, 5, 6, 7, 8>;
#endif
template <Into kInto>
using ScoreTiles = Tiles<kInto, kRowStride>;
template <Into kInto>
using ValueTiles = Tiles<kInto, kScoreStride>;

// Keys of a panel: kLanes of them from each of `at` on, `stride` apart. Pages of whole groups of
// kLanes keys are read where they lie.
struct KeyPanel {
  const float* at[kTileVectors];
  int64_t stride;
};
VB_INLINE bool keys_lie_well(const KeyRows& rows) {
  return rows.pages == nullptr || rows.page_size % kLanes == 0;
}

// Up to `size` elements of mean i of a task whose keys and values are means of rows of x.
VB_INLINE F32 mean_of(const Task& t, const float* x, int64_t stride, int64_t i, int64_t size) {
  const auto row = [&](int64_t key) { return x + row_of(t.p.rows, key) * stride; };
  F32 sum = load_up_to(row(i << t.pool), size, zero());
  for (int64_t r = 1; r < 1 << t.pool; ++r)
    sum = sum + load_up_to(row((i << t.pool) + r), size, zero());
  return canonical(sum * all(1.0f / static_cast<float>(1 << t.pool)));
}

// Elements [d, d + size) of keys [key, key + count).
VB_INLINE KeyPanel key_panel(const Task& t, int64_t key, int64_t count, int64_t d, int64_t size) {
  const Attention& p = t.p;
  KeyPanel panel;
  if (t.pool > 0) {
    panel.stride = (size + kLanes - 1) / kLanes * kLanes;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < size; j += kLanes)
        store(t.copy + i * panel.stride + j,
              mean_of(t, p.k + d + j, p.k_stride, key + i, size - j));
    for (int v = 0; v < kTileVectors; ++v) panel.at[v] = t.copy + v * kLanes * panel.stride;
    return panel;
  }
  if (keys_lie_well(p.rows)) {
    panel.stride = p.k_stride;
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      panel.at[v] = p.k + d + row_of(p.rows, key + least(v * kLanes, count - 1)) * p.k_stride;
    return panel;
  }
  const Rows<float> rows = rows_of(p.rows, p.k + d, p.k_stride, size, key, count, t.copy);
  panel.stride = rows.stride;
  for (int v = 0; v < kTileVectors; ++v) panel.at[v] = rows.at + v * kLanes * rows.stride;
  return panel;
}

// Keys of one panel, `count` of them, become columns: [size, kPanel], zeros beyond `count`.
template <bool kWhole>
VB_INLINE void turn_keys(const KeyPanel& k, int64_t size, int64_t count, Fetch& ahead, float* out) {
  for (int64_t d = 0; d < size; d += kLanes) {
    VB_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      F32 x[kLanes];
      VB_UNROLL
      for (int i = 0; i < kLanes; ++i) {
        const float* key = k.at[v] + i * k.stride + d;
        if constexpr (kWhole)
          x[i] = load(key);
        else
          x[i] = v * kLanes + i < count ? load_up_to(key, size - d, zero()) : zero();
        if (i % 4 == 0) ahead.lines(4);
      }
      transpose(x);
      VB_UNROLL
      for (int i = 0; i < kLanes; ++i)
        if (kWhole || d + i < size) store(out + (d + i) * kPanel + v * kLanes, x[i]);
    }
  }
}
void pack_keys(const KeyPanel& k, int64_t size, int64_t count, Fetch& ahead, float* out) {
  if (count >= kPanel && size % kLanes == 0) return turn_keys<true>(k, size, count, ahead, out);
  turn_keys<false>(k, size, count, ahead, out);
}

// Where rows of a single tile read each value once, values are read where they lie.
bool values_lie_well(const Task& t) {
  return t.rows <= kTileRows && t.p.value_size == t.width && t.pool == 0;
}

// Elements [d, d + size) of all rows.
void copy_queries(const Task& t, int64_t d, int64_t size) {
  for (int64_t r = 0; r < t.rows; ++r)
    std::memcpy(t.queries + r * kRowStride, t.q(r) + d, static_cast<size_t>(size) * sizeof(float));
}

// Whether a row of a tile sees one of the keys [key, key + count).
VB_INLINE bool sees_any(const Task& t, TileRows r, int64_t key, int64_t count) {
  const int64_t from = t.query(r.first), to = t.query(r.last - 1) + 1;
  const KeyRange seen = keys_of_all(t.visible + from, to - from);
  return seen.begin < key + count && key < seen.end;
}

// scores[row, i] = q[row] . k[key + i], an ordered product, for i < count, wherever a row of the
// tile sees one of a panel's keys. Queries are there already where one block of the product has
// them whole.
void form_scores(const Task& t, int64_t key, int64_t count, Fetch& ahead) {
  const Attention& p = t.p;
  const int64_t tiles = (t.rows + kTileRows - 1) / kTileRows;
  for (int64_t d = 0; d == 0 || d < p.head_size; d += kProductBlock) {
    const int64_t size = least(kProductBlock, p.head_size - d);
    if (p.head_size > kProductBlock) copy_queries(t, d, size);
    for (int64_t column = 0; column < count; column += kPanel) {
      const int64_t panel = least(kPanel, count - column);
      const KeyPanel keys = key_panel(t, key + column, panel, d, size);
      pack_keys(keys, size, panel, ahead, t.keys);
      for (int64_t i = 0; i < tiles; ++i) {
        const TileRows r = tile_rows(t.rows, i);
        if (!sees_any(t, r, key + column, panel)) continue;
        const int64_t height = r.last - r.first;
        const TileFn run = d == 0 ? ScoreTiles<Into::first>::kByRows[height]
                                  : ScoreTiles<Into::add>::kByRows[height];
        run(t.queries + r.first * kRowStride, t.keys, kPanel, size,
            t.scores + r.first * kScoreStride + column, kScoreStride, ahead);
      }
    }
  }
}

// A score in units of log2.
VB_INLINE F32 scaled(const Attention& p, F32 score) {
  if (p.softcap == 0) return score * all(p.scale * kLog2EAsFloat);
  return capped(p.scale, p.softcap, score) * all(kLog2EAsFloat);
}

VB_INLINE F32 weight_of(F32 x) { return exp2(x); }

// Turns the row's visible scores into weights relative to their maximum, other places it touches
// into +0, and fills m and l of its block state. A NaN score need not be found by the maximum: it
// makes l and o NaN.
void weigh(const Task& t, int64_t row, KeyRange range) {
  float* x = t.scores + row * kScoreStride;
  const int64_t start = range.begin / kLanes * kLanes;
  const F32 lowest = all_bits(0xFF800000), shift = all(static_cast<float>(t.pool));
  F32 m = lowest;
  for (int64_t i = start; i < range.end; i += kLanes) {
    const F32 v = scaled(t.p, load(x + i)) + shift;
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

// The same where the row sees the whole block and there is no softcap.
void weigh_all(const Task& t, int64_t row) {
  float* x = t.scores + row * kScoreStride;
  const F32 scale = all(t.p.scale * kLog2EAsFloat);
  F32 m = load(x) * scale;
  for (int64_t i = kLanes; i < kKeyBlock; i += kLanes) m = maximum_number(m, load(x + i) * scale);
  const float best = greatest_lane(m);
  Octet sums;
  for (int64_t i = 0; i < kKeyBlock; i += kLanes) {
    const F32 weight = exp2(load(x + i) * scale - all(best));
    store(x + i, weight);
    add(sums, weight, i);
  }
  t.block.m[row] = best;
  t.block.l[row] = lane_sum(sums);
}

// The values of a block: packed in panels, or where they lie. That of key i of the block is row
// rows[key + i], from `at` on.
struct Values {
  const float* at;
  int64_t stride, panel_stride;  // from row to row, and to the next kPanel columns
  KeyRows rows;
  int64_t key;
};

// block.o[rows r] += weights[i] * v[i] for keys i of [begin, end) of the block; into +0 where it is
// `first`.
void add_values(const Task& t, TileRows r, const Values& v, int64_t begin, int64_t end, bool first,
                Fetch& ahead) {
  const int64_t height = r.last - r.first;
  const auto add = [&](int64_t i, int64_t n, int64_t row) {
    const TileFn run = first ? ValueTiles<Into::first>::kByRows[height]
                             : ValueTiles<Into::resume>::kByRows[height];
    for (int64_t panel = 0; panel < t.width / kPanel; ++panel)
      run(t.scores + r.first * kScoreStride + begin + i,
          v.at + panel * v.panel_stride + row * v.stride, v.stride, n,
          t.block.o + r.first * t.width + panel * kPanel, t.width, ahead);
    first = false;
  };
  if (begin < end) return for_runs(v.rows, v.key + begin, end - begin, add);
  if (first) add(0, 0, 0);
}

// The rows of a tile share their loop over the keys that all of them see; what only some see, a
// masked key's product being no part of a row, they take one by one before and after.
void weigh_values(const Task& t, TileRows r, const Values& v, int64_t key, Fetch& ahead) {
  int64_t begin = 0, end = kKeyBlock, least_begin = kKeyBlock;
  for (int64_t row = r.first; row < r.last; ++row) {
    const KeyRange range = t.in_block(row, key);
    begin = greatest(begin, range.begin);
    end = least(end, range.end);
    least_begin = least(least_begin, range.begin);
  }
  end = greatest(begin, end);
  const bool together = least_begin == begin;
  for (int64_t row = r.first; row < r.last && !together; ++row) {
    const KeyRange range = t.in_block(row, key);
    add_values(t, {row, row + 1}, v, range.begin, least(range.end, begin), true, ahead);
  }
  add_values(t, r, v, begin, end, together, ahead);
  for (int64_t row = r.first; row < r.last; ++row) {
    const KeyRange range = t.in_block(row, key);
    add_values(t, {row, row + 1}, v, greatest(range.begin, end), range.end, false, ahead);
  }
}

Values values_of(const Task& t, int64_t key, int64_t count) {
  const Attention& p = t.p;
  if (values_lie_well(t)) return {p.v, p.v_stride, kPanel, p.rows, key};
  const int64_t panels = t.width / kPanel;
  const Values packed = {t.values, kPanel, count * kPanel, {}, 0};
  if (t.pool > 0) {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < t.width; j += kLanes)
        store(
            t.values + (j / kPanel * count + i) * kPanel + j % kPanel,
            j < p.value_size ? mean_of(t, p.v + j, p.v_stride, key + i, p.value_size - j) : zero());
    return packed;
  }
  for_runs(p.rows, key, count, [&](int64_t i, int64_t n, int64_t row) {
    const int64_t at_once = n == count ? panels : 1;  // pack() knows of whole panels only
    for (int64_t panel = 0; panel < panels; panel += at_once)
      pack(p.v + row * p.v_stride, p.v_stride, 1, n, p.value_size, panel, panel + at_once,
           t.values + (panel * (count - n) + i) * kPanel);
  });
  return packed;
}

// The rows of the block that comes after that of `key`.
Fetch soon(const Task& t, const float* x, int64_t stride, int64_t size, int64_t key) {
  if (t.pool > 0) return {};
  const int64_t from = key + t.next_step;
  return {x, stride, size, &t.p.rows, from, least(from + kKeyBlock, t.seen_end)};
}

// One block of keys, `count` of them up to the last that any row sees.
void attend_block(const Task& t, int64_t key, int64_t count) {
  Fetch ahead = soon(t, t.next->p.k, t.p.k_stride, t.p.head_size, key);
  form_scores(t, key, count, ahead);
  const Values v = values_of(t, key, count);
  for (int64_t r = 0; r < t.rows; ++r) {
    const KeyRange range = t.in_block(r, key);
    if (range.begin == 0 && range.end == kKeyBlock && t.p.softcap == 0) {
      weigh_all(t, r);
    } else if (range.begin < range.end) {
      weigh(t, r, range);
    }
  }
  const int64_t tiles = (t.rows + kTileRows - 1) / kTileRows;
  ahead = soon(t, t.next->p.v, t.p.v_stride, t.p.value_size, key);
  for (int64_t i = 0; i < tiles; ++i) weigh_values(t, tile_rows(t.rows, i), v, key, ahead);
  merge_rows(
      t.running, t.block, t.rows, t.width, [&](int64_t row) { return t.sees_some(row, key); },
      weight_of);
}

// The task of the queries [first, last) of another.
Task part_of(const Task& t, int64_t first, int64_t last) {
  const int64_t row = first * t.p.group;
  Task part = t;
  part.from = t.from + first;
  part.to = t.from + last;
  part.visible = t.visible + first;
  part.rows = (last - first) * t.p.group;
  part.queries = t.queries + row * kRowStride;
  part.scores = t.scores + row * kScoreStride;
  for (States* s : {&part.block, &part.running, &part.total})
    *s = {s->m + row, s->l + row, s->full + row, s->o + row * t.width};
  return part;
}

// A block of level 1 + pool: means of 2^pool keys for the queries that see it whole, and all that
// they see for the others.
void attend_means(const Task& t, int64_t key, int64_t count, int pool) {
  const auto seen = [&](int64_t query) {
    const KeyRange range = VB_TARGET::in_block(t.visible[query], key);
    return greatest(range.end - range.begin, 0);
  };
  const auto sight = [&](int64_t query) {  // 0: nothing, 1: a part, 2: the whole
    return (seen(query) > 0) + (seen(query) == kKeyBlock);
  };
  for (int64_t first = 0, last, queries = t.to - t.from; first < queries; first = last) {
    const int what = sight(first);
    for (last = first + 1; last < queries && sight(last) == what;) ++last;
    Task part = part_of(t, first, last);
    if (what == 1) attend_block(part, key, count);
    if (what < 2) continue;
    part.pool = pool;
    part.visible = t.means;
    const KeyRange all_means = {key >> pool, (key + kKeyBlock) >> pool};
    for (int64_t i = 0; i < last - first; ++i) t.means[i] = all_means;
    attend_block(part, all_means.begin, kKeyBlock >> pool);
  }
}

// Floats that a range for each row takes, in whole cache lines.
int64_t ranges_size(int64_t rows) {
  constexpr int64_t kRange = sizeof(KeyRange) / sizeof(float);
  return (rows * kRange + kLine - 1) / kLine * kLine;
}

}  // namespace

void mean_rows(const float* x, int64_t stride, int64_t rows, int64_t width, float* y) {
  for (int64_t j = 0; j < width; j += kLanes) {
    F32 sum = load_up_to(x + j, width - j, zero());
    for (int64_t i = 1; i < rows; ++i)
      sum = sum + load_up_to(x + i * stride + j, width - j, zero());
    store_up_to(y + j, width - j, sum / all(static_cast<float>(rows)));
  }
}

size_t attention_scratch(int64_t rows, int64_t value_size, int64_t heads) {
  const int64_t width = whole_panels(value_size), states = states_size(rows, width);
  return static_cast<size_t>(heads * (rows * kRowStride + 2 * states) + rows * kScoreStride +
                             states + 2 * kPanel * kProductBlock + kKeyBlock * width +
                             ranges_size(rows));
}

void attend(const Attention& p, int64_t from, int64_t to, const KeyRange* visible, float* scratch) {
  const int64_t rows = (to - from) * p.group, width = whole_panels(p.value_size);
  const auto take = [&](int64_t size) {
    float* memory = scratch;
    scratch += size;
    return memory;
  };
  Task tasks[kMostKvHeads];
  Task& first = tasks[0] = {{p, from, to, visible, rows, width}};
  first.seen_end = keys_of_all(visible, to - from).end;
  first.keys = take(kPanel * kProductBlock);
  first.copy = take(kPanel * kProductBlock);
  first.values = take(kKeyBlock * width);
  first.means = reinterpret_cast<KeyRange*>(take(ranges_size(rows)));
  first.scores = take(rows * kScoreStride);
  first.block = states_at(take(states_size(rows, width)), rows, width);
  for (int64_t head = 0; head < p.kv_heads; ++head) {
    const bool last = head + 1 == p.kv_heads;
    Task& t = tasks[head] = first;
    t.p.q += head * p.group * p.head_size;
    t.p.k += head * p.head_size;
    t.p.v += head * p.value_size;
    t.p.out += head * p.group * p.value_size;
    t.next = last ? tasks : &t + 1;
    t.next_step = last ? kKeyBlock : 0;
    t.queries = take(rows * kRowStride);
    t.running = states_at(take(states_size(rows, width)), rows, width);
    t.total = states_at(take(states_size(rows, width)), rows, width);
    copy_queries(t, 0, least(kProductBlock, p.head_size));
  }
  attend_blocks(
      tasks, p.kv_heads,
      [](const Task& t, int64_t key, int64_t count) {
        const int level = t.p.levels == nullptr ? 1 : t.p.levels[key / kKeyBlock];
        if (level == 1) attend_block(t, key, count);
        if (level > 1) attend_means(t, key, count, level - 1);
      },
      weight_of, divided);
}

}  // namespace verbatim::VB_TARGET
