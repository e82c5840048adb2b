#include <verbatim/repops/training.h>

#include <algorithm>
#include <cmath>

#include <verbatim/repops/autodiff.h>

namespace verbatim {
namespace {

struct Parameter {
  std::string name;
  ValueId value = kAbsent, gradient = kAbsent;
  Shape shape;
};

// What one step hands on to the next: an input, the output that follows it, and its first value.
struct Carried {
  std::string name;
  ValueId now = kAbsent, next = kAbsent;
  Tensor first;
};

Status check_settings(const TrainingSettings& s) {
  const auto fraction = [](double beta) { return beta >= 0 && beta < 1; };
  if (!fraction(s.beta1) || !fraction(s.beta2))
    return usage_error("the betas of AdamW must be at least 0 and below 1");
  if (!std::isfinite(s.learning_rate) || !(s.weight_decay >= 0) || !std::isfinite(s.weight_decay))
    return usage_error(
        "the learning rate and the weight decay must be numbers, the latter not negative");
  if (!(s.momentum >= 0 && s.momentum < 1))
    return usage_error("the momentum must be at least 0 and below 1");
  if (!(s.epsilon >= 0) || !std::isfinite(s.epsilon) || !(s.max_norm >= 0) ||
      !std::isfinite(s.max_norm))
    return usage_error("epsilon and the greatest norm must not be negative");
  if (s.parameters.empty()) return usage_error("no parameters to train");
  return {};
}

class Builder {
 public:
  Builder(const Graph& graph, const TrainingSettings& settings) : e_(graph), s_(settings) {}

  Result<Training> build(ValueId loss);

 private:
  ValueId onnx(std::string_view op, std::vector<ValueId> inputs, const std::string& name,
               Attributes attributes = {}) {
    return e_.add(op, "", std::move(inputs), std::move(attributes), name);
  }
  ValueId carry(const std::string& name, Tensor first);
  Status take_batches(ValueId step);
  Status take_parameters();
  Status add_gradients(ValueId loss);
  ValueId clip();
  void update_by_sgd(ValueId rate);
  void update_by_adamw(ValueId rate);

  GraphEditor e_;
  const TrainingSettings& s_;
  std::vector<Parameter> parameters_;
  std::vector<Carried> carried_;  // step, with AdamW powers, parameters, moments
  size_t first_parameter_ = 0;    // in carried_
};

ValueId Builder::carry(const std::string& name, Tensor first) {
  const auto dims = first.shape().dims();
  const ValueId now = e_.input(name, first.dtype(), {dims.begin(), dims.end()});
  carried_.push_back({name, now, kAbsent, std::move(first)});
  return now;
}

// Each input of a batch becomes a whole data set, from which a node in front of all others takes
// the step's entry: the input's value, which others go on to use.
Status Builder::take_batches(ValueId step) {
  if (s_.batches.empty()) return {};
  Graph graph = e_.graph();
  std::vector<Node> front;
  const auto add = [&](std::string_view op, std::vector<ValueId> in, Attributes attributes,
                       const std::string& name, ValueId out) {
    front.push_back({"", std::string(op), name, std::move(attributes), std::move(in), {out}});
    return out;
  };
  for (const std::string& name : s_.batches) {
    const auto in = std::ranges::find(graph.inputs, name, &GraphInput::name);
    if (in == graph.inputs.end())
      return bad_input("the graph has no input '" + printable(name) + "'");
    const ValueId batch = in->value;
    in->value = graph.value_count++;
    in->dims.insert(in->dims.begin(), -1);
    const ValueId all = in->value;
    const ValueId count = add("Shape", {all}, {{"start", int64_t{0}}, {"end", int64_t{1}}},
                              "batch.shape." + name, graph.value_count++);
    const ValueId scalar = add("Squeeze", {count}, {}, "batch.count." + name, graph.value_count++);
    const ValueId index =
        add("Mod", {step, scalar}, {}, "batch.index." + name, graph.value_count++);
    add("Gather", {all, index}, {}, "batch." + name, batch);
  }
  graph.nodes.insert(graph.nodes.begin(), front.begin(), front.end());
  e_ = GraphEditor(std::move(graph));
  return {};
}

Status Builder::take_parameters() {
  for (const std::string& name : s_.parameters) {
    const auto& all = e_.graph().initializers;
    const auto it = std::ranges::find(all, name, &Initializer::name);
    if (it == all.end()) return bad_input("the graph has no parameter '" + printable(name) + "'");
    if (it->dtype != DType::f32 || !it->tensor.defined())
      return unsupported("parameter '" + printable(name) + "' is " +
                         std::string(name_of(it->dtype)) + " and not a loaded float32 tensor");
    Parameter p{name, it->value, kAbsent, it->shape};
    VB_ASSIGN(Tensor tensor, e_.make_input(p.value));
    carried_.push_back({name, p.value, kAbsent, std::move(tensor)});
    parameters_.push_back(std::move(p));
  }
  return {};
}

Status Builder::add_gradients(ValueId loss) {
  std::vector<ValueId> wrt;
  for (const Parameter& p : parameters_) wrt.push_back(p.value);
  VB_ASSIGN(const Graph graph, e_.finish());
  VB_ASSIGN(Graph with_gradients, differentiate(graph, loss, wrt));
  for (size_t i = 0; i < parameters_.size(); ++i)
    parameters_[i].gradient = with_gradients.outputs[i + 1].value;
  e_ = GraphEditor(std::move(with_gradients));
  return {};
}

// The norm: each gradient's ordered sum of squares, these added in the parameters' order, the
// square root. Clipping: each gradient times minimum(1, max_norm / (norm + 1e-6)). Returns the norm
// before.
ValueId Builder::clip() {
  std::vector<ValueId> squares;
  for (const Parameter& p : parameters_)
    squares.push_back(
        onnx("ReduceSumSquare", {p.gradient}, "norm." + p.name, {{"keepdims", int64_t{0}}}));
  const ValueId norm = onnx("Sqrt", {onnx("Sum", squares, "norm.total")}, "norm");
  if (s_.max_norm == 0) return norm;
  const auto scalar = [&](const std::string& name, float value) {
    return e_.constant(name, *Tensor::scalar(value));
  };
  const ValueId above = onnx("Add", {norm, scalar("clip.epsilon", 1e-6f)}, "clip.above");
  const ValueId ratio = onnx("Div", {scalar("clip.max_norm", s_.max_norm), above}, "clip.ratio");
  const ValueId factor = onnx("Min", {ratio, scalar("clip.one", 1.0f)}, "clip.factor");
  for (Parameter& p : parameters_) p.gradient = onnx("Mul", {p.gradient, factor}, "clip." + p.name);
  return norm;
}

void Builder::update_by_sgd(ValueId rate) {
  const Attributes attributes = {{"momentum", s_.momentum}, {"weight_decay", s_.weight_decay}};
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    std::vector<ValueId> inputs = {p.value, p.gradient, rate};
    const bool moves = s_.momentum != 0;
    if (moves)
      inputs.push_back(carry("optimizer.velocity." + p.name, *Tensor::zeros(DType::f32, p.shape)));
    const ValueId next = e_.add("SgdUpdate", kVerbatimDomain, std::move(inputs), attributes,
                                "update." + p.name, moves ? 2 : 1);
    carried_[first_parameter_ + i].next = next;
    if (moves) carried_.back().next = next + 1;
  }
}

void Builder::update_by_adamw(ValueId rate) {
  const Attributes attributes = {{"epsilon", s_.epsilon}, {"weight_decay", s_.weight_decay}};
  const double beta[] = {s_.beta1, s_.beta2};
  const ValueId betas = e_.constant("optimizer.betas", *Tensor::from<double>(Shape{2}, beta));
  // beta^t by repeated multiplication.
  const ValueId powers = onnx("Mul", {carried_[1].now, betas}, "optimizer.powers");
  carried_[1].next = powers;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    const Tensor zeros = *Tensor::zeros(DType::f32, p.shape);
    const ValueId m = carry("optimizer.m." + p.name, zeros),
                  v = carry("optimizer.v." + p.name, zeros);
    const ValueId next =
        e_.add("AdamWUpdate", kVerbatimDomain, {p.value, p.gradient, m, v, rate, betas, powers},
               attributes, "update." + p.name, 3);
    carried_[first_parameter_ + i].next = next;
    carried_[carried_.size() - 2].next = next + 1;
    carried_[carried_.size() - 1].next = next + 2;
  }
}

