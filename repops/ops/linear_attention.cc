// Layers with a recurrent state instead of a cache: LinearAttention and CausalConvWithState.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

// --- LinearAttention
// --------------------------------------------------------------------------------------------------------

struct LinearForm {
  int64_t batch = 0, steps = 0, heads = 0, kv_heads = 0, key_size = 0, value_size = 0;
  bool decays = false, corrects = false;
  int64_t decay_size = 0, beta_heads = 0;  // 1, or key_size; 1, or kv_heads
  float scale = 0;
};

Status read_rule(const Node& node, std::span<const Tensor> inputs, LinearForm& f) {
  VB_ASSIGN(const std::string rule, node.attributes.get<std::string>("update_rule", "gated_delta"));
  if (rule != "linear" && rule != "gated" && rule != "delta" && rule != "gated_delta")
    return bad_input("update_rule '" + printable(rule) + "'");
  f.decays = rule.starts_with("gated");
  f.corrects = rule.ends_with("delta");
  const Tensor decay = input_or_none(inputs, 4), beta = input_or_none(inputs, 5);
  if (decay.defined() != f.decays || beta.defined() != f.corrects)
    return bad_input("update_rule '" + rule + "' with decay " + decay.describe() + ", beta " +
                     beta.describe());
  const auto fits = [&](const Tensor& t, int64_t a, int64_t b) {
    return t.rank() == 3 && t.dtype() == inputs[0].dtype() && t.dim(0) == f.batch &&
           t.dim(1) == f.steps && (t.dim(2) == a || t.dim(2) == b);
  };
  if (f.decays) {
    if (!fits(decay, f.kv_heads, f.kv_heads * f.key_size))
      return bad_input("decay " + decay.describe());
    f.decay_size = decay.dim(2) / f.kv_heads;
  }
  if (f.corrects) {
    if (!fits(beta, f.kv_heads, 1)) return bad_input("beta " + beta.describe());
    f.beta_heads = beta.dim(2);
  }
  return {};
}

Result<LinearForm> read_linear_form(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2], past = input_or_none(inputs, 3);
  LinearForm f;
  VB_ASSIGN(f.heads, node.attributes.require<int64_t>("q_num_heads"));
  VB_ASSIGN(f.kv_heads, node.attributes.require<int64_t>("kv_num_heads"));
  const auto fail = [&] {
    return bad_input("q " + q.describe() + ", k " + k.describe() + ", v " + v.describe() +
                     ", past_state " + past.describe() + " with " + std::to_string(f.heads) +
                     " and " + std::to_string(f.kv_heads) + " heads");
  };
  if (f.heads < 1 || f.kv_heads < 1 || f.heads % f.kv_heads != 0) return fail();
  for (const Tensor* t : {&q, &k, &v})
    if (t->rank() != 3 || t->dtype() != q.dtype() || t->dim(0) != q.dim(0) || t->dim(1) != q.dim(1))
      return fail();
  if (q.dim(2) % f.heads != 0 || k.dim(2) % f.kv_heads != 0 || v.dim(2) % f.kv_heads != 0 ||
      q.dim(2) / f.heads != k.dim(2) / f.kv_heads)
    return fail();
  f.batch = q.dim(0);
  f.steps = q.dim(1);
  f.key_size = q.dim(2) / f.heads;
  f.value_size = v.dim(2) / f.kv_heads;
  if (past.defined() &&
      !std::ranges::equal(past.shape().dims(),
                          std::array{f.batch, f.kv_heads, f.key_size, f.value_size}))
    return fail();
  VB_ASSIGN(f.scale, node.attributes.get<float>("scale", 0.0f));
  if (f.scale == 0) f.scale = 1.0f / sqrt_of(static_cast<float>(f.key_size));
  VB_TRY(read_rule(node, inputs, f));
  return f;
}

// One key-value head of one batch entry over all steps.
template <class T>
class LinearHead {
 public:
  LinearHead(const LinearForm& f, std::span<const Tensor> inputs, float* state)
      : f_(f), inputs_(inputs), state_(state), value_(static_cast<size_t>(f.value_size)) {}

