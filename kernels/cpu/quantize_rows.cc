// QuantizeRows, QuantizeKeys and QuantizeValues: the reference's checks, with rows on vector units.
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/ops/int8_attention.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim {
namespace {

// What fails is not handled: the reference says what is wrong.
Outcome outcome_of(Result<Tensors> outputs) {
  if (!outputs.ok()) return not_handled();
  return done(*std::move(outputs));
}

}  // namespace

QuantizeRowsFn quantize_rows_fn(const CpuKernels& kernels) {
  return [&kernels](const RowCodes& rows, int64_t from, int64_t to) {
    kernels.quantize_rows(rows, from, to, thread_scratch(static_cast<size_t>(rows.n)));
  };
}

Outcome run_quantize_rows(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs) {
  return outcome_of(quantize_rows_of(node, inputs, quantize_rows_fn(backend.kernels())));
}

Outcome run_quantize_keys(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs) {
  return outcome_of(quantize_keys_of(node, inputs, quantize_rows_fn(backend.kernels())));
}

Outcome run_quantize_values(const CpuBackend& backend, const Node& node,
                            std::span<const Tensor> inputs) {
  return outcome_of(quantize_values_of(node, inputs, quantize_rows_fn(backend.kernels())));
}

}  // namespace verbatim
