// The kernels behind CudaBackend: each launches, and waits for nothing.
#pragma once

#include <span>

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/kernels/kernel_backend.h>
#include <verbatim/repops/ops/row_codes.h>

namespace verbatim::cuda {

// What runs an operator that only the GPU has so; inputs lie where CudaBackend::place() puts them.
using OwnKernel = Outcome(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);

// elementwise.cu
Status map_unary(Gpu& gpu, UnaryKernel f, float parameter, DType x_type, const void* x,
                 DType y_type, void* y, int64_t n);
Status map_binary(Gpu& gpu, const Binary& p);
Status rotate(Gpu& gpu, const Rotation& p);
OwnKernel run_variadic;  // Max, Min and Sum, of float32
// functions.cu: elementary functions of one operand
bool is_function(const Node& node);
OwnKernel run_function;
// rows.cu
Status softmax(Gpu& gpu, DType type, const void* x, void* y, int64_t rows, int64_t n);
// Of the last axis, float32.
OwnKernel run_log_softmax;
Status layer_norm(Gpu& gpu, const RowNorm& p, int64_t rows);
Status rms_norm(Gpu& gpu, const RowNorm& p, int64_t rows);
Status l2_normalize(Gpu& gpu, const RowNorm& p, int64_t rows);
Status reduce(Gpu& gpu, const Reduction& p, int64_t results);
// products.cu: KernelBackend::multiply
Status multiply(Gpu& gpu, const Product& p, const MatrixView& b, int64_t m,
                std::span<const MatrixPair> pairs);

// convolution.cu: Conv and ConvTranspose of floats
OwnKernel run_convolution;

// pooling.cu: MaxPool without indices, AveragePool, and both of whole images
OwnKernel run_pool;

// attention.cu: Attention of one type of floats
OwnKernel run_attention;

// AttentionGrad, of float32
OwnKernel run_attention_gradient;

// sparse_attention.cu: of float32. Levels are the host's.
OwnKernel run_sparse_attention, run_attention_levels;

// int8_attention.cu
OwnKernel run_quantize_keys;
OwnKernel run_quantize_values;
OwnKernel run_int8_attention;
// Whether an operand of AttentionInt8Cached, on the host or the device, holds only what may be
// there.
Result<bool> admits_cache(Gpu& gpu, const Tensor& t);

// quantized.cu: of int8 codes, none of them -128
// RowCodes (repops/ops/row_codes.h) of device memory, of rows that quantizes() says yes to.
bool quantizes(int64_t n);
Status quantize_rows(Gpu& gpu, const RowCodes& p, int64_t rows);
OwnKernel run_quantize_rows;
OwnKernel run_quantized_linear;

// low_bit.cu: QuantizedLinear with group scales. Its weights' codes and group scales stay on the
// host, and what pack_low_bit() makes of them, on the device, is one input more, at kPackedLowBit;
// that is undefined where they are not packed: codes of 8 bits.
inline constexpr size_t kPackedLowBit = 6;
Result<Tensor> pack_low_bit(Gpu& gpu, const Tensor& codes, const Tensor& group_scales);
OwnKernel run_low_bit_linear;

// grouped.cu: groups of codes with floating scales; rows as long as quantizes() says
OwnKernel run_quantize_groups, run_dequantize_groups, run_grouped_linear;

// gradients.cu: what training adds
OwnKernel run_activation_gradient, run_norm_gradient, run_l2_gradient, run_sum_to,
    run_gather_gradient, run_loss, run_loss_gradient, run_sgd, run_adamw;

// sampling.cu: Sample, whose token is the host's
OwnKernel run_sample;

// sliced.cu: int8 slices
OwnKernel run_slices;
OwnKernel run_sliced_linear;
// Whether an operand of SlicedLinear, on the host or the device, holds only what may be there.
Result<bool> admits_slices(Gpu& gpu, const Tensor& t);

// tensor_core_product.cu: bf16 and fp16 by units of sm_90
OwnKernel run_tensor_core_linear;
// tensor_core_attention.cu: the same
OwnKernel run_tensor_core_attention;
// Whether the device's tensor cores give what the contract says of sm_90's, asked of them.
Result<bool> has_units_of_sm90(Gpu& gpu);
// The same of attention on them, by a backend that takes it to the device.
Result<bool> attends_as_sm90(Backend& backend);
// Whether the device's 2^t is near enough for weights of attention, of families B and C.
Result<bool> has_near_powers(Gpu& gpu);

// Calls f with a value of the type of a kernel's operands.
template <class F>
Status visit_storage(DType type, F&& f) {
  if (type == DType::bf16) return f(BFloat16{});
  if (type == DType::f16) return f(Half{});
  return f(float{});
}

}  // namespace verbatim::cuda
