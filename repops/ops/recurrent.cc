// Recurrent layers: RNN, GRU and LSTM.
//
// A gate's operand is x . W + h . R, with biases + Wb + Rb: the products are ordered as in Linear,
// the sums go from left to right, each rounded. Where `clip` is given, what an activation takes is
// clamped to [-clip, clip] first. After each step the states are rounded to the tensors' type, so a
// sequence in pieces, the states handed on, gives the bits of the whole; within a step everything
// is in the computing type. Steps beyond a sequence's own length have output +0 and leave the
// states as they are; in reverse, a sequence starts at its own last step.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

enum class Kind { rnn, gru, lstm };

constexpr int gates_of(Kind kind) { return kind == Kind::rnn ? 1 : kind == Kind::gru ? 3 : 4; }
constexpr int functions_of(Kind kind) { return kind == Kind::rnn ? 1 : kind == Kind::gru ? 2 : 3; }

// --- activations
// ------------------------------------------------------------------------------------------------------------

enum class Function {
  relu,
  tanh,
  sigmoid,
  softsign,
  softplus,
  affine,
  leaky_relu,
  thresholded_relu,
  scaled_tanh,
  hard_sigmoid,
  elu
};

struct FunctionName {
  std::string_view name;
  Function function;
  bool has_alpha = false, has_beta = false;
  float alpha = 0, beta = 0;
};
constexpr FunctionName kFunctions[] = {
    {"Relu", Function::relu},
    {"Tanh", Function::tanh},
    {"Sigmoid", Function::sigmoid},
    {"Softsign", Function::softsign},
    {"Softplus", Function::softplus},
    {"Affine", Function::affine, true, true, 1, 0},
    {"LeakyRelu", Function::leaky_relu, true, false, 0.01f},
    {"ThresholdedRelu", Function::thresholded_relu, true, false, 1},
    {"ScaledTanh", Function::scaled_tanh, true, true, 1, 1},
    {"HardSigmoid", Function::hard_sigmoid, true, true, 0.2f, 0.5f},
    {"Elu", Function::elu, true, false, 1},
};

struct Activation {
  Function function = Function::tanh;
  float alpha = 0, beta = 0;

  // As the operators of these names compute; Affine is alpha * x + beta and ScaledTanh alpha *
  // tanh(beta * x), each operation rounded.
  template <class C>
  C operator()(C x) const {
    const C a = alpha, b = beta;
    switch (function) {
      case Function::relu:
        return maximum_of(x, C{0});
      case Function::tanh:
        return evaluate(Unary::tanh, x);
      case Function::sigmoid:
        return evaluate(Unary::sigmoid, x);
      case Function::softsign:
        return x / (C{1} + absolute_of(x));
      case Function::softplus:
        return evaluate(Unary::softplus, x);
      case Function::affine:
        return a * x + b;
      case Function::leaky_relu:
        return x < 0 ? a * x : x;
      case Function::thresholded_relu:
        return x > a || is_nan(x) ? x : C{0};
      case Function::scaled_tanh:
        return a * evaluate(Unary::tanh, b * x);
      case Function::hard_sigmoid:
        return maximum_of(C{0}, minimum_of(C{1}, a * x + b));
      case Function::elu:
        return x < 0 ? a * evaluate(Unary::expm1, x) : x;
    }
    return x;
  }
};

// The functions of all directions. Their alphas and betas are given in the order of the functions
// that have one; where the lists end, defaults follow.
Result<std::vector<Activation>> read_activations(const Node& node, Kind kind, size_t directions) {
  std::vector<std::string> names;
  for (size_t d = 0; d < directions; ++d) {
    if (kind != Kind::rnn) names.emplace_back("Sigmoid");
    names.emplace_back("Tanh");
    if (kind == Kind::lstm) names.emplace_back("Tanh");
  }
  const size_t count = names.size();
  VB_ASSIGN(names, node.attributes.get<std::vector<std::string>>("activations", names));
  VB_ASSIGN(const auto alphas,
            node.attributes.get<std::vector<float>>("activation_alpha", std::vector<float>()));
  VB_ASSIGN(const auto betas,
            node.attributes.get<std::vector<float>>("activation_beta", std::vector<float>()));
  if (names.size() != count)
    return bad_input(std::to_string(names.size()) + " activations, not " + std::to_string(count));
  std::vector<Activation> all;
  size_t alpha = 0, beta = 0;
  for (const std::string& name : names) {
    const auto* found = std::ranges::find(kFunctions, name, &FunctionName::name);
    if (found == std::end(kFunctions)) return unsupported("activation '" + printable(name) + "'");
    Activation a{found->function, found->alpha, found->beta};
    if (found->has_alpha && alpha < alphas.size()) a.alpha = alphas[alpha++];
    if (found->has_beta && beta < betas.size()) a.beta = betas[beta++];
    all.push_back(a);
  }
  return all;
}

