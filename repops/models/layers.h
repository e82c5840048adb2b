// What the model builders share: weights looked up by name and shape, and linear layers in the
// chosen precision. Internal.
#pragma once

#include <string>

#include <verbatim/core/fp_guard.h>
#include <verbatim/repops/graph.h>
#include <verbatim/repops/models/model.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim {

class LayerBuilder {
 public:
  LayerBuilder(const TensorMap& tensors, Precision precision)
      : tensors_(tensors), precision_(precision) {}

  GraphBuilder graph;

  // The tensor `name`, which must have this shape, as binary32. Kept as an error until finish()
  // where it is missing or wrong.
  ValueId weight(const std::string& name, const Shape& shape);
  // y = x W^T (+ b), with W [out, in] at name.weight and b [out] at name.bias. Where the precision
  // slices or quantises W, it does so here, once. A sensitive layer has weights of 8 bits in two
  // parts: errors of weights are the same for every token, and no average takes them out.
  enum class Role { usual, sensitive };
  ValueId linear(ValueId x, const std::string& name, int64_t in, int64_t out, bool bias,
                 Role role = Role::usual);
  // Attention of the precision's family; inputs and attributes are Attention's.
  ValueId attention(std::vector<ValueId> inputs, const std::string& name, Attributes attributes);
  ValueId add(std::string_view op, std::vector<ValueId> inputs, const std::string& name,
              Attributes attributes = {}) {
    return graph.add(op, "", std::move(inputs), std::move(attributes), name);
  }
  ValueId own(std::string_view op, std::vector<ValueId> inputs, const std::string& name,
              Attributes attributes = {}) {
    return graph.add(op, kVerbatimDomain, std::move(inputs), std::move(attributes), name);
  }
  template <class T>
  ValueId constant(const std::string& name, const Shape& shape, std::vector<T> values) {
    Result<Tensor> t = Tensor::from<T>(shape, values);
    if (!t.ok()) return fail(t.status());
    return graph.constant(name, *t);
  }
  ValueId fail(Status status);  // remembers the first error
  bool failed() const { return !error_.ok(); }
  Result<Graph> finish();

  bool is_fp32() const { return precision_.is_fp32(); }

 private:
  ValueId sliced_linear(ValueId x, const std::string& name, const Tensor& w, ValueId bias);
  ValueId quantized_linear(ValueId x, const std::string& name, const Tensor& w, ValueId bias,
                           Role role);
  ValueId quantized_product(ValueId codes, const std::string& name, const QuantizedWeights& w,
                            ValueId bias);
  ValueId quantized_rows(ValueId x, int64_t rotation, const std::string& name);
  ValueId tensor_core_linear(ValueId x, const std::string& name, const Tensor& w, ValueId bias);
  ValueId cast(ValueId x, const std::string& name, DType to) {
    return add("Cast", {x}, name, {{"to", static_cast<int64_t>(to)}});
  }
  FloatGuard guard_;  // constants are computed while a graph is built
  Result<Tensor> find(const std::string& name, const Shape& shape) const;
  const TensorMap& tensors_;
  Precision precision_;
  Status error_;
  std::map<std::string, ValueId> made_;  // a tied weight is one constant
  std::map<ValueId, ValueId> codes_of_;  // what several layers take is quantised once
};

// 16-bit and binary64 tensors as binary32: exact for the former, rounded once for the latter.
Result<Tensor> to_float32(const Tensor& t);

}  // namespace verbatim
