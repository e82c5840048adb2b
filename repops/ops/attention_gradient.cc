// The gradient of ordered attention (docs/numerics.md, Training): weights are computed again from
// the rows' states, as in Dao, "FlashAttention-2" (arXiv 2307.08691, section 3.1), in an order that
// does not depend on how the work is cut.
#include <algorithm>
#include <tuple>
#include <vector>

#include <verbatim/repops/ops/attention_row.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

inline constexpr int64_t kQueryBlock = 128;  // queries of one block of a key's sums

// What the backward pass keeps of each row (one query of one head), besides its operands.
struct RowSums {
  Tensor m, l, d;  // greatest score, sum of weights, g . output; float32 [batch * queries * heads]
};

template <class T>
struct Problem {
  const AttentionSettings& s;
  int64_t batch, queries;
  const T *g, *q, *k, *v;

  int64_t rows() const { return batch * queries * s.heads; }
  const T* key(int64_t b, int64_t i, int64_t kv) const {
    return k + ((b * s.keys + i) * s.kv_heads + kv) * s.head_size;
  }
  const T* value(int64_t b, int64_t i, int64_t kv) const {
    return v + ((b * s.keys + i) * s.kv_heads + kv) * s.value_size;
  }
};

// What one key contributes to one row's gradients.
struct Weight {
  float p = 0;        // the softmax's weight: exp2(x - m) / l
  float d_score = 0;  // the gradient of q . k
};

// s = q . k; p = exp2(x - m) / l; e = p * (g . v - d); the score's gradient is e * scale, and with
// a softcap u, t = tanh(s * scale / u): (e * scale) * (1 - t * t).
template <class T>
Weight weight_of(const Problem<T>& a, const RowSums& sums, int64_t row, const T* key,
                 const T* value) {
  const AttentionSettings& s = a.s;
  const float score = ordered_dot(a.q + row * s.head_size, key, s.head_size);
  const float m = sums.m.data<float>()[row], l = sums.l.data<float>()[row],
              d = sums.d.data<float>()[row];
  Weight w;
  w.p = exp2_f32(scaled_score(s, score) - m) / l;
  const float e = w.p * (ordered_dot(a.g + row * s.value_size, value, s.value_size) - d);
  w.d_score = e * s.scale;
  if (s.softcap != 0) {
    const float t = tanh_f32(score * s.scale / s.softcap);
    w.d_score = w.d_score * (1.0f - t * t);
  }
  return w;
}

// total (+)= block, starting from the first block.
void add_block(std::vector<float>& total, const std::vector<float>& block, bool first) {
  for (size_t j = 0; j < total.size(); ++j) total[j] = first ? block[j] : total[j] + block[j];
}

// Each row's sums and the gradient of its query: in each block of 128 keys, by absolute position,
// an fma chain of the score's gradient times the key from +0, keys ascending; blocks are added
// ascending. A row that sees nothing has +0.
template <class T>
void query_gradient(const Problem<T>& a, RowSums& sums, T* dq) {
  const AttentionSettings& s = a.s;
  float *m = sums.m.mutable_data<float>().data(), *l = sums.l.mutable_data<float>().data(),
        *d = sums.d.mutable_data<float>().data();
  const int64_t scratch =
      (3 * s.value_size + 2 * s.head_size) * static_cast<int64_t>(sizeof(float));
  parallel_for(a.rows(), scratch_grain(a.rows(), 4, scratch), [&](int64_t from, int64_t to) {
    std::vector<float> total(static_cast<size_t>(s.head_size)), block(total.size());
    for (int64_t row = from; row < to; ++row) {
      const int64_t b = row / (a.queries * s.heads), head = row % s.heads,
                    kv = head / (s.heads / s.kv_heads);
      AttentionRow<T> r;
      r.q = a.q + row * s.head_size;
      r.keys = {a.key(b, 0, kv), s.kv_heads * s.head_size};
      r.values = {a.value(b, 0, kv), s.kv_heads * s.value_size};
      std::tie(r.begin, r.end) = visible_keys(s, row / s.heads % a.queries, a.queries, s.length(b));
      AttentionState state = row_state(s, r);
      m[row] = state.m;
      l[row] = state.l;
      for (float& o : state.o) o = o / state.l;
      const T* g = a.g + row * s.value_size;
      size_t j = 0;
      d[row] = state.empty
                   ? 0.0f
                   : ordered_product<float>(
                         s.value_size, [&] { return load(*g++); }, [&] { return state.o[j++]; });
      std::ranges::fill(total, 0.0f);
      bool first = true;
      for (int64_t i = r.begin; i < r.end; first = false) {
        const int64_t end = std::min(r.end, (i / kKeyBlock + 1) * kKeyBlock);
        std::ranges::fill(block, 0.0f);
        for (; i < end; ++i) {
          const T* key = r.keys[i];
          const Weight w = weight_of(a, sums, row, key, r.values[i]);
          for (size_t c = 0; c < block.size(); ++c)
            block[c] = fma32(w.d_score, load(key[c]), block[c]);
        }
        add_block(total, block, first);
      }
      for (size_t c = 0; c < total.size(); ++c) dq[row * s.head_size + c] = store<T>(total[c]);
    }
  });
}