// --- shapes
// -----------------------------------------------------------------------------------------------------------------

struct Layer {
  Kind kind = Kind::rnn;
  int64_t steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1;
  bool batch_first = false;  // x and the outputs begin with the batch, not with time
  bool reverse = false;      // the first direction; a second one always is
  bool linear_before_reset = false, input_forget = false;
  float clip = std::numeric_limits<float>::infinity();
  std::vector<Activation> activations;
  std::vector<int64_t> lengths;  // of each sequence; empty: all are whole

  int64_t x_offset(int64_t t, int64_t b) const {
    return (batch_first ? b * steps + t : t * batch + b) * inputs;
  }
  int64_t y_offset(int64_t t, int64_t d, int64_t b) const {
    return (batch_first ? (b * steps + t) * directions + d : (t * directions + d) * batch + b) *
           hidden;
  }
  int64_t state_offset(int64_t d, int64_t b) const {
    return (batch_first ? b * directions + d : d * batch + b) * hidden;
  }
  std::vector<int64_t> state_dims() const {
    return batch_first ? std::vector{batch, directions, hidden}
                       : std::vector{directions, batch, hidden};
  }
  std::vector<int64_t> y_dims() const {
    return batch_first ? std::vector{batch, steps, directions, hidden}
                       : std::vector{steps, directions, batch, hidden};
  }
};

Status read_attributes(const Node& node, Layer& l) {
  const Attributes& a = node.attributes;
  VB_ASSIGN(const std::string direction, a.get<std::string>("direction", "forward"));
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    return bad_input("direction '" + printable(direction) + "'");
  l.reverse = direction == "reverse";
  l.directions = direction == "bidirectional" ? 2 : 1;
  VB_ASSIGN(const int64_t layout, a.get<int64_t>("layout", 0));
  VB_ASSIGN(const int64_t before, a.get<int64_t>("linear_before_reset", 0));
  VB_ASSIGN(const int64_t coupled, a.get<int64_t>("input_forget", 0));
  if (layout != 0 && layout != 1) return bad_input("layout " + std::to_string(layout));
  l.batch_first = layout == 1;
  l.linear_before_reset = before != 0;
  l.input_forget = coupled != 0;
  VB_ASSIGN(l.clip, a.get<float>("clip", l.clip));
  if (!(l.clip >= 0)) return bad_input("clip " + std::to_string(l.clip));
  VB_ASSIGN(l.activations, read_activations(node, l.kind, static_cast<size_t>(l.directions)));
  return {};
}

// An optional operand of the first one's type and these dimensions.
Status check(std::span<const Tensor> inputs, size_t i, const char* what,
             std::span<const int64_t> dims) {
  const Tensor t = input_or_none(inputs, i);
  if (t.defined() &&
      (t.dtype() != inputs[0].dtype() || !std::ranges::equal(t.shape().dims(), dims)))
    return bad_input(std::string(what) + " is " + t.describe() + " for x " + inputs[0].describe() +
                     " and r " + inputs[2].describe());
  return {};
}

Result<Layer> read_layer(const Node& node, Kind kind, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[1], &r = inputs[2];
  Layer l;
  l.kind = kind;
  VB_TRY(read_attributes(node, l));
  if (x.rank() != 3 || w.rank() != 3 || r.rank() != 3)
    return bad_input("x " + x.describe() + ", w " + w.describe() + ", r " + r.describe());
  l.steps = x.dim(l.batch_first ? 1 : 0);
  l.batch = x.dim(l.batch_first ? 0 : 1);
  l.inputs = x.dim(2);
  l.hidden = r.dim(2);
  VB_ASSIGN(const int64_t hidden, node.attributes.get<int64_t>("hidden_size", l.hidden));
  if (hidden != l.hidden) return bad_input("hidden_size " + std::to_string(hidden));
  // Below 2^62 where r has elements, and bounded where it has none.
  VB_ASSIGN(const int64_t rows, checked_multiply(l.hidden, 2 * gates_of(kind)));
  VB_TRY(check(inputs, 1, "w", std::array{l.directions, rows / 2, l.inputs}));
  VB_TRY(check(inputs, 2, "r", std::array{l.directions, rows / 2, l.hidden}));
  VB_TRY(check(inputs, 3, "b", std::array{l.directions, rows}));
  VB_TRY(check(inputs, 5, "initial_h", l.state_dims()));
  if (kind == Kind::lstm) {
    VB_TRY(check(inputs, 6, "initial_c", l.state_dims()));
    VB_TRY(check(inputs, 7, "p", std::array{l.directions, 3 * l.hidden}));
  }
  if (const Tensor lengths = input_or_none(inputs, 4); lengths.defined()) {
    if (!(lengths.shape() == Shape{l.batch}))
      return bad_input("sequence_lens " + lengths.describe() + " for x " + x.describe());
    VB_ASSIGN(l.lengths, read_integers(lengths, "sequence_lens"));
    for (const int64_t n : l.lengths)
      if (n < 0 || n > l.steps)
        return bad_input("sequence length " + std::to_string(n) + " of " + std::to_string(l.steps));
  }
  return l;
}