  void run(int64_t b, int64_t kv, T* out) {
    const int64_t group = f_.heads / f_.kv_heads;
    for (int64_t t = b * f_.steps; t < (b + 1) * f_.steps; ++t) {
      const T* k = at(1, t, f_.kv_heads * f_.key_size, kv * f_.key_size);
      const T* v = at(2, t, f_.kv_heads * f_.value_size, kv * f_.value_size);
      if (f_.decays) decay(at(4, t, f_.kv_heads * f_.decay_size, kv * f_.decay_size));
      for (int64_t m = 0; m < f_.value_size; ++m) value_[m] = load(v[m]);
      if (f_.corrects) correct(k, load(*at(5, t, f_.beta_heads, f_.beta_heads == 1 ? 0 : kv)));
      for (int64_t d = 0; d < f_.key_size; ++d)
        for (int64_t m = 0; m < f_.value_size; ++m)
          state(d, m) = fma32(load(k[d]), value_[m], state(d, m));
      for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
        const T* q = at(0, t, f_.heads * f_.key_size, h * f_.key_size);
        for (int64_t m = 0; m < f_.value_size; ++m)
          out[(t * f_.heads + h) * f_.value_size + m] = store<T>(f_.scale * read(q, m));
      }
    }
  }

 private:
  const T* at(size_t input, int64_t token, int64_t width, int64_t offset) const {
    return inputs_[input].data<T>().data() + token * width + offset;
  }
  float& state(int64_t d, int64_t m) { return state_[d * f_.value_size + m]; }
  // Column m of the state times x, an ordered product over d.
  float read(const T* x, int64_t m) const {
    const float* column = state_ + m;
    return ordered_product<float>(
        f_.key_size, [&] { return load(*x++); },
        [&] {
          const float s = *column;
          column += f_.value_size;
          return s;
        });
  }
  void decay(const T* g) {
    for (int64_t d = 0; d < f_.key_size; ++d) {
      const float factor = exp_f32(load(g[f_.decay_size == 1 ? 0 : d]));
      for (int64_t m = 0; m < f_.value_size; ++m) state(d, m) = state(d, m) * factor;
    }
  }
  void correct(const T* k, float beta) {
    for (int64_t m = 0; m < f_.value_size; ++m) value_[m] = beta * (value_[m] - read(k, m));
  }

  const LinearForm& f_;
  std::span<const Tensor> inputs_;
  float* state_;  // [key_size, value_size]
  std::vector<float> value_;
};

// x in another floating type.
Result<Tensor> converted(const Tensor& x, DType dtype) {
  VB_ASSIGN(Tensor y, Tensor::allocate(dtype, x.shape()));
  VB_TRY(visit_float<bool>(x, [&](auto from) {
           return visit_float<bool>(y, [&](auto to) -> Result<bool> {
             using To = decltype(to);
             const auto* in = x.data<decltype(from)>().data();
             for (int64_t i = 0; i < x.elements(); ++i)
               y.mutable_data<To>()[i] = store<To>(static_cast<Compute<To>>(load(in[i])));
             return true;
           });
         }).status());
  return y;
}

// LinearAttention(query, key, value, past_state?, decay?, beta?) -> output, present_state. For each
// token, of a head with state S [key_size, value_size]: with a decay g, S = S * exp(g); with beta,
// v = beta * (v - S^T k); S[d, m] = fma(k[d], v[m], S[d, m]); output = scale * S^T q. Products are
// ordered, all operations in binary32 and rounded. The state is binary32 in between and rounded to
// its tensor's type at the end: pieces of a sequence give the bits of the whole where states are
// float32.
Result<Tensors> linear_attention(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &q = inputs[0], past = input_or_none(inputs, 3);
  VB_ASSIGN(const LinearForm f, read_linear_form(node, inputs));
  if (q.dtype() == DType::f64) return unsupported("LinearAttention of float64");
  VB_ASSIGN(const Shape shape, Shape::of(std::array{f.batch, f.steps, f.heads * f.value_size}));
  VB_ASSIGN(const Shape state_shape,
            Shape::of(std::array{f.batch, f.kv_heads, f.key_size, f.value_size}));
  VB_ASSIGN(Tensor y, Tensor::allocate(q.dtype(), shape));
  Tensor state;
  if (past.defined()) {
    VB_ASSIGN(state, converted(past, DType::f32));
  } else {
    VB_ASSIGN(state, Tensor::zeros(DType::f32, state_shape));
  }
  const DType state_type = past.defined() ? past.dtype() : q.dtype();
  return visit_float<Tensors>(q, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    if constexpr (!std::is_same_v<T, double>) {
      float* states = state.mutable_data<float>().data();
      T* out = y.mutable_data<T>().data();
      const int64_t heads = f.batch * f.kv_heads,
                    scratch = f.value_size * static_cast<int64_t>(sizeof(float));
      parallel_for(heads, scratch_grain(heads, 1, scratch), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          LinearHead<T>(f, inputs, states + i * f.key_size * f.value_size)
              .run(i / f.kv_heads, i % f.kv_heads, out);
      });
    }
    Tensors outputs = {y};
    if (node.outputs.size() > 1) {
      VB_ASSIGN(Tensor present, converted(state, state_type));
      outputs.push_back(present);
    }
    return outputs;
  });
}