// The gradients of each key and value: the heads that read it ascending, in each of them blocks of
// 128 queries by row, in a block an fma chain from +0 over the rows that see the key, ascending.
// Blocks with such a row are added in that order, starting from the first. Without one, +0.
template <class T>
void key_value_gradient(const Problem<T>& a, const RowSums& sums, T* dk, T* dv) {
  const AttentionSettings& s = a.s;
  const int64_t count = a.batch * s.keys * s.kv_heads, group = s.heads / s.kv_heads,
                scratch = 2 * (s.head_size + s.value_size) * static_cast<int64_t>(sizeof(float));
  parallel_for(count, scratch_grain(count, 4, scratch), [&](int64_t from, int64_t to) {
    std::vector<float> k_total(static_cast<size_t>(s.head_size)), k_block(k_total.size()),
        v_total(static_cast<size_t>(s.value_size)), v_block(v_total.size());
    for (int64_t at = from; at < to; ++at) {
      const int64_t kv = at % s.kv_heads, i = at / s.kv_heads % s.keys,
                    b = at / (s.kv_heads * s.keys);
      std::ranges::fill(k_total, 0.0f);
      std::ranges::fill(v_total, 0.0f);
      bool first = true;
      for (int64_t head = kv * group; head < (kv + 1) * group; ++head)
        for (int64_t start = 0; start < a.queries; start += kQueryBlock) {
          std::ranges::fill(k_block, 0.0f);
          std::ranges::fill(v_block, 0.0f);
          bool seen = false;
          for (int64_t t = start; t < std::min(start + kQueryBlock, a.queries); ++t) {
            const auto [begin, end] = visible_keys(s, t, a.queries, s.length(b));
            if (i < begin || i >= end) continue;
            seen = true;
            const int64_t row = (b * a.queries + t) * s.heads + head;
            const Weight w = weight_of(a, sums, row, a.key(b, i, kv), a.value(b, i, kv));
            const T *q = a.q + row * s.head_size, *g = a.g + row * s.value_size;
            for (size_t c = 0; c < k_block.size(); ++c)
              k_block[c] = fma32(w.d_score, load(q[c]), k_block[c]);
            for (size_t c = 0; c < v_block.size(); ++c)
              v_block[c] = fma32(w.p, load(g[c]), v_block[c]);
          }
          if (!seen) continue;
          add_block(k_total, k_block, first);
          add_block(v_total, v_block, first);
          first = false;
        }
      for (size_t c = 0; c < k_total.size(); ++c) dk[at * s.head_size + c] = store<T>(k_total[c]);
      for (size_t c = 0; c < v_total.size(); ++c) dv[at * s.value_size + c] = store<T>(v_total[c]);
    }
  });
}

// AttentionGrad(g, q, k, v, lengths?; the attributes of Attention) -> d q, d k, d v, for the
// gradient g [B, Tq, heads * value_size] of Attention's output.
Result<Tensors> attention_gradient(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], &q = inputs[1], &k = inputs[2], &v = inputs[3];
  VB_ASSIGN(const AttentionSettings s, attention_settings(node, inputs.subspan(1)));
  if (g.dtype() != q.dtype() || !(g.shape() == s.output))
    return bad_input("gradient " + g.describe() + " of attention's output " + s.output.to_string());
  VB_ASSIGN(Tensor dq, Tensor::allocate(q.dtype(), q.shape()));
  VB_ASSIGN(Tensor dk, Tensor::allocate(k.dtype(), k.shape()));
  VB_ASSIGN(Tensor dv, Tensor::allocate(v.dtype(), v.shape()));
  const Shape rows{q.dim(0) * q.dim(1) * s.heads};
  RowSums sums;
  for (Tensor* t : {&sums.m, &sums.l, &sums.d}) {
    VB_ASSIGN(*t, Tensor::allocate(DType::f32, rows, Purpose::scratch));
  }
  return visit_float<Tensors>(q, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    if constexpr (std::is_same_v<T, double>) {
      return unsupported("attention of float64");
    } else {
      const Problem<T> a{s,
                         q.dim(0),
                         q.dim(1),
                         g.data<T>().data(),
                         q.data<T>().data(),
                         k.data<T>().data(),
                         v.data<T>().data()};
      query_gradient(a, sums, dq.mutable_data<T>().data());
      key_value_gradient(a, sums, dk.mutable_data<T>().data(), dv.mutable_data<T>().data());
      return Tensors{dq, dk, dv};
    }
  });
}

// Scores three times and the products of g with values twice, against one of each forward.
uint64_t attention_gradient_cost(const Node& node, std::span<const Tensor> inputs,
                                 std::span<const Tensor> outputs) {
  return saturating_multiply(4, attention_cost(node, inputs.subspan(1), outputs));
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "AttentionGrad", 4, 5, 3, attention_gradient, attention_gradient_cost},
};

}  // namespace

std::span<const OpDef> attention_gradient_ops() { return kOps; }

}  // namespace verbatim
