// The kernels behind CudaBackend: each launches, and waits for nothing.
#pragma once

#include <span>

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/kernels/kernel_backend.h>
#include <verbatim/repops/ops/row_codes.h>

namespace verbatim::cuda {

// elementwise.cu
Status map_unary(Gpu& gpu, UnaryKernel f, float parameter, DType x_type, const void* x,
                 DType y_type, void* y, int64_t n);
Status map_binary(Gpu& gpu, const Binary& p);
Status rotate(Gpu& gpu, const Rotation& p);
bool is_variadic(const Node& node);  // Max, Min and Sum, of float32
Outcome run_variadic(Gpu& gpu, const KernelBackend& backend, const Node& node,
                     std::span<const Tensor> inputs);
// functions.cu: elementary functions of one operand
bool is_function(const Node& node);
Outcome run_function(Gpu& gpu, const KernelBackend& backend, const Node& node,
                     std::span<const Tensor> inputs);
// rows.cu
Status softmax(Gpu& gpu, DType type, const void* x, void* y, int64_t rows, int64_t n);
// Of the last axis, float32.
Outcome run_log_softmax(Gpu& gpu, const KernelBackend& backend, const Node& node,
                        std::span<const Tensor> inputs);
Status layer_norm(Gpu& gpu, const RowNorm& p, int64_t rows);
Status rms_norm(Gpu& gpu, const RowNorm& p, int64_t rows);
Status l2_normalize(Gpu& gpu, const RowNorm& p, int64_t rows);
Status reduce(Gpu& gpu, const Reduction& p, int64_t results);
// products.cu: KernelBackend::multiply
Status multiply(Gpu& gpu, const Product& p, const MatrixView& b, int64_t m,
                std::span<const MatrixPair> pairs);

// convolution.cu: Conv and ConvTranspose of floats
bool is_convolution(const Node& node);
Outcome run_convolution(Gpu& gpu, const KernelBackend& backend, const Node& node,
                        std::span<const Tensor> inputs);

// pooling.cu: MaxPool without indices, AveragePool, and both of whole images
bool is_pool(const Node& node);
Outcome run_pool(Gpu& gpu, const KernelBackend& backend, const Node& node,
                 std::span<const Tensor> inputs);

// attention.cu: Attention of one type of floats
Outcome run_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                      std::span<const Tensor> inputs);

// AttentionGrad, of float32
Outcome run_attention_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                               std::span<const Tensor> inputs);

// int8_attention.cu
Outcome run_quantize_keys(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);
Outcome run_quantize_values(Gpu& gpu, const KernelBackend& backend, const Node& node,
                            std::span<const Tensor> inputs);
Outcome run_int8_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                           std::span<const Tensor> inputs);
// Whether an operand of AttentionInt8Cached, on the host or the device, holds only what may be
// there.
Result<bool> admits_cache(Gpu& gpu, const Tensor& t);

// quantized.cu: of int8 codes, none of them -128
// RowCodes (repops/ops/row_codes.h) of device memory, of rows that quantizes() says yes to.
bool quantizes(int64_t n);
Status quantize_rows(Gpu& gpu, const RowCodes& p, int64_t rows);
Outcome run_quantize_rows(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);
Outcome run_quantized_linear(Gpu& gpu, const KernelBackend& backend, const Node& node,
                             std::span<const Tensor> inputs);

// low_bit.cu: QuantizedLinear with group scales. Its weights' codes and group scales stay on the
// host, and what pack_low_bit() makes of them, on the device, is one input more, at kPackedLowBit;
// that is undefined where they are not packed: codes of 8 bits.
inline constexpr size_t kPackedLowBit = 6;
Result<Tensor> pack_low_bit(Gpu& gpu, const Tensor& codes, const Tensor& group_scales);
Outcome run_low_bit_linear(Gpu& gpu, const KernelBackend& backend, const Node& node,
                           std::span<const Tensor> inputs);

// gradients.cu: the kernel of a node of training, or null
using OwnKernel = Outcome (*)(Gpu& gpu, const KernelBackend& backend, const Node& node,
                              std::span<const Tensor> inputs);
OwnKernel find_gradient(const Node& node);

// sampling.cu: Sample, whose token is the host's
Outcome run_sample(Gpu& gpu, const KernelBackend& backend, const Node& node,
                   std::span<const Tensor> inputs);

// sliced.cu: int8 slices
Outcome run_slices(Gpu& gpu, const KernelBackend& backend, const Node& node,
                   std::span<const Tensor> inputs);
Outcome run_sliced_linear(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);
// Whether an operand of SlicedLinear, on the host or the device, holds only what may be there.
Result<bool> admits_slices(Gpu& gpu, const Tensor& t);

// tensor_core_product.cu: bf16 and fp16 by units of sm_90
Outcome run_tensor_core_linear(Gpu& gpu, const KernelBackend& backend, const Node& node,
                               std::span<const Tensor> inputs);
// tensor_core_attention.cu: the same
Outcome run_tensor_core_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                                  std::span<const Tensor> inputs);
// Whether the device's tensor cores give what the contract says of sm_90's, asked of them.
Result<bool> has_units_of_sm90(Gpu& gpu);
// The same of attention on them, by a backend that takes it to the device.
Result<bool> attends_as_sm90(Backend& backend);

// Calls f with a value of the type of a kernel's operands.
template <class F>
Status visit_storage(DType type, F&& f) {
  if (type == DType::bf16) return f(BFloat16{});
  if (type == DType::f16) return f(Half{});
  return f(float{});
}

}  // namespace verbatim::cuda