uint64_t linear_attention_cost(const Node& node, std::span<const Tensor> inputs,
                               std::span<const Tensor>) {
  const Result<LinearForm> f = read_linear_form(node, inputs);
  if (!f.ok()) return 0;
  const auto heads = static_cast<uint64_t>(f->kv_heads * 5 + f->heads * 2 + 4);
  const uint64_t state = saturating_multiply(static_cast<uint64_t>(f->key_size) + 1,
                                             static_cast<uint64_t>(f->value_size) + 1);
  return saturating_multiply(
      saturating_multiply(static_cast<uint64_t>(f->batch), static_cast<uint64_t>(f->steps) + 1),
      saturating_multiply(heads, state));
}

// --- CausalConvWithState
// ----------------------------------------------------------------------------------------------------

struct CausalForm {
  int64_t taps = 0;
  bool swish = false;
};

Result<CausalForm> read_causal_form(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[1], bias = input_or_none(inputs, 2),
               past = input_or_none(inputs, 3);
  VB_ASSIGN(const std::string activation, node.attributes.get<std::string>("activation", "none"));
  if (activation != "none" && activation != "silu" && activation != "swish")
    return bad_input("activation '" + printable(activation) + "'");
  CausalForm f;
  f.swish = activation != "none";
  f.taps = w.rank() == 3 ? w.dim(2) : 0;
  bool fits = x.rank() == 3 && f.taps > 0 && w.dim(0) == x.dim(1) && w.dim(1) == 1;
  for (const Tensor& t : inputs) fits = fits && (!t.defined() || t.dtype() == x.dtype());
  if (fits && bias.defined()) fits = bias.rank() == 1 && bias.dim(0) == x.dim(1);
  if (fits && past.defined())
    fits = std::ranges::equal(past.shape().dims(), std::array{x.dim(0), x.dim(1), f.taps - 1});
  if (!fits)
    return bad_input("x " + x.describe() + ", weight " + w.describe() + ", bias " +
                     bias.describe() + ", past_state " + past.describe());
  return f;
}

// CausalConvWithState(x [B, C, L], weight [C, 1, K], bias?, past_state [B, C, K - 1]?) -> y,
// present_state: of each channel the ordered product of K elements up to a position and the
// weights, as in Conv (before the first element, where there is no state, taps take no part), +
// bias, and with an activation * sigmoid of the sum. The state is the last K - 1 elements, +0 where
// there are none.
Result<Tensors> causal_conv(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[1], bias = input_or_none(inputs, 2),
               past = input_or_none(inputs, 3);
  VB_ASSIGN(const CausalForm f, read_causal_form(node, inputs));
  const int64_t length = x.dim(2), kept = f.taps - 1;
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  VB_ASSIGN(const Shape state_shape, Shape::of(std::array{x.dim(0), x.dim(1), kept}));
  VB_ASSIGN(Tensor present, Tensor::allocate(x.dtype(), state_shape));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    parallel_for(x.dim(0) * x.dim(1), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t channel = i % x.dim(1);
        const T *in = x.data<T>().data() + i * length,
                *weights = w.data<T>().data() + channel * f.taps,
                *before = past.defined() ? past.data<T>().data() + i * kept : nullptr;
        const auto element = [&](int64_t at) {  // counted from the state's first
          return at >= kept ? in[at - kept] : before != nullptr ? before[at] : T{};
        };
        const int64_t first = before != nullptr ? 0 : kept;  // the first that is there
        for (int64_t t = 0; t < length; ++t) {
          int64_t a = t, b = t;
          C v = ordered_product<C>(
              f.taps, [&] { return load(element(a++)); },
              [&] {
                const int64_t at = b++;
                return at < first ? C{0} : load(weights[at - t]);
              });
          if (bias.defined()) v = v + load(bias.data<T>()[channel]);
          if (f.swish) v = v * evaluate(Unary::sigmoid, v);
          y.mutable_data<T>()[i * length + t] = store<T>(v);
        }
        for (int64_t j = 0; j < kept; ++j)
          present.mutable_data<T>()[i * kept + j] = element(length + j);
      }
    });
    Tensors outputs = {y, present};
    outputs.resize(std::min<size_t>(2, node.outputs.size()));
    return outputs;
  });
}

uint64_t causal_conv_cost(const Node& node, std::span<const Tensor> inputs,
                          std::span<const Tensor>) {
  const Result<CausalForm> f = read_causal_form(node, inputs);
  if (!f.ok()) return 0;
  return saturating_multiply(
      static_cast<uint64_t>(inputs[0].elements()) + static_cast<uint64_t>(inputs[0].dim(0)),
      2 * static_cast<uint64_t>(f->taps) + 4);
}

constexpr OpDef kOps[] = {
    {"", "LinearAttention", 3, 6, 2, linear_attention, linear_attention_cost},
    {"", "CausalConvWithState", 2, 4, 2, causal_conv, causal_conv_cost},
};

}  // namespace

std::span<const OpDef> linear_attention_ops() { return kOps; }

}  // namespace verbatim
