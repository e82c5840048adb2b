#include <verbatim/repops/autodiff_rules.h>

#include <bit>
#include <set>

namespace verbatim {

BackwardNode::BackwardNode(GraphEditor& editor, std::map<ValueId, ValueId>& shapes, Node node,
                           std::vector<ValueId> gradients, std::vector<bool> wanted)
    : editor_(editor),
      shapes_(shapes),
      node_(std::move(node)),
      gradients_(std::move(gradients)),
      wanted_(std::move(wanted)) {}

void BackwardNode::give(size_t input, ValueId gradient) {
  if (wants(input)) given_.push_back({input, gradient});
}

ValueId BackwardNode::onnx(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
                           int outputs) {
  return editor_.add(op, "", std::move(inputs), std::move(attributes),
                     (node_.name.empty() ? node_.op : node_.name) + ".backward", outputs);
}

ValueId BackwardNode::own(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
                          int outputs) {
  return editor_.add(op, kVerbatimDomain, std::move(inputs), std::move(attributes),
                     (node_.name.empty() ? node_.op : node_.name) + ".backward", outputs);
}

ValueId BackwardNode::number(const std::string& name, double value, ValueId like) {
  return onnx("CastLike", {editor_.constant(name, *Tensor::scalar(value)), like});
}

ValueId BackwardNode::integer(int64_t value) {
  return editor_.constant("integer." + std::to_string(value), *Tensor::scalar(value));
}

ValueId BackwardNode::integers(const std::vector<int64_t>& values) {
  std::string name = "integers";
  for (int64_t v : values) name += "." + std::to_string(v);
  return editor_.integers(name, values);
}

ValueId BackwardNode::shape(ValueId value) {
  const auto it = shapes_.find(value);
  return it != shapes_.end() ? it->second : shapes_[value] = onnx("Shape", {value});
}

ValueId BackwardNode::sum_to(ValueId x, ValueId like) { return own("SumTo", {x, shape(like)}); }

Status BackwardNode::no_rule(const std::string& why) const {
  return unsupported(node_.title() + ": no gradient rule for operator '" + printable(node_.op) +
                     "' in domain '" +
                     (node_.domain.empty() ? "ai.onnx" : printable(node_.domain)) + "'" +
                     (why.empty() ? "" : ": " + why));
}

namespace {

using Back = BackwardNode;

// --- elementwise: every operation that is written is a node, rounded
// ------------------------------------------------------------

Status add(Back& b) {
  for (size_t i = 0; i < 2; ++i)
    if (b.wants(i)) b.give(i, b.sum_to(b.gradient(), b.in(i)));
  return {};
}

Status subtract(Back& b) {
  if (b.wants(0)) b.give(0, b.sum_to(b.gradient(), b.in(0)));
  if (b.wants(1)) b.give(1, b.sum_to(b.onnx("Neg", {b.gradient()}), b.in(1)));
  return {};
}

Status multiply(Back& b) {
  for (size_t i = 0; i < 2; ++i)
    if (b.wants(i)) b.give(i, b.sum_to(b.onnx("Mul", {b.gradient(), b.in(1 - i)}), b.in(i)));
  return {};
}

// d a = g / b; d b = -((g * y) / b).
Status divide(Back& b) {
  if (b.wants(0)) b.give(0, b.sum_to(b.onnx("Div", {b.gradient(), b.in(1)}), b.in(0)));
  if (b.wants(1)) {
    const ValueId gy = b.onnx("Mul", {b.gradient(), b.out()});
    b.give(1, b.sum_to(b.onnx("Neg", {b.onnx("Div", {gy, b.in(1)})}), b.in(1)));
  }
  return {};
}

// d x = g * (e * x^(e - 1)); d e = g * (y * log(x)), 0 where y is 0.
Status power(Back& b) {
  const ValueId x = b.in(0), e = b.onnx("CastLike", {b.in(1), x}), g = b.gradient();
  if (b.wants(0)) {
    const ValueId less = b.onnx("Sub", {e, b.number("one", 1, x)});
    const ValueId slope = b.onnx("Mul", {e, b.onnx("Pow", {x, less})});
    b.give(0, b.sum_to(b.onnx("Mul", {g, slope}), x));
  }
  if (b.wants(1)) {
    const ValueId zero = b.number("zero", 0, x);
    const ValueId slope = b.onnx("Mul", {b.out(), b.onnx("Log", {x})});
    const ValueId kept =
        b.onnx("Where", {b.onnx("Equal", {b.out(), zero}), zero, b.onnx("Mul", {g, slope})});
    b.give(1, b.sum_to(b.onnx("CastLike", {kept, b.in(1)}), b.in(1)));
  }
  return {};
}

Status where(Back& b) {
  const ValueId g = b.gradient(), zero = b.number("zero", 0, g);
  if (b.wants(1)) b.give(1, b.sum_to(b.onnx("Where", {b.in(0), g, zero}), b.in(1)));
  if (b.wants(2)) b.give(2, b.sum_to(b.onnx("Where", {b.in(0), zero, g}), b.in(2)));
  return {};
}

// Sum(...): each its own; Mean: g / number of operands.
Status sum(Back& b) {
  ValueId g = b.gradient();
  if (b.node().op == "Mean") {
    const auto count = static_cast<double>(b.node().inputs.size());
    g = b.onnx("Div", {g, b.number("count." + std::to_string(b.node().inputs.size()), count, g)});
  }
  for (size_t i = 0; i < b.node().inputs.size(); ++i)
    if (b.wants(i)) b.give(i, b.sum_to(g, b.in(i)));
  return {};
}

// g where the operand came through, 0 where a bound did.
Status clip(Back& b) {
  if (b.wants(1) || b.wants(2)) return b.no_rule("its bounds have none");
  const ValueId through = b.onnx("Equal", {b.out(), b.in(0)});
  b.give(0, b.onnx("Where", {through, b.gradient(), b.number("zero", 0, b.gradient())}));
  return {};
}

Status negate(Back& b) {
  b.give(0, b.onnx("Neg", {b.gradient()}));
  return {};
}
Status absolute(Back& b) {
  b.give(0, b.onnx("Mul", {b.gradient(), b.onnx("Sign", {b.in(0)})}));
  return {};
}
// g / (y + y).
Status square_root(Back& b) {
  b.give(0, b.onnx("Div", {b.gradient(), b.onnx("Add", {b.out(), b.out()})}));
  return {};
}
// -((g * y) * y).
Status reciprocal(Back& b) {
  const ValueId gy = b.onnx("Mul", {b.gradient(), b.out()});
  b.give(0, b.onnx("Neg", {b.onnx("Mul", {gy, b.out()})}));
  return {};
}
Status exponential(Back& b) {
  b.give(0, b.onnx("Mul", {b.gradient(), b.out()}));
  return {};
}
Status logarithm(Back& b) {
  b.give(0, b.onnx("Div", {b.gradient(), b.in(0)}));
  return {};
}
Status sine(Back& b) {
  b.give(0, b.onnx("Mul", {b.gradient(), b.onnx("Cos", {b.in(0)})}));
  return {};
}
Status cosine(Back& b) {
  b.give(0, b.onnx("Neg", {b.onnx("Mul", {b.gradient(), b.onnx("Sin", {b.in(0)})})}));
  return {};
}
// g - (g * y) * y.
Status hyperbolic_tangent(Back& b) {
  const ValueId gy = b.onnx("Mul", {b.gradient(), b.out()});
  b.give(0, b.onnx("Sub", {b.gradient(), b.onnx("Mul", {gy, b.out()})}));
  return {};
}
// t = g * y; t - t * y.
Status sigmoid(Back& b) {
  const ValueId t = b.onnx("Mul", {b.gradient(), b.out()});
  b.give(0, b.onnx("Sub", {t, b.onnx("Mul", {t, b.out()})}));
  return {};
}
Status softplus(Back& b) {
  b.give(0, b.onnx("Mul", {b.gradient(), b.onnx("Sigmoid", {b.in(0)})}));
  return {};
}
// g * (2 / sqrt(pi) * exp(-(x * x))).
Status error_function(Back& b) {
  const ValueId square = b.onnx("Mul", {b.in(0), b.in(0)});
  const ValueId bell = b.onnx("Exp", {b.onnx("Neg", {square})});
  const ValueId slope =
      b.onnx("Mul", {b.number("two_over_root_pi", 0x1.20dd750429b6dp+0, b.in(0)), bell});
  b.give(0, b.onnx("Mul", {b.gradient(), slope}));
  return {};
}
// 0 where y <= 0, g elsewhere.
Status relu(Back& b) {
  const ValueId zero = b.number("zero", 0, b.gradient());
  const ValueId off = b.onnx("LessOrEqual", {b.out(), zero});
  b.give(0, b.onnx("Where", {off, zero, b.gradient()}));
  return {};
}
Status gelu(Back& b) {
  b.give(0, b.own("GeluGrad", {b.gradient(), b.in(0)}, b.node().attributes));
  return {};
}
Status swish(Back& b) {
  b.give(0, b.own("SwishGrad", {b.gradient(), b.in(0)}, b.node().attributes));
  return {};
}

// --- movement
// ---------------------------------------------------------------------------------------------------------------

// Back to the operand's shape: Reshape, Flatten, Squeeze, Unsqueeze, Identity.
Status reshape(Back& b) {
  b.give(0, b.onnx("Reshape", {b.gradient(), b.shape(b.in(0))}, {{"allowzero", int64_t{1}}}));
  return {};
}

Status transpose(Back& b) {
  Attributes attributes;
  if (b.node().attributes.has("perm")) {
    VB_ASSIGN(const std::vector<int64_t> perm,
              b.node().attributes.require<std::vector<int64_t>>("perm"));
    const auto rank = static_cast<int64_t>(perm.size());
    std::vector<int64_t> inverse(perm.size());
    for (int64_t i = 0; i < rank; ++i) {
      const int64_t from = perm[i] < 0 ? perm[i] + rank : perm[i];
      if (from < 0 || from >= rank) return b.no_rule("perm is no permutation");
      inverse[from] = i;
    }
    attributes.set("perm", inverse);
  }
  b.give(0, b.onnx("Transpose", {b.gradient()}, std::move(attributes)));
  return {};
}

Status expand(Back& b) {
  b.give(0, b.sum_to(b.gradient(), b.in(0)));
  return {};
}

Status cast(Back& b) {
  b.give(0, b.onnx("CastLike", {b.gradient(), b.in(0)}));
  return {};
}

Status concat(Back& b) {
  VB_ASSIGN(const int64_t axis, b.node().attributes.require<int64_t>("axis"));
  std::vector<ValueId> sizes;
  for (ValueId v : b.node().inputs) {
    Attributes one = {{"start", axis}};
    if (axis != -1) one.set("end", axis + 1);
    sizes.push_back(b.onnx("Shape", {v}, std::move(one)));
  }
  const int count = static_cast<int>(sizes.size());
  const ValueId split = b.onnx("Concat", std::move(sizes), {{"axis", int64_t{0}}});
  const ValueId parts = b.onnx("Split", {b.gradient(), split}, {{"axis", axis}}, count);
  for (int i = 0; i < count; ++i) b.give(static_cast<size_t>(i), parts + i);
  return {};
}

Status gather(Back& b) {
  b.give(0, b.own("GatherGrad", {b.gradient(), b.in(1), b.shape(b.in(0))}, b.node().attributes));
  return {};
}

// Whatever moves elements of its first operand: moved the same way, the operand's own indices tell
// where each gradient belongs. It is added there, ascending in the node's output; outputs ascend.
Status moved(Back& b) {
  const ValueId x = b.in(0), flat = b.integers({-1});
  const ValueId size = b.onnx("Size", {x});
  const ValueId range = b.onnx("Range", {b.integer(0), size, b.integer(1)});
  std::vector<ValueId> inputs = b.node().inputs;
  inputs[0] = b.onnx("Reshape", {range, b.shape(x)}, {{"allowzero", int64_t{1}}});
  const auto outputs = static_cast<int>(b.node().outputs.size());
  const ValueId places = b.onnx(b.node().op, std::move(inputs), b.node().attributes, outputs);
  ValueId total =
      b.onnx("Expand", {b.number("zero", 0, x), b.onnx("Unsqueeze", {size, b.integers({0})})});
  for (int i = 0; i < outputs; ++i) {
    const ValueId g = b.gradient(static_cast<size_t>(i));
    if (g == kAbsent) continue;
    total = b.onnx("ScatterElements",
                   {total, b.onnx("Reshape", {places + i, flat}), b.onnx("Reshape", {g, flat})},
                   {{"reduction", std::string("add")}});
  }
  b.give(0, b.onnx("Reshape", {total, b.shape(x)}, {{"allowzero", int64_t{1}}}));
  return {};
}

// --- reductions
// -------------------------------------------------------------------------------------------------------------

// A value of the reduction's output with the operand's rank, so that it broadcasts to it.
Result<ValueId> unreduced(Back& b, ValueId value) {
  VB_ASSIGN(const int64_t keep, b.node().attributes.get<int64_t>("keepdims", 1));
  if (keep != 0 || b.in(1) == kAbsent) return value;  // without axes, all are reduced: a scalar
  return b.onnx("Unsqueeze", {value, b.in(1)});
}

Status reduce_sum(Back& b) {
  VB_ASSIGN(const ValueId g, unreduced(b, b.gradient()));
  b.give(0, b.onnx("Expand", {g, b.shape(b.in(0))}));
  return {};
}

// g / n, with n elements for each result.
Status reduce_mean(Back& b) {
  VB_ASSIGN(const ValueId g, unreduced(b, b.gradient()));
  const ValueId count = b.onnx("Div", {b.onnx("Size", {b.in(0)}), b.onnx("Size", {b.out()})});
  const ValueId share = b.onnx("Div", {g, b.onnx("CastLike", {count, b.in(0)})});
  b.give(0, b.onnx("Expand", {share, b.shape(b.in(0))}));
  return {};
}

// Elements that equal the extreme share g equally.
Status reduce_extreme(Back& b) {
  VB_ASSIGN(const ValueId g, unreduced(b, b.gradient()));
  VB_ASSIGN(const ValueId y, unreduced(b, b.out()));
  const ValueId equal = b.onnx("CastLike", {b.onnx("Equal", {b.in(0), y}), b.in(0)});
  Attributes attributes = b.node().attributes;
  attributes.set("keepdims", int64_t{1});
  std::vector<ValueId> inputs = b.node().inputs;
  inputs[0] = equal;
  const ValueId count = b.onnx("ReduceSum", std::move(inputs), std::move(attributes));
  b.give(0, b.onnx("Mul", {equal, b.onnx("Div", {g, count})}));
  return {};
}

Status reduce_l1(Back& b) {
  VB_ASSIGN(const ValueId g, unreduced(b, b.gradient()));
  b.give(0, b.onnx("Mul", {g, b.onnx("Sign", {b.in(0)})}));
  return {};
}

// (g * x) / y, 0 where y is 0.
Status reduce_l2(Back& b) {
  VB_ASSIGN(const ValueId g, unreduced(b, b.gradient()));
  VB_ASSIGN(const ValueId y, unreduced(b, b.out()));
  const ValueId zero = b.number("zero", 0, b.in(0));
  const ValueId slope = b.onnx("Div", {b.onnx("Mul", {g, b.in(0)}), y});
  b.give(0, b.onnx("Where", {b.onnx("Equal", {y, zero}), zero, slope}));
  return {};
}

// t = g * x; t + t.
Status reduce_sum_square(Back& b) {
  VB_ASSIGN(const ValueId g, unreduced(b, b.gradient()));
  const ValueId t = b.onnx("Mul", {g, b.in(0)});
  b.give(0, b.onnx("Add", {t, t}));
  return {};
}

// g * exp(x - y).
Status reduce_log_sum_exp(Back& b) {
  VB_ASSIGN(const ValueId g, unreduced(b, b.gradient()));
  VB_ASSIGN(const ValueId y, unreduced(b, b.out()));
  b.give(0, b.onnx("Mul", {g, b.onnx("Exp", {b.onnx("Sub", {b.in(0), y})})}));
  return {};
}

// The other way round.
Status cumulative_sum(Back& b) {
  VB_ASSIGN(const int64_t reverse, b.node().attributes.get<int64_t>("reverse", 0));
  Attributes attributes = b.node().attributes;
  attributes.set("reverse", int64_t{reverse == 0});
  b.give(0, b.onnx("CumSum", {b.gradient(), b.in(1)}, std::move(attributes)));
  return {};
}

// --- products
// ---------------------------------------------------------------------------------------------------------------

// d A = g B^T, d B = A^T g, each an ordered product for each entry of the batch, then summed over
// the batch dimensions that were broadcast.
Status matmul(Back& b) {
  const auto product = [&](ValueId left, ValueId right, const char* equation) {
    return b.onnx("Einsum", {left, right}, {{"equation", std::string(equation)}});
  };
  if (b.wants(0))
    b.give(0, b.sum_to(product(b.gradient(), b.in(1), "...mn,...kn->...mk"), b.in(0)));
  if (b.wants(1))
    b.give(1, b.sum_to(product(b.in(0), b.gradient(), "...mk,...mn->...kn"), b.in(1)));
  return {};
}

// With Y = alpha * op(A) op(B) + beta * C: the gradients of A and B are products times alpha, that
// of C is beta * g summed to C's shape.
Status gemm(Back& b) {
  const Attributes& a = b.node().attributes;
  VB_ASSIGN(const float alpha, a.get<float>("alpha", 1.0f));
  VB_ASSIGN(const float beta, a.get<float>("beta", 1.0f));
  VB_ASSIGN(const int64_t trans_a, a.get<int64_t>("transA", 0));
  VB_ASSIGN(const int64_t trans_b, a.get<int64_t>("transB", 0));
  const ValueId g = b.gradient();
  const auto product = [&](ValueId left, ValueId right, bool turn_left, bool turn_right) {
    return b.onnx(
        "Gemm", {left, right},
        {{"alpha", alpha}, {"transA", int64_t{turn_left}}, {"transB", int64_t{turn_right}}});
  };
  const bool ta = trans_a != 0, tb = trans_b != 0;
  if (b.wants(0)) b.give(0, ta ? product(b.in(1), g, tb, true) : product(g, b.in(1), false, !tb));
  if (b.wants(1)) b.give(1, tb ? product(g, b.in(0), true, ta) : product(b.in(0), g, !ta, false));
  if (b.wants(2)) {
    const ValueId scale =
        b.number("beta." + std::to_string(std::bit_cast<uint32_t>(beta)), double{beta}, g);
    b.give(2, b.sum_to(beta == 1.0f ? g : b.onnx("Mul", {g, scale}), b.in(2)));
  }
  return {};
}

// d x = g w; with the rows of x and g as matrices, d w = g^T x, an ordered product over the rows,
// and d bias the ordered sum of g over the rows.
Status linear(Back& b) {
  const ValueId g = b.gradient();
  if (b.wants(0)) b.give(0, b.onnx("MatMul", {g, b.in(1)}));
  if (!b.wants(1) && !b.wants(2)) return {};
  const Attributes rows = {{"axis", int64_t{-1}}};
  const ValueId g_rows = b.onnx("Flatten", {g}, rows);
  if (b.wants(1))
    b.give(1,
           b.onnx("Gemm", {g_rows, b.onnx("Flatten", {b.in(0)}, rows)}, {{"transA", int64_t{1}}}));
  if (b.wants(2))
    b.give(2, b.onnx("ReduceSum", {g_rows, b.integers({0})}, {{"keepdims", int64_t{0}}}));
  return {};
}

// --- normalisation and attention
// --------------------------------------------------------------------------------------------------

// y * (g - sum(g * y)).
Status softmax(Back& b) {
  VB_ASSIGN(const int64_t axis, b.node().attributes.get<int64_t>("axis", -1));
  const ValueId gy = b.onnx("Mul", {b.gradient(), b.out()});
  const ValueId sum = b.onnx("ReduceSum", {gy, b.integers({axis})});
  b.give(0, b.onnx("Mul", {b.out(), b.onnx("Sub", {b.gradient(), sum})}));
  return {};
}

// g - exp(y) * sum(g).
Status log_softmax(Back& b) {
  VB_ASSIGN(const int64_t axis, b.node().attributes.get<int64_t>("axis", -1));
  const ValueId sum = b.onnx("ReduceSum", {b.gradient(), b.integers({axis})});
  const ValueId share = b.onnx("Mul", {b.onnx("Exp", {b.out()}), sum});
  b.give(0, b.onnx("Sub", {b.gradient(), share}));
  return {};
}

Status layer_normalization(Back& b) {
  for (size_t i = 1; i < b.node().outputs.size(); ++i)
    if (b.gradient(i) != kAbsent) return b.no_rule("its statistics have none");
  if (b.wants(0) || b.wants(1)) {
    const ValueId g =
        b.own("LayerNormalizationGrad", {b.gradient(), b.in(0), b.in(1)}, b.node().attributes, 2);
    b.give(0, g);
    b.give(1, g + 1);
  }
  if (b.wants(2)) b.give(2, b.sum_to(b.gradient(), b.in(2)));
  return {};
}

Status rms_normalization(Back& b) {
  const ValueId g =
      b.own("RMSNormalizationGrad", {b.gradient(), b.in(0), b.in(1)}, b.node().attributes, 2);
  b.give(0, g);
  b.give(1, g + 1);
  return {};
}

Status l2_normalize(Back& b) {
  b.give(0, b.own("L2NormalizeGrad", {b.gradient(), b.in(0)}, b.node().attributes));
  return {};
}

Status mean_pool(Back& b) {
  b.give(0, b.own("MeanPoolGrad", {b.gradient(), b.in(1), b.shape(b.in(0))}));
  return {};
}

Status attention(Back& b) {
  if (b.in(4) != kAbsent) return b.no_rule("keys in pages have none");
  std::vector<ValueId> inputs = {b.gradient()};
  inputs.insert(inputs.end(), b.node().inputs.begin(), b.node().inputs.end());
  const ValueId g = b.own("AttentionGrad", std::move(inputs), b.node().attributes, 3);
  for (int i = 0; i < 3; ++i) b.give(static_cast<size_t>(i), g + i);
  return {};
}

// Turned back by the same angles.
Status rotary_embedding(Back& b) {
  if (b.wants(1) || b.wants(2)) return b.no_rule("its tables have none");
  const ValueId back = b.onnx("Neg", {b.in(2)});
  b.give(0, b.own("RotaryEmbedding", {b.gradient(), b.in(1), back}, b.node().attributes));
  return {};
}

Status negative_log_likelihood(Back& b) {
  if (b.wants(2)) return b.no_rule("its weights have none");
  std::vector<ValueId> inputs = {b.gradient(), b.shape(b.in(0)), b.in(1)};
  if (b.in(2) != kAbsent) inputs.push_back(b.in(2));
  b.give(0, b.own("NegativeLogLikelihoodLossGrad", std::move(inputs), b.node().attributes));
  return {};
}

using Key = std::pair<std::string_view, std::string_view>;

const std::map<Key, GradientRule>& rules() {
  static const std::map<Key, GradientRule> table = {
      {{"", "Add"}, add},
      {{"", "Sub"}, subtract},
      {{"", "Mul"}, multiply},
      {{"", "Div"}, divide},
      {{"", "Pow"}, power},
      {{"", "Where"}, where},
      {{"", "Sum"}, sum},
      {{"", "Mean"}, sum},
      {{"", "Clip"}, clip},
      {{"", "Neg"}, negate},
      {{"", "Abs"}, absolute},
      {{"", "Sqrt"}, square_root},
      {{"", "Reciprocal"}, reciprocal},
      {{"", "Exp"}, exponential},
      {{"", "Log"}, logarithm},
      {{"", "Sin"}, sine},
      {{"", "Cos"}, cosine},
      {{"", "Tanh"}, hyperbolic_tangent},
      {{"", "Sigmoid"}, sigmoid},
      {{"", "Softplus"}, softplus},
      {{"", "Erf"}, error_function},
      {{"", "Relu"}, relu},
      {{"", "Gelu"}, gelu},
      {{"", "Swish"}, swish},
      {{"", "Reshape"}, reshape},
      {{"", "Flatten"}, reshape},
      {{"", "Squeeze"}, reshape},
      {{"", "Unsqueeze"}, reshape},
      {{"", "Identity"}, reshape},
      {{"", "Transpose"}, transpose},
      {{"", "Expand"}, expand},
      {{"", "Cast"}, cast},
      {{"", "CastLike"}, cast},
      {{"", "Concat"}, concat},
      {{"", "Gather"}, gather},
      {{"", "Slice"}, moved},
      {{"", "Split"}, moved},
      {{"", "Tile"}, moved},
      {{"", "GatherElements"}, moved},
      {{"", "GatherND"}, moved},
      {{"", "Compress"}, moved},
      {{"", "ReverseSequence"}, moved},
      {{"", "DepthToSpace"}, moved},
      {{"", "SpaceToDepth"}, moved},
      {{"", "ReduceSum"}, reduce_sum},
      {{"", "ReduceMean"}, reduce_mean},
      {{"", "ReduceMax"}, reduce_extreme},
      {{"", "ReduceMin"}, reduce_extreme},
      {{"", "ReduceL1"}, reduce_l1},
      {{"", "ReduceL2"}, reduce_l2},
      {{"", "ReduceSumSquare"}, reduce_sum_square},
      {{"", "ReduceLogSumExp"}, reduce_log_sum_exp},
      {{"", "CumSum"}, cumulative_sum},
      {{"", "MatMul"}, matmul},
      {{"", "Gemm"}, gemm},
      {{kVerbatimDomain, "Linear"}, linear},
      {{"", "Softmax"}, softmax},
      {{"", "LogSoftmax"}, log_softmax},
      {{"", "LayerNormalization"}, layer_normalization},
      {{"", "RMSNormalization"}, rms_normalization},
      {{kVerbatimDomain, "L2Normalize"}, l2_normalize},
      {{kVerbatimDomain, "MeanPool"}, mean_pool},
      {{kVerbatimDomain, "Attention"}, attention},
      {{kVerbatimDomain, "RotaryEmbedding"}, rotary_embedding},
      {{"", "NegativeLogLikelihoodLoss"}, negative_log_likelihood},
  };
  return table;
}

}  // namespace

GradientRule find_gradient_rule(const Node& node) {
  const auto it = rules().find({node.domain, node.op});
  return it == rules().end() ? nullptr : it->second;
}

bool has_zero_gradient(const Node& node) {
  static const std::set<std::string_view> kConstant = {
      "Shape",   "Size",        "ConstantOfShape", "Equal", "Less",
      "Greater", "LessOrEqual", "GreaterOrEqual",  "And",   "Or",
      "Xor",     "Not",         "IsNaN",           "IsInf", "ArgMax",
      "ArgMin",  "NonZero",     "Floor",           "Ceil",  "Round",
      "Sign",    "EyeLike"};
  if (!node.domain.empty()) return false;
  if (node.op == "Cast") {
    const Result<int64_t> to = node.attributes.get<int64_t>("to", 0);
    return to.ok() && !is_float(dtype_from_onnx(*to));
  }
  return kConstant.contains(node.op);
}

}  // namespace verbatim
