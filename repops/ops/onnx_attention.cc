// ONNX's forms of attention and rotary embedding: other layouts, masks and caches over the one
// arithmetic of attention_row.h.
#include <tuple>
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/attention_row.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

// [B, heads, T, size], or [B, T, heads * size], in which each token's heads lie together.
struct HeadLayout {
  int64_t batch = 0, heads = 0, rows = 0, size = 0;
  bool by_token = false;

  int64_t stride() const { return by_token ? heads * size : size; }
  int64_t offset(int64_t b, int64_t head, int64_t row = 0) const {
    return b * heads * rows * size + head * (by_token ? size : rows * size) + row * stride();
  }
};

Result<HeadLayout> head_layout(const Tensor& t, int64_t heads) {
  const auto fail = [&] {
    return bad_input("operand " + t.describe() + " with " + std::to_string(heads) + " heads");
  };
  if (t.rank() == 4) {
    if (t.dim(1) < 1) return fail();
    return HeadLayout{t.dim(0), t.dim(1), t.dim(2), t.dim(3), false};
  }
  if (t.rank() != 3 || heads < 1 || t.dim(2) % heads != 0) return fail();
  return HeadLayout{t.dim(0), heads, t.dim(1), t.dim(2) / heads, true};
}

// --- Attention
// --------------------------------------------------------------------------------------------------------------

// What the output qk_matmul_output holds.
enum class Scores : int64_t { scaled, capped, biased, weights };

struct Form {
  AttentionSettings settings;
  HeadLayout q, k, v, past_k, past_v;
  int64_t keys = 0;  // of the cache and the operand together
  int64_t left = -1, right = -1;
  Scores scores = Scores::scaled;
};

Status read_attributes(const Node& node, Form& f) {
  const Attributes& a = node.attributes;
  VB_ASSIGN(f.settings.softcap, a.get<float>("softcap", 0.0f));
  if (!(f.settings.softcap > 0)) f.settings.softcap = 0;
  const float root = sqrt_of(static_cast<float>(f.q.size));
  VB_ASSIGN(f.settings.scale, a.get<float>("scale", 1.0f / root));
  VB_ASSIGN(const int64_t causal, a.get<int64_t>("is_causal", 0));
  f.settings.causal = causal != 0;
  VB_ASSIGN(f.left, a.get<int64_t>("left_window_size", -1));
  VB_ASSIGN(f.right, a.get<int64_t>("right_window_size", -1));
  for (const int64_t window : {f.left, f.right}) {
    VB_TRY(check_size(window, "window"));
    if (window < -1) return bad_input("window " + std::to_string(window));
  }
  VB_ASSIGN(const int64_t scores, a.get<int64_t>("qk_matmul_output_mode", 0));
  if (scores < 0 || scores > 3) return bad_input("qk_matmul_output_mode " + std::to_string(scores));
  f.scores = static_cast<Scores>(scores);
  VB_ASSIGN(const int64_t precision, a.get<int64_t>("softmax_precision", 1));
  if (precision != 1 && precision != 10 && precision != 16)
    return unsupported("softmax_precision " + std::to_string(precision));
  return {};
}

// mask [..., up to `keys`], broadcasting to [B, heads, queries, its last dimension].
Status check_mask(const Form& f, const Tensor& q, const Tensor& mask) {
  bool fits = mask.rank() >= 1 && mask.rank() <= 4 &&
              (mask.dtype() == q.dtype() || mask.dtype() == DType::boolean) &&
              mask.dim(mask.rank() - 1) <= f.keys;
  const int64_t wanted[] = {f.q.batch, f.q.heads, f.q.rows};
  for (int i = 0; fits && i + 1 < mask.rank(); ++i) {
    const int64_t want = wanted[i + 4 - mask.rank()];
    fits = mask.dim(i) == want || mask.dim(i) == 1;
  }
  if (!fits) return bad_input("attn_mask " + mask.describe() + " for q " + q.describe());
  return {};
}

