// Ordered attention of one query's row (docs/numerics.md, Attention): the arithmetic that every
// form of the operator shares, whatever its layout, cache and masks.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include <verbatim/repops/ops/attention.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/unary.h>

namespace verbatim {

// The keys, or the values, of one head: `past_count` rows of a cache, then the others.
template <class T>
struct HeadRows {
  const T* rows = nullptr;
  int64_t stride = 0;  // in elements, from one row to the next
  KeyRows at = {};     // which of the rows
  const T* past = nullptr;
  int64_t past_count = 0, past_stride = 0;

  const T* operator[](int64_t i) const {
    return i < past_count ? past + i * past_stride : rows + at[i - past_count] * stride;
  }
};

// What a mask says of each key of one query: whether it is seen, or a bias that is added to its
// score. A bias of -infinity masks; so does a mask of fewer keys, for the others. Without either,
// every key is seen.
template <class T>
struct KeyMask {
  const bool* visible = nullptr;
  const T* bias = nullptr;
  int64_t count = 0;

  bool sees(int64_t i) const {
    if (visible == nullptr && bias == nullptr) return true;
    if (i >= count) return false;
    return visible != nullptr ? visible[i]
                              : load(bias[i]) != -std::numeric_limits<float>::infinity();
  }
};

template <class T>
struct AttentionRow {
  const T* q = nullptr;
  HeadRows<T> keys, values;
  KeyMask<T> mask;
  int64_t begin = 0, end = 0;  // the keys that the query may see; the mask decides within
  float shift = 0;             // of every score, in units of log2
};

// The state of all keys of families B and C, whose state goes on from block to block within a part:
// extend(state, begin, end) with the keys of each block, ascending.
template <class Extend>
AttentionState attend_on(std::pair<int64_t, int64_t> keys, int64_t value_size, Extend&& extend) {
  AttentionState total;
  for (int64_t part = keys.first / kKeyRestart * kKeyRestart; part < keys.second;
       part += kKeyRestart) {
    AttentionState running;
    running.m = -std::numeric_limits<float>::infinity();
    running.o.resize(static_cast<size_t>(value_size));
    const int64_t part_end = std::min(part + kKeyRestart, keys.second);
    for (int64_t block = part; block < part_end; block += kKeyBlock) {
      const int64_t begin = std::max(block, keys.first),
                    end = std::min(block + kKeyBlock, part_end);
      if (begin >= end) continue;
      extend(running, begin, end);
      running.empty = false;
    }
    total = merge(std::move(total), running, exp2p);
  }
  return total;
}
// What o and l are multiplied by where m goes on from `before`.
inline float raise(float before, float m) { return m == before ? 1.0f : exp2p(before - m); }

// A score in units of e: s * scale, or with a softcap u, u * tanh(s * scale / u).
inline float capped_score(const AttentionSettings& s, float score) {
  if (s.softcap == 0) return score * s.scale;
  return s.softcap * tanh_f32(score * s.scale / s.softcap);
}

// A score in units of log2: x = s * c with c = scale * log2(e), or with a softcap, the capped score
// * log2(e).
inline float scaled_score(const AttentionSettings& s, float score) {
  if (s.softcap == 0) return score * (s.scale * float_of(kLog2E));
  return capped_score(s, score) * float_of(kLog2E);
}

// x of key i: the scaled score, to which a bias b is added as fma(b, log2(e), x), or a shift.
template <class T>
float key_score(const AttentionSettings& s, const AttentionRow<T>& row, int64_t i) {
  const float x = scaled_score(s, ordered_dot(row.q, row.keys[i], s.head_size));
  if (row.shift != 0) return x + row.shift;
  return row.mask.bias == nullptr ? x : fma32(load(row.mask.bias[i]), float_of(kLog2E), x);
}

// The state of the visible keys among [begin, end) of one block.
template <class T>
AttentionState block_state(const AttentionSettings& s, const AttentionRow<T>& row, int64_t begin,
                           int64_t end) {
  AttentionState state;
  std::array<int64_t, kKeyBlock> key;
  std::array<float, kKeyBlock> x;
  int64_t count = 0;
  for (int64_t i = begin; i < end; ++i)
    if (row.mask.sees(i)) key[count++] = i;
  if (count == 0) return state;
  for (int64_t i = 0; i < count; ++i) x[i] = key_score(s, row, key[i]);
  state.empty = false;
  state.m = x[0];
  for (int64_t i = 1; i < count; ++i) state.m = maximum(state.m, x[i]);
  // Weights are not negative, so a lane may start from +0: what has no visible key adds nothing.
  std::array<float, kKeyLanes> lane{};
  state.o.assign(static_cast<size_t>(s.value_size), 0.0f);
  for (int64_t i = 0; i < count; ++i) {
    const float p = exp2_f32(x[i] - state.m);
    lane[key[i] % kKeyLanes] += p;  // blocks are multiples of 8 keys: the index in the block, mod 8
    const T* v = row.values[key[i]];
    for (int64_t j = 0; j < s.value_size; ++j) state.o[j] = fma32(p, load(v[j]), state.o[j]);
  }
  state.l = lane_sum(lane);
  return state;
}

// The state of all the row's visible keys.
template <class T>
AttentionState row_state(const AttentionSettings& s, const AttentionRow<T>& row) {
  return attend({row.begin, row.end}, exp2_f32,
                [&](int64_t begin, int64_t end) { return block_state(s, row, begin, end); });
}

// The row of the output: o / l, +0 where nothing is seen.
template <class T>
void write_row(const AttentionSettings& s, const AttentionState& state, T* out) {
  for (int64_t j = 0; j < s.value_size; ++j)
    out[j] = store<T>(state.empty ? 0.0f : state.o[j] / state.l);
}

// Turns one head's vector of `size` elements: of its first 2 * half, the pairs (i, i + half), or
// (2i, 2i + 1) where interleaved, become (a * cos - b * sin, a * sin + b * cos), each operation
// rounded; the others are copied. The tables' element i belongs to pair i.
template <class T, class Table>
void rotate(const T* in, T* out, int64_t size, int64_t half, bool interleaved, const Table* cosine,
            const Table* sine) {
  std::copy(in, in + size, out);
  for (int64_t j = 0; j < half; ++j) {
    const int64_t first = interleaved ? 2 * j : j, second = interleaved ? 2 * j + 1 : j + half;
    const float a = load(in[first]), b = load(in[second]), c = load(cosine[j]), s = load(sine[j]);
    out[first] = store<T>(a * c - b * s);
    out[second] = store<T>(a * s + b * c);
  }
}

}  // namespace verbatim
