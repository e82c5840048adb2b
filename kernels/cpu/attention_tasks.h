// How attention of every family is cut: a task is some queries of one batch entry, with heads that
// share one head of keys, all of them or one, or with all heads of several heads of keys.
#pragma once

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/repops/ops/attention.h>

namespace verbatim {

// Rows of a task: keys and values are packed for each. Fewer, where threads would have no task.
inline constexpr int64_t kTaskRows = 256, kLeastTaskRows = 64;

struct AttentionTask {
  int64_t batch, head, kv;  // the first head, and that of keys
  int64_t kv_heads;         // with `group` heads each
  int64_t from, to;         // queries
  const KeyRange* visible;  // of each
};

// Sets what the view of all batch entries and heads has in every family. q, k and v are [tokens,
// heads or kv_heads, size].
template <class T>
void set_view(AttentionOf<T>& p, const AttentionSettings& s, const T* q, const T* k, const T* v,
              float* out) {
  p.q = q;
  p.k = k;
  p.v = v;
  p.out = out;
  p.q_stride = s.heads * s.head_size;
  p.k_stride = s.kv_heads * s.head_size;
  p.v_stride = s.kv_heads * s.value_size;
  p.out_stride = s.heads * s.value_size;
  p.group = s.heads / s.kv_heads;
  p.head_size = s.head_size;
  p.value_size = s.value_size;
  p.scale = s.scale;
  p.softcap = s.softcap;
}

// Calls attend(p, task) for each task of queries of one block of `query_block` and all.group heads,
// or up to `most_at_once` times as many where no thread has more to do for it, `p` being `all` for
// the task's batch entry and heads.
template <class View, class Attend>
void for_attention_tasks(const AttentionSettings& s, const View& all, int64_t query_block,
                         int64_t most_at_once, Attend&& attend) {
  const int64_t queries = s.output[1],
                block = std::clamp<int64_t>(query_block, 1, std::max<int64_t>(1, queries)),
                blocks = (queries + block - 1) / block, units = s.heads / all.group;
  const auto groups_of = [&](int64_t size) { return (units + size - 1) / size; };
  const auto most_of_a_thread = [&](int64_t size) {  // in units
    return (s.output[0] * blocks * groups_of(size) + thread_count() - 1) / thread_count() * size;
  };
  int64_t at_once = most_at_once;
  while (at_once > 1 && most_of_a_thread(at_once) > most_of_a_thread(1)) at_once /= 2;
  const int64_t groups = groups_of(at_once);
  const auto parts_of = [&](int64_t rows) {
    const int64_t most = std::max<int64_t>(1, rows / all.group);
    return (block + most - 1) / most;
  };
  int64_t rows = kTaskRows;
  while (thread_count() > 1 && rows > kLeastTaskRows &&
         s.output[0] * groups * blocks * parts_of(rows) < 2 * thread_count())
    rows /= 2;
  const int64_t parts = parts_of(rows);
  parallel_for(s.output[0] * groups * blocks * parts, 1, [&](int64_t begin, int64_t end) {
    thread_local std::vector<KeyRange> visible;  // kept, as scratch is
    for (int64_t i = begin; i < end; ++i) {
      const int64_t part = i % parts, first = i / parts % blocks * block,
                    size = std::min(block, queries - first),
                    unit = i / (parts * blocks) % groups * at_once, head = unit * all.group,
                    kv = head / (s.heads / s.kv_heads), b = i / (parts * blocks * groups);
      const int64_t from = first + size * part / parts, to = first + size * (part + 1) / parts;
      visible.clear();
      for (int64_t t = from; t < to; ++t) {
        const auto [seen, seen_end] = visible_keys(s, t, queries, s.length(b));
        visible.push_back({seen, seen_end});
      }
      View p = all;
      p.q += b * queries * p.q_stride + head * p.head_size;
      p.k += kv * p.head_size;
      p.v += kv * p.value_size;
      p.rows = s.key_rows(b);
      p.out += b * queries * p.out_stride + head * p.value_size;
      attend(p,
             AttentionTask{b, head, kv, std::min(at_once, units - unit), from, to, visible.data()});
    }
  });
}
template <class View, class Attend>
void for_attention_tasks(const AttentionSettings& s, const View& all, Attend&& attend) {
  for_attention_tasks(s, all, s.output[1], 1, attend);
}

}  // namespace verbatim
