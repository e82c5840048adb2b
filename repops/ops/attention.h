// Ordered attention (docs/numerics.md, Attention, family A): the state of a range of keys and how
// two states join.
//
// Keys are in blocks of 128 by absolute position. A block's state is (m, l, o): the greatest score,
// the sum of the weights exp2(x - m), and the weighted sum of values. States merge in ascending
// order and restart every 2048 keys, so prefill, chunked prefill, paged decode and split-KV give
// the same bits.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include <verbatim/repops/ops/key_rows.h>
#include <verbatim/repops/ops/number.h>

namespace verbatim {

struct AttentionState {
  bool empty = true;
  float m = 0, l = 0;
  std::vector<float> o;  // one entry for each value column
};

// merge(a, b) for a range of keys before those of b; `exp2` is the family's own.
AttentionState merge(AttentionState a, const AttentionState& b, float (*exp2)(float));

// The state of all keys [keys.first, keys.second): block_state(begin, end) of each block's, merged
// as the contract says.
template <class BlockState>
AttentionState attend(std::pair<int64_t, int64_t> keys, float (*exp2)(float),
                      BlockState&& block_state) {
  AttentionState total;
  for (int64_t part = keys.first / kKeyRestart * kKeyRestart; part < keys.second;
       part += kKeyRestart) {
    AttentionState running;
    const int64_t part_end = std::min(part + kKeyRestart, keys.second);
    for (int64_t block = part; block < part_end; block += kKeyBlock)
      running = merge(
          std::move(running),
          block_state(std::max(block, keys.first), std::min(block + kKeyBlock, part_end)), exp2);
    total = merge(std::move(total), running, exp2);
  }
  return total;
}

// The sum of 8 lanes in its order: (0+1), (2+3), (4+5), (6+7), then ((01)+(23)) + ((45)+(67)).
inline float lane_sum(const std::array<float, kKeyLanes>& lane) {
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

struct AttentionSettings {
  int64_t heads = 0, kv_heads = 0;
  int64_t head_size = 0, value_size = 0;  // at least 1
  Shape output;                           // [B, Tq, heads * value_size]
  float scale = 0;                        // of q.k, before the softmax
  float softcap = 0;  // 0: none; else s becomes softcap * tanh(s * scale / softcap)
  bool causal = false;
  int64_t window = 0;  // 0: none; else a query at position i sees keys above i - window

  int64_t keys = 0;                  // of each sequence, most
  const int64_t* lengths = nullptr;  // [B], of the inputs: how many are real; null: all
  const int64_t* table = nullptr;    // [B, pages], of the inputs: where they are
  int64_t pages = 0, page_size = 0;  // page_size 0: no pages

  bool paged() const { return page_size > 0; }

  int64_t length(int64_t b) const { return lengths != nullptr ? lengths[b] : keys; }
  KeyRows key_rows(int64_t b) const {
    return paged() ? KeyRows{0, table + b * pages, page_size} : KeyRows{b * keys};
  }
};

// The visible keys [begin, end) of query `row` of `query_count`, among keys of which the first
// `length` are real. Queries are the last positions: row r stands at position length - query_count
// + r. Neither end decreases from row to row.
struct KeySpan {
  int64_t begin, end;
};
VB_HOST_DEVICE inline KeySpan visible_range(bool causal, int64_t window, int64_t row,
                                            int64_t query_count, int64_t length) {
  const int64_t position = length - query_count + row;
  const auto clamped = [](int64_t x, int64_t most) { return x < 0 ? 0 : x > most ? most : x; };
  const int64_t end = causal ? clamped(position + 1, length) : length;
  // Nothing is hidden where the window reaches past the first key; the difference cannot overflow.
  const bool hides = window > 0 && window <= position;
  return {hides ? clamped(position - window + 1, end) : 0, end};
}
std::pair<int64_t, int64_t> visible_keys(const AttentionSettings& s, int64_t row,
                                         int64_t query_count, int64_t length);

// Attention's inputs, checked: q [B, Tq, heads * head_size], k [B, Tk, kv_heads * head_size], v [B,
// Tk, kv_heads * value_size], lengths int64 [B] or undefined, table int64 [B, pages] or undefined.
// With a table, k and v are pools, [pages of all, page size, ...]: key i of sequence b is row i mod
// page size of page table[b, i / page size], and Tk is pages * page size. Pages that a sequence's
// length does not reach are not looked at; those that it does must be there.
struct Node;
Result<AttentionSettings> attention_settings(const Node& node, std::span<const Tensor> inputs);
// The same where keys and values are codes: of any types.
Result<AttentionSettings> attention_shapes(const Node& node, std::span<const Tensor> inputs);

// What attention of any family costs.
uint64_t attention_cost(const Node& node, std::span<const Tensor> inputs,
                        std::span<const Tensor> outputs);

}  // namespace verbatim
