#include <verbatim/repops/models/layers.h>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/op.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim {

Result<Tensor> to_float32(const Tensor& t) {
  if (t.dtype() == DType::f32) return t;
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, t.shape()));
  return visit_float<Tensor>(t, [&](auto type) -> Result<Tensor> {
    using T = decltype(type);
    const T* in = t.data<T>().data();
    float* y = out.mutable_data<float>().data();
    parallel_for(t.elements(), 1 << 16, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) y[i] = canonical(static_cast<float>(load(in[i])));
    });
    return out;
  });
}

Result<Tensor> LayerBuilder::find(const std::string& name, const Shape& shape) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) return bad_input("the model has no tensor '" + name + "'");
  if (!(it->second.shape() == shape))
    return bad_input("tensor '" + name + "' is " + it->second.describe() +
                     ", the configuration says " + shape.to_string());
  Result<Tensor> t = to_float32(it->second);
  if (!t.ok()) return t.status().with_context("tensor '" + name + "'");
  return t;
}

ValueId LayerBuilder::weight(const std::string& name, const Shape& shape) {
  const auto it = made_.find(name);
  if (it != made_.end()) return it->second;
  Result<Tensor> t = find(name, shape);
  if (!t.ok()) return fail(t.status());
  return made_[name] = graph.constant(name, *std::move(t));
}

ValueId LayerBuilder::linear(ValueId x, const std::string& name, int64_t in, int64_t out, bool bias,
                             Role role) {
  const std::string weight_name = name + ".weight";
  const ValueId b = bias ? weight(name + ".bias", Shape{out}) : kAbsent;
  if (is_fp32()) {
    std::vector<ValueId> inputs = {x, weight(weight_name, Shape{out, in})};
    if (bias) inputs.push_back(b);
    return own("Linear", std::move(inputs), name);
  }
  const Result<Tensor> w = find(weight_name, Shape{out, in});
  if (!w.ok()) return fail(w.status());
  if (precision_.operands != DType::undefined) return tensor_core_linear(x, name, *w, b);
  return precision_.weight_bits > 0 ? quantized_linear(x, name, *w, b, role)
                                    : sliced_linear(x, name, *w, b);
}

ValueId LayerBuilder::attention(std::vector<ValueId> inputs, const std::string& name,
                                Attributes attributes) {
  if (precision_.operands != DType::undefined) {
    const DType type = is_float8(precision_.operands) ? DType::bf16 : precision_.operands;
    constexpr const char* kNames[] = {".query", ".key", ".value"};
    for (size_t i = 0; i < 3; ++i) inputs[i] = cast(inputs[i], name + kNames[i], type);
    attributes.set("output", static_cast<int64_t>(DType::f32));
    return own("AttentionTensorCore", std::move(inputs), name, std::move(attributes));
  }
  return own(precision_.weight_bits > 0 ? "AttentionInt8" : "Attention", std::move(inputs), name,
             std::move(attributes));
}

ValueId LayerBuilder::tensor_core_linear(ValueId x, const std::string& name, const Tensor& w,
                                         ValueId bias) {
  Attributes attributes;
  if (!is_float8(precision_.operands)) {
    Node node;
    node.op = "Cast";
    node.attributes.set("to", static_cast<int64_t>(precision_.operands));
    node.outputs = {0};
    const Result<Tensors> operand = evaluate_reference(node, {&w, 1});
    if (!operand.ok()) return fail(operand.status());
    const ValueId weights = graph.constant(
        name + ".weight." + std::string(name_of(precision_.operands)), (*operand)[0]);
    std::vector<ValueId> inputs = {cast(x, name + ".cast", precision_.operands), weights};
    if (bias != kAbsent) inputs.push_back(bias);
    return own("TensorCoreLinear", std::move(inputs), name);
  }
  const Result<QuantizedTensor> q = quantize_rows_float8(w);
  if (!q.ok()) return fail(q.status());
  const ValueId xq =
      graph.add("QuantizeRows", kVerbatimDomain, {x}, {{"to", static_cast<int64_t>(DType::f8e4m3)}},
                name + ".quantize", 2);
  if (precision_.precise) attributes.set("precise", int64_t{1});
  return own("TensorCoreLinear",
             {xq, graph.constant(name + ".weight.codes", q->codes), bias, xq + 1,
              graph.constant(name + ".weight.scales", q->scales)},
             name, std::move(attributes));
}

ValueId LayerBuilder::sliced_linear(ValueId x, const std::string& name, const Tensor& w,
                                    ValueId bias) {
  const Result<SlicedTensor> sliced = slice_tensor(w, precision_.weight_slices);
  if (!sliced.ok()) return fail(sliced.status());
  const ValueId xs =
      graph.add("Slices", kVerbatimDomain, {x}, {{"count", int64_t{precision_.activation_slices}}},
                name + ".slices", 2);
  std::vector<ValueId> inputs = {xs, xs + 1,
                                 graph.constant(name + ".weight.slices", sliced->slices),
                                 graph.constant(name + ".weight.exponents", sliced->exponents)};
  if (bias != kAbsent) inputs.push_back(bias);
  return own("SlicedLinear", std::move(inputs), name);
}

ValueId LayerBuilder::quantized_linear(ValueId x, const std::string& name, const Tensor& w,
                                       ValueId bias, Role role) {
  const int64_t rotation = rotation_block(w.dim(1));
  const ValueId codes = quantized_rows(x, rotation, name);
  if (role == Role::sensitive && precision_.weight_bits == 8) {
    const auto parts = quantize_weights_in_parts(w, rotation);
    if (!parts.ok()) return fail(parts.status());
    return add("Add",
               {quantized_product(codes, name, (*parts)[0], bias),
                quantized_product(codes, name + ".rest", (*parts)[1], kAbsent)},
               name + ".sum");
  }
  const Result<QuantizedWeights> q = quantize_weights(w, precision_.weight_bits, rotation);
  if (!q.ok()) return fail(q.status());
  return quantized_product(codes, name, *q, bias);
}

ValueId LayerBuilder::quantized_rows(ValueId x, int64_t rotation, const std::string& name) {
  const auto [it, is_new] = codes_of_.try_emplace(x);
  if (is_new)
    it->second = graph.add("QuantizeRows", kVerbatimDomain, {x}, {{"rotation", rotation}},
                           name + ".quantize", 2);
  return it->second;
}

ValueId LayerBuilder::quantized_product(ValueId codes, const std::string& name,
                                        const QuantizedWeights& w, ValueId bias) {
  std::vector<ValueId> inputs = {codes, codes + 1, graph.constant(name + ".weight.codes", w.codes),
                                 graph.constant(name + ".weight.scales", w.scales)};
  if (w.group_scales.defined())
    inputs.push_back(graph.constant(name + ".weight.group_scales", w.group_scales));
  if (bias != kAbsent) {
    if (inputs.size() == 4) inputs.push_back(kAbsent);
    inputs.push_back(bias);
  }
  return own("QuantizedLinear", std::move(inputs), name);
}

ValueId LayerBuilder::fail(Status status) {
  if (error_.ok()) error_ = std::move(status);
  return 0;  // never used: finish() returns the error
}

Result<Graph> LayerBuilder::finish() {
  if (!error_.ok()) return error_;
  return graph.finish();
}

}  // namespace verbatim