Status check_lengths(const Form& f, const Tensor& lengths) {
  if (lengths.dtype() != DType::i64 || !(lengths.shape() == Shape{f.q.batch}))
    return bad_input("nonpad_kv_seqlen " + lengths.describe());
  for (const int64_t n : lengths.data<int64_t>())
    if (n < 0 || n > f.keys)
      return bad_input("nonpad_kv_seqlen " + std::to_string(n) + " of " + std::to_string(f.keys));
  return {};
}

// The caches, if any: as long as each other, of the operands' heads and sizes.
Status read_past(std::span<const Tensor> inputs, Form& f) {
  const Tensor past_k = input_or_none(inputs, 4), past_v = input_or_none(inputs, 5);
  if (past_k.defined() != past_v.defined()) return bad_input("past_key and past_value go together");
  f.keys = f.k.rows;
  if (!past_k.defined()) return {};
  const auto fail = [&] {
    return bad_input("caches " + past_k.describe() + " and " + past_v.describe() + " for k " +
                     inputs[1].describe() + ", v " + inputs[2].describe());
  };
  if (input_or_none(inputs, 6).defined())
    return bad_input("nonpad_kv_seqlen does not go with past_key and past_value");
  if (past_k.rank() != 4 || past_v.rank() != 4 || past_k.dtype() != inputs[1].dtype() ||
      past_v.dtype() != inputs[1].dtype())
    return fail();
  VB_ASSIGN(f.past_k, head_layout(past_k, 0));
  VB_ASSIGN(f.past_v, head_layout(past_v, 0));
  const auto belongs = [&](const HeadLayout& past, const HeadLayout& x) {
    return past.batch == x.batch && past.heads == x.heads && past.size == x.size &&
           past.rows == f.past_k.rows;
  };
  if (!belongs(f.past_k, f.k) || !belongs(f.past_v, f.v)) return fail();
  f.keys += f.past_k.rows;  // neither is above 2^62
  return {};
}

Result<Form> read_form(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  Form f;
  VB_ASSIGN(const int64_t q_heads, node.attributes.get<int64_t>("q_num_heads", 0));
  VB_ASSIGN(const int64_t kv_heads, node.attributes.get<int64_t>("kv_num_heads", 0));
  VB_ASSIGN(f.q, head_layout(q, q_heads));
  VB_ASSIGN(f.k, head_layout(k, kv_heads));
  VB_ASSIGN(f.v, head_layout(v, kv_heads));
  if (q.rank() != k.rank() || q.rank() != v.rank() || q.dtype() != k.dtype() ||
      q.dtype() != v.dtype() || f.k.batch != f.q.batch || f.v.batch != f.q.batch ||
      f.k.heads != f.v.heads || f.k.rows != f.v.rows || f.k.size != f.q.size ||
      f.q.heads % f.k.heads != 0)
    return bad_input("attention of q " + q.describe() + ", k " + k.describe() + ", v " +
                     v.describe());
  f.settings.heads = f.q.heads;
  f.settings.kv_heads = f.k.heads;
  f.settings.head_size = f.q.size;
  f.settings.value_size = f.v.size;
  VB_TRY(read_past(inputs, f));
  VB_TRY(read_attributes(node, f));
  const Tensor mask = input_or_none(inputs, 3), lengths = input_or_none(inputs, 6);
  if (mask.defined()) VB_TRY(check_mask(f, q, mask));
  if (lengths.defined()) VB_TRY(check_lengths(f, lengths));
  return f;
}

