// What the forms of attention share (docs/numerics.md, Attention): the states of a task's rows, and
// how those of consecutive keys merge.
#pragma once

#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>
#include <verbatim/kernels/cpu/target/unary.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::VB_TARGET {

// Room for a block of scores in whole panels; no power of two, as kRowStride.
inline constexpr int64_t kScoreStride = kKeyBlock + 16;
static_assert((kKeyBlock + kPanel - 1) / kPanel * kPanel <= kScoreStride);
inline constexpr float kLog2EAsFloat = __builtin_bit_cast(float, kLog2E);

VB_INLINE int64_t whole_panels(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

// States of all rows of a task: of a block, of the blocks of the running part, of all parts before.
struct States {
  float *m, *l, *full;  // full: 0 where no key took part yet
  float* o;             // [rows, width]
};
VB_INLINE int64_t states_size(int64_t rows, int64_t width) { return rows * (3 + width); }
VB_INLINE States states_in(float* memory, int64_t rows, int64_t width) {
  float* per_row = memory + rows * width;
  return {per_row, per_row + rows, per_row + 2 * rows, memory};
}
VB_INLINE States states_at(float* memory, int64_t rows, int64_t width) {
  const States s = states_in(memory, rows, width);
  std::memset(s.m, 0, static_cast<size_t>(3 * rows) * sizeof(float));  // no row is full
  return s;
}

// a = merge(a, b) of those rows that `sees(row)` names, several at a time; b's keys follow a's.
template <class Sees, class Exp2>
VB_INLINE void merge_rows(const States& a, const States& b, int64_t rows, int64_t width, Sees sees,
                          Exp2 exp2) {
  for (int64_t from = 0; from < rows; from += kLanes) {
    const int64_t count = least(kLanes, rows - from);
    const auto at = [&](const float* x) { return load_up_to(x + from, count, zero()); };
    const F32 m = maximum_number(at(a.m), at(b.m));
    const F32 alpha = exp2(at(a.m) - m), beta = exp2(at(b.m) - m);
    float m_of[kLanes], l_of[kLanes], alpha_of[kLanes], beta_of[kLanes];
    store(m_of, m);
    store(l_of, fma(at(b.l), beta, at(a.l) * alpha));
    store(alpha_of, alpha);
    store(beta_of, beta);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = from + i;
      if (!sees(row)) continue;
      const bool fresh = a.full[row] == 0;
      a.full[row] = 1;
      a.m[row] = fresh ? b.m[row] : m_of[i];
      a.l[row] = fresh ? b.l[row] : l_of[i];
      float *ao = a.o + row * width, *bo = b.o + row * width;
      for (int64_t j = 0; j < width; j += kLanes)
        store(ao + j, fresh ? load(bo + j)
                            : fma(load(bo + j), all(beta_of[i]), load(ao + j) * all(alpha_of[i])));
    }
  }
}

// The parts before take in the running one, which starts afresh.
template <class Exp2>
VB_INLINE void end_part(const States& total, const States& running, int64_t rows, int64_t width,
                        Exp2 exp2) {
  merge_rows(
      total, running, rows, width, [&](int64_t row) { return running.full[row] != 0; }, exp2);
  std::memset(running.full, 0, static_cast<size_t>(rows) * sizeof(float));
}

// quotient(o, l) of a row, +0 where it saw nothing.
template <class Quotient>
VB_INLINE void write_row(const States& total, int64_t row, int64_t width, int64_t size, float* out,
                         Quotient quotient) {
  const F32 l = all(total.l[row]);
  for (int64_t j = 0; j < size; j += kLanes) {
    const F32 o = load(total.o + row * width + j);
    store_up_to(out + j, size - j, total.full[row] == 0 ? zero() : canonical(quotient(o, l)));
  }
}

// The keys that `count` queries see, as far as any does.
VB_INLINE KeyRange keys_of_all(const KeyRange* visible, int64_t count) {
  KeyRange seen = {INT64_MAX, 0};
  for (int64_t i = 0; i < count; ++i) {
    if (visible[i].begin >= visible[i].end) continue;
    seen.begin = least(seen.begin, visible[i].begin);
    seen.end = greatest(seen.end, visible[i].end);
  }
  return seen;
}

// The row of key i, as KeyRows has it.
VB_INLINE int64_t row_of(const KeyRows& rows, int64_t i) {
  if (rows.pages == nullptr) return rows.first + i;
  return rows.pages[i / rows.page_size] * rows.page_size + i % rows.page_size;
}

// Calls run(i, n, row) for keys [key + i, key + i + n) whose rows lie one after another from `row`
// on, until all of [key, key + count) had their turn.
template <class Run>
VB_INLINE void for_runs(const KeyRows& rows, int64_t key, int64_t count, Run run) {
  for (int64_t i = 0, n = count; i < count; i += n) {
    if (rows.pages != nullptr) n = least(count - i, rows.page_size - (key + i) % rows.page_size);
    run(i, n, row_of(rows, key + i));
  }
}