// --- steps
// ------------------------------------------------------------------------------------------------------------------

// One direction of a layer on one sequence.
template <class T>
class Cell {
 public:
  using C = Compute<T>;

  Cell(const Layer& l, std::span<const Tensor> inputs, int64_t direction)
      : l_(l), functions_(l.activations.data() + direction * functions_of(l.kind)) {
    const int64_t rows = gates_of(l.kind) * l.hidden;
    const Tensor b = input_or_none(inputs, 3), p = input_or_none(inputs, 7);
    w_ = inputs[1].data<T>().data() + direction * rows * l.inputs;
    r_ = inputs[2].data<T>().data() + direction * rows * l.hidden;
    if (b.defined()) b_ = b.data<T>().data() + direction * 2 * rows;
    if (l.kind == Kind::lstm && p.defined()) p_ = p.data<T>().data() + direction * 3 * l.hidden;
    next_.resize(static_cast<size_t>(l.hidden));
    if (l.kind == Kind::gru) {
      update_.resize(next_.size());
      reset_.resize(next_.size());
    }
  }

  // h and c, `hidden` elements each, become the states after x.
  void step(const T* x, T* h, T* c) {
    switch (l_.kind) {
      case Kind::rnn:
        for (int64_t j = 0; j < l_.hidden; ++j) next_[j] = store<T>(apply(0, operand(0, j, x, h)));
        break;
      case Kind::gru:
        step_gru(x, h);
        break;
      case Kind::lstm:
        step_lstm(x, h, c);
        break;
    }
    std::ranges::copy(next_, h);
  }

 private:
  C apply(int function, C x) const {
    const C clip = l_.clip;
    if (x > clip) x = clip;
    if (x < -clip) x = -clip;
    return functions_[function](x);
  }
  C bias(int64_t row) const { return load(b_[row]); }
  C input_product(int64_t row, const T* x) const {
    return ordered_dot(x, w_ + row * l_.inputs, l_.inputs);
  }
  C state_product(int64_t row, const T* h) const {
    return ordered_dot(h, r_ + row * l_.hidden, l_.hidden);
  }
  C operand(int gate, int64_t j, const T* x, const T* h) const {
    const int64_t row = gate * l_.hidden + j, rows = gates_of(l_.kind) * l_.hidden;
    const C a = input_product(row, x) + state_product(row, h);
    return b_ == nullptr ? a : (a + bias(row)) + bias(rows + row);
  }

  // z = f(.), r = f(.), g = g(x . W + (r * h) . R + Wb + Rb), or with linear_before_reset g(x . W +
  // r * (h . R + Rb) + Wb); h becomes (1 - z) * g + z * h.
  void step_gru(const T* x, const T* h) {
    for (int64_t j = 0; j < l_.hidden; ++j) {
      update_[j] = apply(0, operand(0, j, x, h));
      reset_[j] = apply(0, operand(1, j, x, h));
    }
    if (!l_.linear_before_reset)
      for (int64_t j = 0; j < l_.hidden; ++j) reset_[j] = reset_[j] * load(h[j]);
    for (int64_t j = 0; j < l_.hidden; ++j) {
      const int64_t row = 2 * l_.hidden + j, rows = 3 * l_.hidden;
      C a = input_product(row, x);
      if (l_.linear_before_reset) {
        const C b = state_product(row, h);
        a = a + reset_[j] * (b_ == nullptr ? b : b + bias(rows + row));
        if (b_ != nullptr) a = a + bias(row);
      } else {
        const C* left = reset_.data();
        const T* right = r_ + row * l_.hidden;
        a = a + ordered_product<C>(
                    l_.hidden, [&] { return *left++; }, [&] { return load(*right++); });
        if (b_ != nullptr) a = (a + bias(row)) + bias(rows + row);
      }
      const C z = update_[j];
      next_[j] = store<T>((C{1} - z) * apply(1, a) + z * load(h[j]));
    }
  }

  // i = f(. + Pi * c), f likewise (1 - i where coupled), g = g(.); c becomes f * c + i * g, o = f(.
  // + Po * c) sees the new one before it is rounded to T, and h becomes o * h(c).
  void step_lstm(const T* x, const T* h, T* c) {
    enum { kInput, kOutput, kForget, kCell };
    for (int64_t j = 0; j < l_.hidden; ++j) {
      const C old = load(c[j]);
      const auto peep = [&](int gate, C cell) {
        const C a = operand(gate, j, x, h);
        return p_ == nullptr ? a : a + load(p_[gate * l_.hidden + j]) * cell;
      };
      const C i = apply(0, peep(kInput, old)),
              f = l_.input_forget ? C{1} - i : apply(0, peep(kForget, old)),
              g = apply(1, operand(kCell, j, x, h)), cell = f * old + i * g,
              o = apply(0, peep(kOutput, cell));
      c[j] = store<T>(cell);
      next_[j] = store<T>(o * apply(2, cell));
    }
  }

