#include <verbatim/repops/ops/attention.h>

#include <algorithm>
#include <tuple>

#include <verbatim/repops/ops/attention_row.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

template <class T>
void attention_of(const AttentionSettings& s, std::span<const Tensor> inputs, Tensor& out) {
  const int64_t batch = inputs[0].dim(0), tq = inputs[0].dim(1), group = s.heads / s.kv_heads;
  const T *q = inputs[0].data<T>().data(), *k = inputs[1].data<T>().data(),
          *v = inputs[2].data<T>().data();
  T* y = out.mutable_data<T>().data();
  const int64_t rows = batch * tq * s.heads,
                scratch = 3 * s.value_size * static_cast<int64_t>(sizeof(float));
  parallel_for(rows, scratch_grain(rows, 4, scratch), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t b = i / (tq * s.heads), row = i / s.heads % tq, head = i % s.heads,
                    kv = head / group;
      AttentionRow<T> r;
      r.q = q + i * s.head_size;
      r.keys = {k + kv * s.head_size, s.kv_heads * s.head_size, s.key_rows(b)};
      r.values = {v + kv * s.value_size, s.kv_heads * s.value_size, s.key_rows(b)};
      std::tie(r.begin, r.end) = visible_keys(s, row, tq, s.length(b));
      write_row(s, row_state(s, r), y + i * s.value_size);
    }
  });
}

// Attention(q, k, v, lengths?, table?) with attributes heads, kv_heads, scale, softcap, causal,
// window -> [B, Tq, heads * value_size].
Result<Tensors> attention(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const AttentionSettings s, attention_settings(node, inputs));
  const Tensor& q = inputs[0];
  VB_ASSIGN(Tensor out, Tensor::allocate(q.dtype(), s.output));
  switch (q.dtype()) {
    case DType::f32:
      attention_of<float>(s, inputs, out);
      break;
    case DType::f16:
      attention_of<Half>(s, inputs, out);
      break;
    case DType::bf16:
      attention_of<BFloat16>(s, inputs, out);
      break;
    default:
      return unsupported("attention of " + std::string(name_of(q.dtype())));
  }
  return Tensors{out};
}

// RotaryEmbedding(x [B, T, heads * D], cos [T, R/2], sin [T, R/2]) with R <= D: pairs (i, i + R/2),
// or (2i, 2i + 1) where interleaved, of each head turn: (a * cos - b * sin, a * sin + b * cos),
// each operation rounded; elements from R on are copied.
Result<Tensors> rotary_embedding(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &cosine = inputs[1], &sine = inputs[2];
  VB_ASSIGN(const int64_t heads, node.attributes.require<int64_t>("heads"));
  VB_ASSIGN(const int64_t interleaved, node.attributes.get<int64_t>("interleaved", 0));
  if (x.rank() != 3 || heads < 1 || x.dim(2) % heads != 0)
    return bad_input("RotaryEmbedding of " + x.describe() + " with " + std::to_string(heads) +
                     " heads");
  const int64_t size = x.dim(2) / heads, half = cosine.rank() == 2 ? cosine.dim(1) : 0;
  if (cosine.rank() != 2 || cosine.dim(0) != x.dim(1) || !(cosine.shape() == sine.shape()) ||
      2 * half > size || cosine.dtype() != DType::f32 || sine.dtype() != DType::f32)
    return bad_input("tables " + cosine.describe() + " and " + sine.describe() + " for " +
                     x.describe());
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    if constexpr (std::is_same_v<T, double>)
      return unsupported("RotaryEmbedding of float64");
    else {
      const int64_t vectors = x.shape().elements(0, 2) * heads;
      for (int64_t i = 0; i < vectors; ++i) {
        const int64_t at = i / heads % x.dim(1) * half;
        rotate(x.data<T>().data() + i * size, y.mutable_data<T>().data() + i * size, size, half,
               interleaved != 0, cosine.data<float>().data() + at, sine.data<float>().data() + at);
      }
      return Tensors{y};
    }
  });
}

uint64_t rotary_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return static_cast<uint64_t>(inputs[0].elements()) * 3;
}

// The first of `pages` that a sequence of `length` keys has, and the pool of `count` has not.
const int64_t* wrong_page(const int64_t* pages, int64_t page_size, int64_t length, int64_t count) {
  for (int64_t i = 0; i < length; i += page_size)
    if (const int64_t page = pages[i / page_size]; page < 0 || page >= count)
      return pages + i / page_size;
  return nullptr;
}

// Sets how many keys there are, and in which pages.
Status set_places(const Tensor& q, const Tensor& k, const Tensor& table, AttentionSettings& s) {
  s.keys = k.dim(1);
  if (!table.defined()) return {};
  if (table.dtype() != DType::i64 || table.rank() != 2 || table.dim(0) != q.dim(0) || k.dim(1) < 1)
    return bad_input("table of pages " + table.describe() + " for q " + q.describe() + ", k " +
                     k.describe());
  s.page_size = k.dim(1);
  s.pages = table.dim(1);
  s.table = table.data<int64_t>().data();
  VB_ASSIGN(s.keys, checked_multiply(s.pages, s.page_size));
  return {};
}