// `size` elements of successive rows, row i's at at + i * stride.
template <class T>
struct Rows {
  const T* at;
  int64_t stride;
};
// Those of keys [key, key + count) from x on, whose rows are `stride` apart: where they lie, or in
// `copy` where a page ends among them.
template <class T>
VB_INLINE Rows<T> rows_of(const KeyRows& rows, const T* x, int64_t stride, int64_t size,
                          int64_t key, int64_t count, T* copy) {
  Rows<T> result = {copy, size};
  for_runs(rows, key, count, [&](int64_t i, int64_t n, int64_t row) {
    if (n == count) {
      result = {x + row * stride, stride};
      return;
    }
    for (int64_t j = 0; j < n; ++j)
      std::memcpy(copy + (i + j) * size, x + (row + j) * stride,
                  static_cast<size_t>(size) * sizeof(T));
  });
  return result;
}

// What a query that sees `range` sees of the block of keys from `key` on.
VB_INLINE KeyRange in_block(KeyRange range, int64_t key) {
  return {greatest(range.begin - key, 0), least(range.end - key, kKeyBlock)};
}

// The rows of some queries in the heads that share one head of keys.
template <class View>
struct TaskOf {
  View p;
  int64_t from = 0, to = 0;           // queries
  const KeyRange* visible = nullptr;  // of each
  int64_t rows = 0, width = 0;  // width: value_size in whole vectors, for some in whole panels
  States running{}, total{};

  int64_t query(int64_t row) const { return row / p.group; }
  auto q(int64_t row) const {
    return p.q + (from + query(row)) * p.q_stride + row % p.group * p.head_size;
  }
  float* out(int64_t row) const {
    return p.out + (from + query(row)) * p.out_stride + row % p.group * p.value_size;
  }
  // A row's visible keys in the block of keys from `key` on.
  KeyRange in_block(int64_t row, int64_t key) const {
    return VB_TARGET::in_block(visible[query(row)], key);
  }
  bool sees_some(int64_t row, int64_t key) const {
    const KeyRange range = in_block(row, key);
    return range.begin < range.end;
  }
};

// Calls block(task, key, count) for each block of keys that a row may see, `count` of them up to
// the last that any does, merges parts, and writes each row's result. Tasks that see the same keys,
// in heads that lie side by side, take turns.
template <class Task, class Block, class Exp2, class Quotient>
VB_INLINE void attend_blocks(const Task* tasks, int64_t task_count, Block block, Exp2 exp2,
                             Quotient quotient) {
  const KeyRange keys = keys_of_all(tasks->visible, tasks->to - tasks->from);
  // Of a single part, the running state is the total one.
  const bool one_part =
      keys.end <= keys.begin || keys.begin / kKeyRestart == (keys.end - 1) / kKeyRestart;
  for (int64_t key = keys.begin / kKeyBlock * kKeyBlock; key < keys.end; key += kKeyBlock) {
    const bool ends = (key + kKeyBlock) % kKeyRestart == 0 || key + kKeyBlock >= keys.end;
    for (const Task* t = tasks; t != tasks + task_count; ++t) {
      block(*t, key, least(kKeyBlock, keys.end - key));
      if (ends && !one_part) end_part(t->total, t->running, t->rows, t->width, exp2);
    }
  }
  for (const Task* t = tasks; t != tasks + task_count; ++t)
    for (int64_t r = 0; r < t->rows; ++r)
      write_row(one_part ? t->running : t->total, r, t->width, t->p.value_size, t->out(r),
                quotient);
}

// What family A writes of a row, and what families B and C do.
VB_INLINE F32 divided(F32 o, F32 l) { return o / l; }
VB_INLINE F32 shared(F32 o, F32 l) { return o * (all(1) / l); }

// A score with a softcap, as repops/ops/attention_row.h's capped_score(): in units of e.
VB_INLINE F32 capped(float scale, float softcap, F32 score) {
  return all(softcap) * tanh(score * all(scale) / all(softcap));
}

// semantics.h's exp2p.
VB_INLINE F32 exp2p(F32 t) {
  const F32 magic = all(0x1.8p23f);  // t + this holds rne(t) in its last bits
  const F32 shifted = t + magic;
  const F32 p = exp2p_fraction(
      t - (shifted - magic), [](F32 a, F32 b, F32 c) { return fma(a, b, c); },
      [](uint32_t bits) { return all_bits(bits); });
  const F32 power = float_of(shift_left<23>(bits_of(shifted) + all_int(127)));
  return select(below(t, all(-126)), zero(), p * power);
}

// Lanes of elements i .. of the range [begin, end); the others `rest`.
VB_INLINE F32 only(KeyRange range, int64_t i, F32 x, F32 rest) {
  if (i < range.begin) x = select(first(least(range.begin - i, kLanes)), rest, x);
  if (i + kLanes > range.end) x = select(first(greatest(range.end - i, 0)), x, rest);
  return x;
}

}  // namespace verbatim::VB_TARGET