  const Layer& l_;
  const Activation* functions_;
  const T *w_ = nullptr, *r_ = nullptr, *b_ = nullptr, *p_ = nullptr;
  std::vector<T> next_;
  std::vector<C> update_, reset_;  // of a GRU
};

template <class T>
void run(const Layer& l, std::span<const Tensor> inputs, std::span<Tensor> outputs) {
  const T* x = inputs[0].data<T>().data();
  T *y = outputs[0].mutable_data<T>().data(), *hs = outputs[1].mutable_data<T>().data(),
    *cs = l.kind == Kind::lstm ? outputs[2].mutable_data<T>().data() : hs;
  const int64_t sequences = l.directions * l.batch,
                scratch = 3 * l.hidden * static_cast<int64_t>(sizeof(double));
  parallel_for(sequences, scratch_grain(sequences, 1, scratch), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t d = i / l.batch, b = i % l.batch,
                    length = l.lengths.empty() ? l.steps : l.lengths[b];
      const bool reverse = l.reverse || d == 1;
      Cell<T> cell(l, inputs, d);
      T *h = hs + l.state_offset(d, b), *c = cs + l.state_offset(d, b);
      for (int64_t n = 0; n < length; ++n) {
        const int64_t t = reverse ? length - 1 - n : n;
        cell.step(x + l.x_offset(t, b), h, c);
        std::copy(h, h + l.hidden, y + l.y_offset(t, d, b));
      }
    }
  });
}

// A state's output, which begins as its initial value.
Result<Tensor> initial_state(const Layer& l, std::span<const Tensor> inputs, size_t i) {
  VB_ASSIGN(const Shape shape, Shape::of(l.state_dims()));
  const Tensor given = input_or_none(inputs, i);
  if (!given.defined()) return Tensor::zeros(inputs[0].dtype(), shape);
  VB_ASSIGN(Tensor state, Tensor::allocate(inputs[0].dtype(), shape));
  copy_bytes(state.mutable_bytes().data(), given.bytes().data(),
             static_cast<int64_t>(given.byte_size()));
  return state;
}

// RNN, GRU(x, w, r, b?, sequence_lens?, initial_h?) -> y, y_h; LSTM(..., initial_c?, p?) -> y, y_h,
// y_c. RNN: h becomes f(.). The gates lie in ONNX's order: z, r, h; i, o, f, c.
template <Kind kKind>
Result<Tensors> recurrent(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const Layer l, read_layer(node, kKind, inputs));
  VB_ASSIGN(const Shape shape, Shape::of(l.y_dims()));
  Tensors outputs(kKind == Kind::lstm ? 3 : 2);
  VB_ASSIGN(outputs[0], Tensor::zeros(inputs[0].dtype(), shape));
  VB_ASSIGN(outputs[1], initial_state(l, inputs, 5));
  if (kKind == Kind::lstm) {
    VB_ASSIGN(outputs[2], initial_state(l, inputs, 6));
  }
  return visit_float<Tensors>(inputs[0], [&](auto type) -> Result<Tensors> {
    run<decltype(type)>(l, inputs, outputs);
    outputs.resize(std::min(outputs.size(), node.outputs.size()));
    return outputs;
  });
}

// Two operations for each weight at each step, and some for each element of a gate.
template <Kind kKind>
uint64_t recurrent_cost(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Result<Layer> l = read_layer(node, kKind, inputs);
  if (!l.ok()) return 0;
  const auto steps = static_cast<uint64_t>(l->steps * l->batch) + 1;
  const auto rows =
      static_cast<uint64_t>(l->directions * gates_of(kKind)) * static_cast<uint64_t>(l->hidden + 1);
  return saturating_multiply(saturating_multiply(steps, rows),
                             2 * static_cast<uint64_t>(l->inputs + l->hidden) + 16);
}

constexpr OpDef kOps[] = {
    {"", "RNN", 3, 6, 2, recurrent<Kind::rnn>, recurrent_cost<Kind::rnn>},
    {"", "GRU", 3, 6, 2, recurrent<Kind::gru>, recurrent_cost<Kind::gru>},
    {"", "LSTM", 3, 8, 3, recurrent<Kind::lstm>, recurrent_cost<Kind::lstm>},
};

}  // namespace

std::span<const OpDef> recurrent_ops() { return kOps; }

}  // namespace verbatim