Result<Training> Builder::build(ValueId loss) {
  VB_TRY(check_settings(s_));
  const ValueId rate = e_.input("learning_rate", DType::f32, {});
  const ValueId step = carry("step", *Tensor::scalar<int64_t>(0));
  carried_[0].next =
      onnx("Add", {step, e_.constant("step.one", *Tensor::scalar<int64_t>(1))}, "step.next");
  const double ones[] = {1, 1};
  if (s_.optimizer == Optimizer::adamw)
    carry("optimizer.powers", *Tensor::from<double>(Shape{2}, ones));
  VB_TRY(take_batches(step));
  first_parameter_ = carried_.size();
  VB_TRY(take_parameters());
  VB_TRY(add_gradients(loss));
  const ValueId norm = clip();
  s_.optimizer == Optimizer::sgd ? update_by_sgd(rate) : update_by_adamw(rate);

  Training t;
  t.parameters = s_.parameters;
  t.state.push_back(*Tensor::scalar(s_.learning_rate));
  std::vector<GraphOutput> outputs = {{"loss", loss}, {"gradient_norm", norm}};
  t.first_parameter = outputs.size() + first_parameter_;
  const auto first_input = static_cast<uint32_t>(e_.graph().inputs.size() - carried_.size());
  for (uint32_t i = 0; i < carried_.size(); ++i) {
    t.program.carries.push_back({static_cast<uint32_t>(outputs.size()), first_input + i});
    outputs.push_back({"next." + carried_[i].name, carried_[i].next});
    t.state.push_back(carried_[i].first);
  }
  e_.outputs(std::move(outputs));
  VB_ASSIGN(t.program.graph, e_.finish());
  t.program.max_steps = s_.steps;
  VB_TRY(validate_program(t.program));
  return t;
}

}  // namespace

Result<Training> training_program(const Graph& graph, ValueId loss,
                                  const TrainingSettings& settings) {
  return Builder(graph, settings).build(loss);
}

ValueId cross_entropy(GraphEditor& e, ValueId logits, ValueId labels, int64_t ignore_index) {
  const ValueId rows = e.add("Flatten", "", {logits}, {{"axis", int64_t{-1}}}, "loss.rows");
  const ValueId logs = e.add("LogSoftmax", "", {rows}, {{"axis", int64_t{-1}}}, "loss.log_softmax");
  const ValueId targets =
      e.add("Reshape", "", {labels, e.integers("loss.flat", {-1})}, {}, "loss.labels");
  return e.add("NegativeLogLikelihoodLoss", "", {logs, targets}, {{"ignore_index", ignore_index}},
               "loss");
}

ValueId mean_squared_error(GraphEditor& e, ValueId prediction, ValueId target) {
  const ValueId d = e.add("Sub", "", {prediction, target}, {}, "loss.difference");
  const ValueId square = e.add("Mul", "", {d, d}, {}, "loss.square");
  return e.add("ReduceMean", "", {square}, {{"keepdims", int64_t{0}}}, "loss");
}

}  // namespace verbatim