// The keys [begin, end) that query `row` of batch entry b may see before any mask. It stands at
// position offset + row: after the cache, or as the last of `lengths`, or else where the keys
// start.
std::pair<int64_t, int64_t> keys_of(const Form& f, const Tensor& lengths, int64_t b, int64_t row) {
  int64_t end = lengths.defined() ? lengths.data<int64_t>()[b] : f.keys;
  const int64_t position = row + (lengths.defined() ? end - f.q.rows : f.past_k.rows);
  if (f.settings.causal) end = std::min(end, position + 1);
  if (f.right >= 0) end = std::min(end, position + f.right + 1);
  const int64_t begin = f.left >= 0 ? std::max<int64_t>(0, position - f.left) : 0;
  end = std::max<int64_t>(0, end);
  return {std::min(begin, end), end};
}

template <class T>
KeyMask<T> mask_of(const Tensor& mask, int64_t b, int64_t head, int64_t row) {
  KeyMask<T> m;
  if (!mask.defined()) return m;
  m.count = mask.dim(mask.rank() - 1);
  const int64_t at[] = {b, head, row};
  int64_t offset = 0;
  for (int i = 0; i + 1 < mask.rank(); ++i)
    offset = offset * mask.dim(i) + (mask.dim(i) == 1 ? 0 : at[i + 4 - mask.rank()]);
  if (mask.dtype() == DType::boolean)
    m.visible = mask.data<bool>().data() + offset * m.count;
  else
    m.bias = mask.data<T>().data() + offset * m.count;
  return m;
}

template <class T>
HeadRows<T> rows_of(const Tensor& x, const HeadLayout& layout, const Tensor& past,
                    const HeadLayout& past_layout, int64_t b, int64_t head) {
  HeadRows<T> r;
  r.rows = x.data<T>().data() + layout.offset(b, head);
  r.stride = layout.stride();
  if (!past.defined()) return r;
  r.past = past.data<T>().data() + past_layout.offset(b, head);
  r.past_count = past_layout.rows;
  r.past_stride = past_layout.stride();
  return r;
}

// One row of qk_matmul_output. A masked key's biased score is -infinity and its weight +0; the
// other two are of q and k alone.
template <class T>
void write_scores(const Form& f, const AttentionRow<T>& row, const AttentionState& state, T* out) {
  for (int64_t i = 0; i < f.keys; ++i) {
    const bool seen = i >= row.begin && i < row.end && row.mask.sees(i);
    float value = 0;
    if (f.scores == Scores::weights) {
      if (seen) value = exp2_f32(key_score(f.settings, row, i) - state.m) / state.l;
    } else {
      const float s = ordered_dot(row.q, row.keys[i], f.settings.head_size);
      value = f.scores == Scores::scaled ? s * f.settings.scale : capped_score(f.settings, s);
      if (f.scores == Scores::biased && row.mask.bias != nullptr && seen)
        value = value + load(row.mask.bias[i]);
      if (f.scores == Scores::biased && !seen) value = -std::numeric_limits<float>::infinity();
    }
    out[i] = store<T>(value);
  }
}

template <class T>
void run(const Form& f, std::span<const Tensor> inputs, Tensor& y, Tensor& scores) {
  const Tensor mask = input_or_none(inputs, 3), past_k = input_or_none(inputs, 4),
               past_v = input_or_none(inputs, 5), lengths = input_or_none(inputs, 6);
  HeadLayout out = f.q;
  out.size = f.v.size;
  T* ys = y.mutable_data<T>().data();
  T* all_scores = scores.defined() ? scores.mutable_data<T>().data() : nullptr;
  const int64_t rows = f.q.batch * f.q.heads * f.q.rows,
                scratch = 3 * f.v.size * static_cast<int64_t>(sizeof(float));
  parallel_for(rows, scratch_grain(rows, 4, scratch), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t row = i % f.q.rows, head = i / f.q.rows % f.q.heads,
                    b = i / f.q.rows / f.q.heads, kv = head / (f.q.heads / f.k.heads);
      AttentionRow<T> r;
      r.q = inputs[0].data<T>().data() + f.q.offset(b, head, row);
      r.keys = rows_of<T>(inputs[1], f.k, past_k, f.past_k, b, kv);
      r.values = rows_of<T>(inputs[2], f.v, past_v, f.past_v, b, kv);
      r.mask = mask_of<T>(mask, b, head, row);
      std::tie(r.begin, r.end) = keys_of(f, lengths, b, row);
      const AttentionState state = row_state(f.settings, r);
      write_row(f.settings, state, ys + out.offset(b, head, row));
      if (all_scores != nullptr) write_scores(f, r, state, all_scores + i * f.keys);
    }
  });
}