Status set_lengths(const Tensor& q, const Tensor& k, const Tensor& lengths, AttentionSettings& s) {
  if (!lengths.defined()) return {};
  if (lengths.dtype() != DType::i64 || !(lengths.shape() == Shape{q.dim(0)}))
    return bad_input("lengths " + lengths.describe() + " for q " + q.describe());
  for (const int64_t n : lengths.data<int64_t>())
    if (n < 0 || n > s.keys)
      return bad_input("length " + std::to_string(n) + " for k " + k.describe());
  s.lengths = lengths.data<int64_t>().data();
  return {};
}

Status check_pages(const Tensor& k, int64_t batch, const AttentionSettings& s) {
  for (int64_t b = 0; b < batch && s.paged(); ++b) {
    const int64_t* page = wrong_page(s.table + b * s.pages, s.page_size, s.length(b), k.dim(0));
    if (page != nullptr)
      return bad_input("page " + std::to_string(page - s.table - b * s.pages) + " of sequence " +
                       std::to_string(b) + " is " + std::to_string(*page) + " of k " +
                       k.describe());
  }
  return {};
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "Attention", 3, 5, 1, attention, attention_cost},
    {kVerbatimDomain, "RotaryEmbedding", 3, 3, 1, rotary_embedding, rotary_cost},
};

}  // namespace

AttentionState merge(AttentionState a, const AttentionState& b, float (*exp2)(float)) {
  if (a.empty) return b;
  if (b.empty) return a;
  const float m = maximum(a.m, b.m);
  const float alpha = exp2(a.m - m), beta = exp2(b.m - m);
  a.m = m;
  a.l = fma32(b.l, beta, a.l * alpha);
  for (size_t j = 0; j < a.o.size(); ++j) a.o[j] = fma32(b.o[j], beta, a.o[j] * alpha);
  return a;
}

std::pair<int64_t, int64_t> visible_keys(const AttentionSettings& s, int64_t row,
                                         int64_t query_count, int64_t length) {
  const KeySpan seen = visible_range(s.causal, s.window, row, query_count, length);
  return {seen.begin, seen.end};
}

Result<AttentionSettings> attention_settings(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  if (q.dtype() != k.dtype() || q.dtype() != v.dtype())
    return bad_input("attention of q " + q.describe() + ", k " + k.describe() + ", v " +
                     v.describe());
  return attention_shapes(node, inputs);
}

Result<AttentionSettings> attention_shapes(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  AttentionSettings s;
  VB_ASSIGN(s.heads, node.attributes.require<int64_t>("heads"));
  VB_ASSIGN(s.kv_heads, node.attributes.get<int64_t>("kv_heads", s.heads));
  VB_ASSIGN(s.scale, node.attributes.require<float>("scale"));
  VB_ASSIGN(s.softcap, node.attributes.get<float>("softcap", 0.0f));
  VB_ASSIGN(const int64_t causal, node.attributes.get<int64_t>("causal", 0));
  VB_ASSIGN(s.window, node.attributes.get<int64_t>("window", 0));
  s.causal = causal != 0;
  const auto fail = [&] {
    return bad_input("attention of q " + q.describe() + ", k " + k.describe() + ", v " +
                     v.describe());
  };
  if (q.rank() != 3 || k.rank() != 3 || v.rank() != 3 || s.heads < 1 || s.kv_heads < 1 ||
      s.heads % s.kv_heads != 0)
    return fail();
  const Tensor lengths = input_or_none(inputs, 3), table = input_or_none(inputs, 4);
  if (k.dim(0) != v.dim(0) || k.dim(1) != v.dim(1)) return fail();
  if (!table.defined() && q.dim(0) != k.dim(0)) return fail();
  if (q.dim(2) % s.heads != 0 || v.dim(2) % s.kv_heads != 0) return fail();
  s.head_size = q.dim(2) / s.heads;
  s.value_size = v.dim(2) / s.kv_heads;
  if (s.head_size < 1 || s.value_size < 1 || k.dim(2) % s.kv_heads != 0 ||
      k.dim(2) / s.kv_heads != s.head_size)
    return fail();
  VB_ASSIGN(const int64_t width, checked_multiply(s.heads, s.value_size));
  const int64_t dims[] = {q.dim(0), q.dim(1), width};
  VB_ASSIGN(s.output, Shape::of(dims));
  VB_TRY(set_places(q, k, table, s));
  VB_TRY(set_lengths(q, k, lengths, s));
  VB_TRY(check_pages(k, q.dim(0), s));
  return s;
}

uint64_t attention_cost(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Result<AttentionSettings> s = attention_shapes(node, inputs);
  if (!s.ok()) return 0;
  const uint64_t rows = saturating_multiply(
      static_cast<uint64_t>(inputs[0].dim(0) * inputs[0].dim(1)), static_cast<uint64_t>(s->heads));
  // A row costs something even where it has no key.
  return saturating_multiply(saturating_multiply(rows, static_cast<uint64_t>(s->keys) + 1),
                             static_cast<uint64_t>(2 * s->head_size + 2 * s->value_size + 4));
}

std::span<const OpDef> attention_ops() { return kOps; }

}  // namespace verbatim
