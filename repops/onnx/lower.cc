#include <verbatim/repops/onnx/lower.h>

#include <algorithm>
#include <functional>
#include <limits>

#include <verbatim/core/fp_guard.h>
#include <verbatim/repops/onnx/sequences.h>
#include <verbatim/repops/op.h>

namespace verbatim::onnx {
namespace {

using Values = std::vector<ValueId>;

// What is evaluated while a file is read: elements of one tensor, and of all that are kept.
constexpr int64_t kMaxElements = 64, kMaxKept = 1 << 20;
// Of all sequences: each edit copies a list.
constexpr int64_t kMaxListed = 1 << 20;

// Operators allocate before they compute: what would be large is not computed at all.
class SmallTensors final : public AllocationGuard {
  Result<std::shared_ptr<const void>> admit(const Tensor& tensor, Purpose) override {
    if (tensor.elements() > kMaxElements) return over_limit(tensor.describe());
    return std::shared_ptr<const void>();
  }
};

ValueId integers(Emitter& e, const std::string& name, const std::vector<int64_t>& values) {
  const Result<Tensor> t =
      Tensor::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values);
  return e.constant(name, *t);  // an attribute's values: their size was bounded when it was read
}

ValueId scalar(Emitter& e, const std::string& name, float value) {
  const Result<Tensor> t = Tensor::scalar(value);
  return e.constant(name, *t);
}

void set_input(SourceNode& n, size_t i, ValueId value) {
  if (n.inputs.size() <= i) n.inputs.resize(i + 1, kAbsent);
  n.inputs[i] = value;
}

// The node as it now is.
Result<Values> emit(SourceNode n, Emitter& e) {
  const OpDef* op = find_op("", n.op);
  if (op == nullptr)
    return unsupported("operator '" + printable(n.op) + "' (operator set " +
                       std::to_string(n.version) + ")");
  const int outputs = std::max(n.outputs, 1);
  const ValueId first = e.emit(n.op, n.inputs, n.attributes, n.name, outputs);
  Values values;
  for (int i = 0; i < outputs; ++i) values.push_back(first + i);
  return values;
}

// Moves an attribute that holds integers to input `i`, where it is given.
Status integers_to_input(SourceNode& n, Emitter& e, const std::string& attribute, size_t i) {
  if (!n.attributes.has(attribute)) return {};
  VB_ASSIGN(const std::vector<int64_t> values,
            n.attributes.require<std::vector<int64_t>>(attribute));
  set_input(n, i, integers(e, n.name + "/" + attribute, values));
  n.attributes.erase(attribute);
  return {};
}

// --- one function for each operator whose older forms differ
// ----------------------------------------------------------------

Result<Values> lower_axes(SourceNode n, Emitter& e) {  // Squeeze, Unsqueeze, Reduce*
  VB_TRY(integers_to_input(n, e, "axes", 1));
  return emit(std::move(n), e);
}

Result<Values> lower_split(SourceNode n, Emitter& e) {
  if (n.version < 2 && n.input(1) != kAbsent)  // sizes of x's type
    n.inputs[1] = e.emit("Cast", {n.input(1)}, {{"to", static_cast<int64_t>(DType::i64)}}, n.name);
  VB_TRY(integers_to_input(n, e, "split", 1));
  return emit(std::move(n), e);
}

Result<Values> lower_reshape(SourceNode n, Emitter& e) {
  VB_TRY(integers_to_input(n, e, "shape", 1));
  return emit(std::move(n), e);
}

Result<Values> lower_slice(SourceNode n, Emitter& e) {
  VB_TRY(integers_to_input(n, e, "starts", 1));
  VB_TRY(integers_to_input(n, e, "ends", 2));
  VB_TRY(integers_to_input(n, e, "axes", 3));
  return emit(std::move(n), e);
}

Result<Values> lower_top_k(SourceNode n, Emitter& e) {
  if (n.attributes.has("k")) {
    VB_ASSIGN(const int64_t k, n.attributes.require<int64_t>("k"));
    set_input(n, 1, integers(e, n.name + "/k", {k}));
    n.attributes.erase("k");
  }
  n.outputs = std::max(n.outputs, 2);
  return emit(std::move(n), e);
}

// A float attribute as an input of x's type.
Status float_to_input(SourceNode& n, Emitter& e, const std::string& attribute, size_t i) {
  if (!n.attributes.has(attribute)) return {};
  VB_ASSIGN(const float value, n.attributes.require<float>(attribute));
  const ValueId constant = scalar(e, n.name + "/" + attribute, value);
  set_input(n, i, e.emit("CastLike", {constant, n.input(0)}, {}, n.name));
  n.attributes.erase(attribute);
  return {};
}

// In operator sets 6 to 10 bounds have numbers as defaults, so that infinities are clipped.
Result<Values> lower_clip(SourceNode n, Emitter& e) {
  constexpr float kGreatest = std::numeric_limits<float>::max();
  if (n.version >= 6 && n.version < 11)
    for (const auto& [bound, value] : {std::pair("min", -kGreatest), {"max", kGreatest}})
      if (!n.attributes.has(bound)) n.attributes.set(bound, value);
  VB_TRY(float_to_input(n, e, "min", 1));
  VB_TRY(float_to_input(n, e, "max", 2));
  return emit(std::move(n), e);
}

Result<Values> lower_pad(SourceNode n, Emitter& e) {
  VB_TRY(integers_to_input(n, e, n.attributes.has("paddings") ? "paddings" : "pads", 1));
  VB_TRY(float_to_input(n, e, "value", 2));
  return emit(std::move(n), e);
}

Result<Values> lower_cast(SourceNode n, Emitter& e) {
  if (n.version < 6) {  // the type's name instead of its number
    constexpr std::string_view kNames[] = {"UNDEFINED", "FLOAT",  "UINT8",  "INT8",   "UINT16",
                                           "INT16",     "INT32",  "INT64",  "STRING", "BOOL",
                                           "FLOAT16",   "DOUBLE", "UINT32", "UINT64"};
    VB_ASSIGN(const std::string to, n.attributes.require<std::string>("to"));
    n.attributes.set("to",
                     static_cast<int64_t>(std::ranges::find(kNames, to) - std::begin(kNames)));
  }
  return emit(std::move(n), e);
}

// Softmax, LogSoftmax and Hardmax before operator set 13: the operand as a matrix, cut before
// `axis`, 1 by default.
Result<Values> lower_softmax(SourceNode n, Emitter& e) {
  if (n.version >= 13) return emit(std::move(n), e);
  VB_ASSIGN(const int64_t axis, n.attributes.get<int64_t>("axis", 1));
  const int rank = e.rank_of(n.input(0));
  n.attributes.set("axis", int64_t{-1});
  if (axis == -1 || (rank > 0 && axis == rank - 1)) return emit(std::move(n), e);
  const ValueId x = n.input(0), shape = e.emit("Shape", {x}, {}, n.name);
  n.inputs = {e.emit("Flatten", {x}, {{"axis", axis}}, n.name)};
  const std::string name = n.name;
  VB_ASSIGN(const Values flat, emit(std::move(n), e));
  return Values{e.emit("Reshape", {flat[0], shape}, {{"allowzero", int64_t{1}}}, name)};
}

Result<Values> lower_identity(SourceNode n, Emitter&) { return Values{n.input(0)}; }

// Whether an optional holds something is known here: values are tensors, and so there.
Result<Values> lower_optional(SourceNode n, Emitter& e) {
  const bool given = n.input(0) != kAbsent;
  if (n.op == "OptionalHasElement") {
    VB_ASSIGN(const Tensor t, Tensor::scalar(given));
    return Values{e.constant(n.name, t)};
  }
  if (!given) return unsupported("an optional without an element");
  return Values{n.input(0)};
}

// Before operator set 7 an attribute tells training from inference.
Status check_is_test(SourceNode& n) {
  if (n.version >= 7 || !n.attributes.has("is_test")) return {};
  VB_ASSIGN(const int64_t is_test, n.attributes.require<int64_t>("is_test"));
  n.attributes.erase("is_test");
  return is_test != 0 ? Status() : unsupported(n.op + " in training mode (is_test = 0)");
}

// In inference Dropout is the identity, its mask all true. Training draws at random unless the
// ratio is 0; where that depends on what the graph is given, the operator tells.
Result<Values> lower_dropout(SourceNode n, Emitter& e) {
  VB_TRY(check_is_test(n));
  const auto constant_is = [&](size_t i, auto zero) {
    if (n.input(i) == kAbsent) return true;
    const Tensor* t = e.constant_of(n.input(i));
    return t != nullptr && t->dtype() == dtype_of<decltype(zero)>() && t->elements() == 1 &&
           t->data<decltype(zero)>()[0] == zero;
  };
  const bool keeps_all = n.input(1) != kAbsent && constant_is(1, 0.0f);
  if (n.version >= 12 && !constant_is(2, false) && !keeps_all) {
    if (constant_is(2, true) && n.input(1) == kAbsent)
      return unsupported("Dropout in training mode: it is random");
    n.attributes.erase("seed");
    return emit(std::move(n), e);
  }
  Values values = {n.input(0)};
  if (n.outputs > 1) {
    VB_ASSIGN(Tensor yes, Tensor::from<bool>(Shape{1}, std::array{true}));
    const ValueId shape = e.emit("Shape", {n.input(0)}, {}, n.name);
    const ValueId mask = e.emit("ConstantOfShape", {shape}, {{"value", yes}}, n.name);
    const bool is_bool = n.version >= 10;  // else of x's type
    values.push_back(is_bool ? mask : e.emit("CastLike", {mask, n.input(0)}, {}, n.name));
  }
  return values;
}

Result<Values> lower_constant(SourceNode n, Emitter& e) {
  const std::string& name = n.name;
  for (const auto& [key, value] : n.attributes.map()) {
    if (key == "value" && std::holds_alternative<Tensor>(value))
      return Values{e.constant(name, std::get<Tensor>(value))};
    if (key == "value_float" && std::holds_alternative<float>(value))
      return Values{scalar(e, name, std::get<float>(value))};
    if (key == "value_ints" && std::holds_alternative<std::vector<int64_t>>(value))
      return Values{integers(e, name, std::get<std::vector<int64_t>>(value))};
    if (key == "value_int" && std::holds_alternative<int64_t>(value)) {
      VB_ASSIGN(Tensor t, Tensor::scalar(std::get<int64_t>(value)));
      return Values{e.constant(name, t)};
    }
    if (key == "value_floats" && std::holds_alternative<std::vector<float>>(value)) {
      const auto& values = std::get<std::vector<float>>(value);
      VB_ASSIGN(Tensor t, Tensor::from<float>(Shape{static_cast<int64_t>(values.size())}, values));
      return Values{e.constant(name, t)};
    }
  }
  return unsupported("Constant of a string, a sparse tensor or nothing");
}

// `b` with dimensions of 1 behind its own, so that its first falls on dimension `axis` of `a`.
Result<ValueId> align(ValueId a, ValueId b, int64_t axis, const std::string& name, Emitter& e) {
  const int a_rank = e.rank_of(a), b_rank = e.rank_of(b);
  if (axis < 0 || (a_rank >= 0 && b_rank >= 0 && axis > a_rank - b_rank))
    return unsupported("broadcasting at axis " + std::to_string(axis));
  if (a_rank >= 0 && b_rank >= 0) {
    std::vector<int64_t> trailing;
    for (int64_t i = b_rank; i < a_rank - axis; ++i) trailing.push_back(i);
    return e.emit("Unsqueeze", {b, integers(e, name + "/axes", trailing)}, {}, name);
  }
  const auto size = [&](ValueId shape) { return e.emit("Shape", {shape}, {}, name); };
  VB_ASSIGN(const Tensor one, Tensor::from<int64_t>(Shape{1}, std::array<int64_t, 1>{1}));
  const ValueId shape = size(b), behind = e.emit("Shape", {a}, {{"start", axis}}, name),
                count = e.emit("Sub", {size(behind), size(shape)}, {}, name),
                ones = e.emit("ConstantOfShape", {count}, {{"value", one}}, name),
                wanted = e.emit("Concat", {shape, ones}, {{"axis", int64_t{0}}}, name);
  return e.emit("Reshape", {b, wanted}, {{"allowzero", int64_t{1}}}, name);
}

// Operands of arithmetic before operator set 7 broadcast only when told, the second aligned at
// `axis` of the first.
Result<Values> lower_binary(SourceNode n, Emitter& e) {
  if (n.version < 7 && n.attributes.has("axis")) {
    VB_ASSIGN(const int64_t axis, n.attributes.require<int64_t>("axis"));
    VB_ASSIGN(const ValueId aligned, align(n.input(0), n.input(1), axis, n.name, e));
    set_input(n, 1, aligned);
  }
  n.attributes.erase("axis");
  n.attributes.erase("broadcast");
  return emit(std::move(n), e);
}

// PRelu before operator set 7: a slope for each channel, which is dimension 1, or one for all.
Result<Values> lower_prelu(SourceNode n, Emitter& e) {
  const Tensor* slope = e.constant_of(n.input(1));
  if (n.version < 7 && (slope == nullptr || slope->elements() != 1)) {
    const ValueId flat =
        e.emit("Reshape", {n.input(1), integers(e, n.name + "/slopes", {-1})}, {}, n.name);
    e.set_dims(flat, {-1});
    VB_ASSIGN(const ValueId aligned, align(n.input(0), flat, 1, n.name, e));
    set_input(n, 1, aligned);
  }
  return emit(std::move(n), e);
}

Result<Values> lower_gemm(SourceNode n, Emitter& e) {
  n.attributes.erase("broadcast");  // C has broadcast one way ever since
  return emit(std::move(n), e);
}

Result<Values> lower_scatter(SourceNode n, Emitter& e) {
  n.op = "ScatterElements";
  return emit(std::move(n), e);
}

// The scales of Upsample, which were two attributes (operator set 1), one (7) and an input (9).
Result<ValueId> scales_of(SourceNode& n, Emitter& e) {
  std::vector<float> values;
  if (n.version < 7) {
    VB_ASSIGN(const float height, n.attributes.require<float>("height_scale"));
    VB_ASSIGN(const float width, n.attributes.require<float>("width_scale"));
    values = {1, 1, height, width};
  } else if (n.attributes.has("scales")) {
    VB_ASSIGN(values, n.attributes.require<std::vector<float>>("scales"));
  } else {
    return n.input(1);
  }
  for (const char* attribute : {"height_scale", "width_scale", "scales"})
    n.attributes.erase(attribute);
  VB_ASSIGN(Tensor t, Tensor::from<float>(Shape{static_cast<int64_t>(values.size())}, values));
  return e.constant(n.name + "/scales", t);
}

// Upsample, and Resize of operator set 10: positions scale about the origin. Nearest rounds down,
// and where an axis shrinks, which Upsample's do not, up: so that operator set's own case has it.
Result<Values> lower_resize(SourceNode n, Emitter& e) {
  if (n.op != "Upsample" && n.version >= 11) return emit(std::move(n), e);
  VB_ASSIGN(const std::string mode, n.attributes.get<std::string>("mode", "nearest"));
  VB_ASSIGN(ValueId scales, scales_of(n, e));
  if (mode == "bilinear") n.attributes.set("mode", std::string("linear"));
  const Tensor* known = e.known(scales);
  const bool grows = n.op == "Upsample" || mode != "nearest" ||
                     (known != nullptr && known->dtype() == DType::f32 &&
                      std::ranges::none_of(known->data<float>(), [](float s) { return s < 1; }));
  n.op = "Resize";
  n.attributes.set("coordinate_transformation_mode", std::string("asymmetric"));
  n.attributes.set("nearest_mode", std::string("floor"));
  if (grows) {
    n.inputs = {n.input(0), kAbsent, scales};
    return emit(std::move(n), e);
  }
  // First the axes that grow, then those that shrink: nearest takes an axis at a time.
  const ValueId one = scalar(e, n.name + "/one", 1), up = e.emit("Max", {scales, one}, {}, n.name),
                down = e.emit("Min", {scales, one}, {}, n.name),
                grown = e.emit("Resize", {n.input(0), kAbsent, up}, n.attributes, n.name);
  n.attributes.set("nearest_mode", std::string("ceil"));
  n.inputs = {grown, kAbsent, down};
  return emit(std::move(n), e);
}

// Concat of operator set 1 to 3: an axis need not be given.
Result<Values> lower_concat(SourceNode n, Emitter& e) {
  if (n.version < 4 && !n.attributes.has("axis")) n.attributes.set("axis", int64_t{1});
  return emit(std::move(n), e);
}

// Selu before operator set 6: defaults of four digits.
Result<Values> lower_selu(SourceNode n, Emitter& e) {
  if (n.version < 6)
    for (const auto& [constant, value] : {std::pair("alpha", 1.6732f), {"gamma", 1.0507f}})
      if (!n.attributes.has(constant)) n.attributes.set(constant, value);
  return emit(std::move(n), e);
}

// LpPool and GlobalLpPool of operator set 1: p is a float.
Result<Values> lower_lp_pool(SourceNode n, Emitter& e) {
  if (n.version < 2 && n.attributes.has("p")) {
    VB_ASSIGN(const float p, n.attributes.require<float>("p"));
    if (!(p >= 1 && p <= 64) || static_cast<float>(static_cast<int64_t>(p)) != p)
      return unsupported(n.op + " of operator set 1 with p = " + std::to_string(p));
    n.attributes.set("p", static_cast<int64_t>(p));
  }
  return emit(std::move(n), e);
}

Result<Values> lower_tile(SourceNode n, Emitter& e) {
  if (n.version < 6) return unsupported("Tile of operator set 1, along one axis");
  return emit(std::move(n), e);
}

// OneHot before operator set 11: a negative index is out of range, as one from `depth` on is.
Result<Values> lower_one_hot(SourceNode n, Emitter& e) {
  if (n.version >= 11 || n.inputs.size() != 3) return emit(std::move(n), e);
  const std::string& name = n.name;
  const Attributes to{{"to", static_cast<int64_t>(DType::i64)}};
  VB_ASSIGN(const Tensor none, Tensor::scalar(int64_t{0}));
  const ValueId x = e.emit("Cast", {n.input(0)}, to, name), zero = e.constant(name + "/zero", none),
                depth =
                    e.emit("Reshape", {n.input(1), integers(e, name + "/scalar", {})}, {}, name),
                beyond = e.emit("Cast", {depth}, to, name),
                is_negative = e.emit("Less", {x, zero}, {}, name);
  n.inputs[0] = e.emit("Where", {is_negative, beyond, x}, {}, name);
  return emit(std::move(n), e);
}

Result<Values> lower_batch_normalization(SourceNode n, Emitter& e) {
  VB_ASSIGN(const int64_t spatial, n.attributes.get<int64_t>("spatial", 1));
  if (spatial != 1) return unsupported("BatchNormalization over single elements (spatial = 0)");
  if (n.version < 14 && n.outputs > 1)
    return unsupported("BatchNormalization in training mode before operator set 14");
  VB_TRY(check_is_test(n));
  n.attributes.erase("spatial");
  return emit(std::move(n), e);
}

Result<Values> lower_roi_align(SourceNode n, Emitter& e) {
  if (n.version < 16)
    n.attributes.set("coordinate_transformation_mode", std::string("output_half_pixel"));
  return emit(std::move(n), e);
}

Result<Values> lower_grid_sample(SourceNode n, Emitter& e) {
  VB_ASSIGN(const std::string mode, n.attributes.get<std::string>("mode", "linear"));
  if (mode == "bilinear") n.attributes.set("mode", std::string("linear"));
  if (mode == "bicubic") n.attributes.set("mode", std::string("cubic"));
  return emit(std::move(n), e);
}

// SoftmaxCrossEntropyLoss = NegativeLogLikelihoodLoss of LogSoftmax over axis 1.
Result<Values> lower_cross_entropy(SourceNode n, Emitter& e) {
  const ValueId log_probability =
      e.emit("LogSoftmax", {n.input(0)}, {{"axis", int64_t{1}}}, n.name);
  const bool wants_log = n.outputs > 1;
  n.op = "NegativeLogLikelihoodLoss";
  n.inputs[0] = log_probability;
  n.outputs = 1;
  VB_ASSIGN(Values values, emit(std::move(n), e));
  if (wants_log) values.push_back(log_probability);
  return values;
}

// DFT before operator set 20: the axis as an attribute, 1 by default.
Result<Values> lower_dft(SourceNode n, Emitter& e) {
  if (n.version < 20) {
    VB_ASSIGN(const int64_t axis, n.attributes.get<int64_t>("axis", 1));
    VB_ASSIGN(const Tensor t, Tensor::scalar(axis));
    set_input(n, 2, e.constant(n.name + "/axis", t));
    n.attributes.erase("axis");
  }
  return emit(std::move(n), e);
}

using LowerFn = Result<Values> (*)(SourceNode, Emitter&);

const std::map<std::string_view, LowerFn>& rules() {
  static const std::map<std::string_view, LowerFn> table = [] {
    std::map<std::string_view, LowerFn> t = {
        {"Split", lower_split},
        {"Concat", lower_concat},
        {"Selu", lower_selu},
        {"LpPool", lower_lp_pool},
        {"GlobalLpPool", lower_lp_pool},
        {"Tile", lower_tile},
        {"OneHot", lower_one_hot},
        {"PRelu", lower_prelu},
        {"Reshape", lower_reshape},
        {"Slice", lower_slice},
        {"TopK", lower_top_k},
        {"Clip", lower_clip},
        {"Pad", lower_pad},
        {"Cast", lower_cast},
        {"Identity", lower_identity},
        {"Dropout", lower_dropout},
        {"Constant", lower_constant},
        {"Gemm", lower_gemm},
        {"Scatter", lower_scatter},
        {"Upsample", lower_resize},
        {"Resize", lower_resize},
        {"RoiAlign", lower_roi_align},
        {"GridSample", lower_grid_sample},
        {"DFT", lower_dft},
        {"BatchNormalization", lower_batch_normalization},
        {"SoftmaxCrossEntropyLoss", lower_cross_entropy},
    };
    for (const char* op : {"Softmax", "LogSoftmax", "Hardmax"}) t[op] = lower_softmax;
    for (const char* op : {"Optional", "OptionalHasElement", "OptionalGetElement"})
      t[op] = lower_optional;
    for (const char* op :
         {"Squeeze", "Unsqueeze", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd",
          "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"})
      t[op] = lower_axes;
    for (const char* op :
         {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"})
      t[op] = lower_binary;
    return t;
  }();
  return table;
}

}  // namespace

std::string DistinctNames::next(const std::string& name) {
  const auto [it, fresh] = numbers_.try_emplace(name, 2);
  if (fresh) return name;
  while (true) {
    std::string numbered = name + "#" + std::to_string(it->second++);
    if (numbers_.try_emplace(numbered, 2).second) return numbered;
  }
}

ValueId Emitter::constant(const std::string& name, Tensor tensor) {
  if (outer_ != nullptr) return reach(root(), root().constant(name, std::move(tensor)), name);
  const ValueId value = builder_.constant(constant_names_.next(name), tensor);
  set_dims(value, {tensor.shape().dims().begin(), tensor.shape().dims().end()});
  constants_.emplace(value, std::move(tensor));
  return value;
}

ValueId Emitter::input(const std::string& name, DType dtype, std::vector<int64_t> dims) {
  const ValueId value = builder_.input(name, dtype, dims);
  set_dims(value, std::move(dims));
  return value;
}

ValueId Emitter::reach(const Emitter& owner, ValueId value, const std::string& name) {
  if (&owner == this) return value;
  if (is_sequence(value)) return kOutside;
  const ValueId outside = outer_->reach(owner, value, name);
  const auto [it, fresh] = captured_.try_emplace(outside, kAbsent);
  if (!fresh) return it->second;
  it->second = builder_.body_input(name);
  captures_.push_back({outside, name});
  if (const Tensor* t = outer_->constant_of(outside)) constants_.emplace(it->second, *t);
  if (const Tensor* t = outer_->known(outside)) known_.emplace(it->second, *t);
  if (const auto* dims = outer_->dims_of(outside)) set_dims(it->second, *dims);
  return it->second;
}

ValueId Emitter::emit(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
                      const std::string& name, int outputs, std::string_view domain) {
  Node node;
  node.op = op;
  node.domain = domain;
  node.attributes = attributes;
  node.inputs = inputs;
  const ValueId first =
      builder_.add(op, domain, std::move(inputs), std::move(attributes), name, outputs);
  for (int i = 0; i < outputs; ++i) node.outputs.push_back(first + i);
  evaluate(node);
  return first;
}

// From small tensors to small ones: broadcasting and Gather would make large ones of them, and a
// file of many such nodes would take many times its size.
void Emitter::evaluate(const Node& node) {
  constexpr std::string_view kOperators[] = {
      "Reshape", "Squeeze",     "Unsqueeze", "Gather",         "Slice", "Concat", "Cast",
      "Shape",   "Size",        "Equal",     "Less",           "Not",   "And",    "Or",
      "Greater", "LessOrEqual", "Xor",       "GreaterOrEqual", "Add",   "Sub",    "Mul"};
  if (!node.domain.empty() || std::ranges::find(kOperators, node.op) == std::end(kOperators))
    return;
  std::vector<Tensor> inputs;
  for (const ValueId v : node.inputs) {
    const Tensor* t = v == kAbsent ? nullptr : known(v);
    if (v != kAbsent && (t == nullptr || t->elements() > kMaxElements)) return;
    inputs.push_back(t == nullptr ? Tensor() : *t);
  }
  const FloatGuard guard;
  const SmallTensors small;
  const Result<Tensors> outputs = evaluate_reference(node, inputs);
  if (!outputs.ok()) return;  // it is an error of the run
  for (size_t i = 0; i < outputs->size() && i < node.outputs.size(); ++i)
    keep(node.outputs[i], (*outputs)[i]);
}

void Emitter::keep(ValueId value, const Tensor& tensor) {
  int64_t& kept = root().kept_;
  if (tensor.elements() > kMaxKept - kept) return;
  kept += tensor.elements();
  known_.emplace(value, tensor);
}

const Tensor* Emitter::known(ValueId value) const {
  const auto it = known_.find(value);
  return it == known_.end() ? constant_of(value) : &it->second;
}

const Tensor* Emitter::constant_of(ValueId value) const {
  const auto it = constants_.find(value);
  return it == constants_.end() ? nullptr : &it->second;
}

const std::vector<int64_t>* Emitter::dims_of(ValueId value) const {
  const auto it = dims_.find(value);
  return it == dims_.end() ? nullptr : &it->second;
}

int Emitter::rank_of(ValueId value) const {
  const std::vector<int64_t>* dims = dims_of(value);
  return dims == nullptr ? -1 : static_cast<int>(dims->size());
}

Status Emitter::spend_elements(size_t count) {
  int64_t& listed = root().listed_;
  if (static_cast<int64_t>(count) > kMaxListed - listed)
    return over_limit("sequences of more than " + std::to_string(kMaxListed) + " elements");
  listed += static_cast<int64_t>(count);
  return {};
}

Result<ValueId> Emitter::sequence(std::vector<ValueId> elements) {
  VB_TRY(spend_elements(elements.size()));
  sequences_.push_back(std::move(elements));
  return kAbsent - static_cast<ValueId>(sequences_.size());
}

const std::vector<ValueId>* Emitter::sequence_of(ValueId value) const {
  if (!is_sequence(value) || value == kOutside) return nullptr;
  return &sequences_[static_cast<size_t>(kAbsent - 1 - value)];
}

Result<Values> lower(SourceNode node, Emitter& emitter) {
  node.attributes.erase("consumed_inputs");  // a hint of the first operator sets
  for (std::string_view prefix : {"Random", "Bernoulli", "Multinomial"})
    if (node.op.starts_with(prefix))
      return unsupported("'" + printable(node.op) + "': its results are not defined by its inputs");
  if (is_sequence_operator(node.op)) return lower_sequence(node, emitter);
  const auto rule = rules().find(node.op);
  const bool passes_on =
      rule != rules().end() && (rule->second == lower_identity || rule->second == lower_optional);
  if (!passes_on && std::ranges::any_of(node.inputs, Emitter::is_sequence))
    return unsupported("a sequence as an input of " + printable(node.op));
  return rule == rules().end() ? emit(std::move(node), emitter)
                               : rule->second(std::move(node), emitter);
}

}  // namespace verbatim::onnx