// The cache's rows and then the operand's, as [B, heads, rows, size].
Result<Tensor> present_of(const Tensor& x, const HeadLayout& layout, const Tensor& past,
                          const HeadLayout& past_layout) {
  const int64_t rows = past_layout.rows + layout.rows;
  VB_ASSIGN(const Shape shape,
            Shape::of(std::array{layout.batch, layout.heads, rows, layout.size}));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  const auto width = static_cast<int64_t>(size_of(x.dtype())), bytes = layout.size * width;
  std::byte* out = y.mutable_bytes().data();
  for (int64_t i = 0; i < layout.batch * layout.heads * rows; ++i, out += bytes) {
    const int64_t row = i % rows, head = i / rows % layout.heads, b = i / rows / layout.heads;
    const bool cached = row < past_layout.rows;
    const Tensor& from = cached ? past : x;
    const int64_t at =
        cached ? past_layout.offset(b, head, row) : layout.offset(b, head, row - past_layout.rows);
    copy_bytes(out, from.bytes().data() + at * width, bytes);
  }
  return y;
}

// Attention(q, k, v, attn_mask?, past_key?, past_value?, nonpad_kv_seqlen?) -> y, present_key,
// present_value, qk_matmul_output. The scale is 1 / sqrt(head size) unless given, two roundings;
// the softmax is in binary32 whatever softmax_precision of at most 32 bits says.
Result<Tensors> attention(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const Form f, read_form(node, inputs));
  const Tensor& q = inputs[0];
  if (q.dtype() == DType::f64) return unsupported("Attention of float64");
  std::vector<int64_t> dims = {f.q.batch, f.q.heads, f.q.rows, f.v.size};
  if (f.q.by_token) dims = {f.q.batch, f.q.rows, f.q.heads * f.v.size};
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  Tensors outputs(1);
  VB_ASSIGN(outputs[0], Tensor::allocate(q.dtype(), shape));
  if (node.outputs.size() > 1) {
    outputs.resize(std::min<size_t>(node.outputs.size(), 4));
    VB_ASSIGN(outputs[1], present_of(inputs[1], f.k, input_or_none(inputs, 4), f.past_k));
  }
  if (outputs.size() > 2) {
    VB_ASSIGN(outputs[2], present_of(inputs[2], f.v, input_or_none(inputs, 5), f.past_v));
  }
  Tensor scores;
  if (outputs.size() > 3) {
    VB_ASSIGN(const Shape all, Shape::of(std::array{f.q.batch, f.q.heads, f.q.rows, f.keys}));
    VB_ASSIGN(scores, Tensor::allocate(q.dtype(), all));
    outputs[3] = scores;
  }
  return visit_float<Tensors>(q, [&](auto type) -> Result<Tensors> {
    if constexpr (!std::is_same_v<decltype(type), double>)
      run<decltype(type)>(f, inputs, outputs[0], scores);
    return outputs;
  });
}

// As the library's own operator; the scores, where they are wanted, are formed twice.
uint64_t attention_cost(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Result<Form> f = read_form(node, inputs);
  if (!f.ok()) return 0;
  const auto rows = static_cast<uint64_t>(f->q.batch * f->q.heads * f->q.rows);
  const uint64_t each = static_cast<uint64_t>(2 * f->q.size + 2 * f->v.size + 4) +
                        (node.outputs.size() > 3 ? static_cast<uint64_t>(2 * f->q.size + 4) : 0);
  return saturating_multiply(saturating_multiply(rows, static_cast<uint64_t>(f->keys) + 1), each);
}

// --- RotaryEmbedding
// --------------------------------------------------------------------------------------------------------------

// RotaryEmbedding(x, cos_cache, sin_cache, position_ids [B, T]?): tables [B, T, R/2], or with
// positions [positions, R/2], of x's type. R is rotary_embedding_dim, or the heads' size.
struct Rotary {
  HeadLayout x;
  int64_t half = 0;
  bool interleaved = false;
};

Result<Rotary> read_rotary(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &cosine = inputs[1], &sine = inputs[2],
               positions = input_or_none(inputs, 3);
  Rotary r;
  VB_ASSIGN(const int64_t heads, node.attributes.get<int64_t>("num_heads", 0));
  VB_ASSIGN(r.x, head_layout(x, heads));
  VB_ASSIGN(int64_t size, node.attributes.get<int64_t>("rotary_embedding_dim", 0));
  if (size == 0) size = r.x.size;
  VB_ASSIGN(const int64_t interleaved, node.attributes.get<int64_t>("interleaved", 0));
  r.interleaved = interleaved != 0;
  if (size < 0 || size > r.x.size || size % 2 != 0)
    return bad_input("rotary_embedding_dim " + std::to_string(size) + " for " + x.describe());
  r.half = size / 2;
  const bool fits = positions.defined() ? cosine.rank() == 2 && cosine.dim(1) == r.half &&
                                              positions.shape() == Shape{r.x.batch, r.x.rows}
                                        : cosine.shape() == Shape{r.x.batch, r.x.rows, r.half};
  if (!fits || !(cosine.shape() == sine.shape()) || cosine.dtype() != x.dtype() ||
      sine.dtype() != x.dtype())
    return bad_input("tables " + cosine.describe() + " and " + sine.describe() + " for " +
                     x.describe());
  return r;
}

// Which row of the tables belongs to each token.
Result<std::vector<int64_t>> table_rows(const Rotary& r, const Tensor& positions, int64_t limit) {
  std::vector<int64_t> rows(static_cast<size_t>(r.x.batch * r.x.rows));
  if (!positions.defined()) {
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
    return rows;
  }
  VB_ASSIGN(rows, read_integers(positions, "position_ids"));
  for (const int64_t p : rows)
    if (p < 0 || p >= limit)
      return bad_input("position " + std::to_string(p) + " of " + std::to_string(limit));
  return rows;
}

Result<Tensors> rotary_embedding(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &cosine = inputs[1], &sine = inputs[2];
  VB_ASSIGN(const Rotary r, read_rotary(node, inputs));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  VB_ASSIGN(const std::vector<int64_t> table,
            table_rows(r, input_or_none(inputs, 3), cosine.dim(0)));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    if constexpr (std::is_same_v<T, double>) {
      return unsupported("RotaryEmbedding of float64");
    } else {
      for (int64_t i = 0; i < r.x.batch * r.x.rows; ++i)
        for (int64_t head = 0; head < r.x.heads; ++head) {
          const int64_t at = r.x.offset(i / r.x.rows, head, i % r.x.rows);
          rotate(x.data<T>().data() + at, y.mutable_data<T>().data() + at, r.x.size, r.half,
                 r.interleaved, cosine.data<T>().data() + table[i] * r.half,
                 sine.data<T>().data() + table[i] * r.half);
        }
      return Tensors{y};
    }
  });
}

uint64_t rotary_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return saturating_multiply(static_cast<uint64_t>(inputs[0].elements()), 3);
}

constexpr OpDef kOps[] = {
    {"", "Attention", 3, 7, 4, attention, attention_cost},
    {"", "RotaryEmbedding", 3, 4, 1, rotary_embedding, rotary_cost},
};

}  // namespace

std::span<const OpDef> onnx_attention_ops() { return kOps; }

}  // namespace verbatim
