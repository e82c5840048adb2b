// The operator groups, one function for each file of this folder. op.cc joins them; nothing
// registers itself at start-up.
#pragma once

#include <span>

#include <verbatim/repops/op.h>

namespace verbatim {

std::span<const OpDef> elementwise_ops();  // elementwise.cc: arithmetic, comparison, Cast, Where
std::span<const OpDef> activation_ops();   // activation.cc: functions of one variable, activations
std::span<const OpDef>
movement_ops();  // movement.cc: Reshape, Transpose, Concat, Slice, Gather, ... no arithmetic
std::span<const OpDef>
indexing_ops();  // indexing.cc: the Gather and Scatter families, OneHot, Unique
std::span<const OpDef>
reduction_ops();  // reduction.cc: ReduceSum, ReduceMean, ArgMax, CumSum, TopK, ...
std::span<const OpDef> matmul_ops();  // matmul.cc: Linear, MatMul, Gemm
std::span<const OpDef>
normalization_ops();  // normalization.cc: Softmax, LayerNormalization, RMSNormalization, ...
std::span<const OpDef> attention_ops();  // attention.cc: Attention, RotaryEmbedding
std::span<const OpDef>
sparse_attention_ops();  // sparse_attention.cc: AttentionSparse, AttentionLevels
std::span<const OpDef>
onnx_attention_ops();                   // onnx_attention.cc: ONNX's Attention and RotaryEmbedding
std::span<const OpDef> sampling_ops();  // sampling.cc: Sample
std::span<const OpDef> sliced_ops();    // sliced.cc: Slices, SlicedLinear (family B)
std::span<const OpDef> convolution_ops();  // convolution.cc: Conv, ConvTranspose
std::span<const OpDef>
quantization_ops();  // quantization.cc: QuantizeLinear, DequantizeLinear, MatMulInteger, ...
std::span<const OpDef> pooling_ops();  // pooling.cc: MaxPool, AveragePool, LpPool, MaxUnpool
std::span<const OpDef> loss_ops();     // loss.cc: NegativeLogLikelihoodLoss
std::span<const OpDef>
statistics_ops();  // statistics.cc: BatchNormalization, GroupNormalization, LRN, ...
std::span<const OpDef> resize_ops();       // resize.cc: Resize
std::span<const OpDef> einsum_ops();       // einsum.cc: Einsum
std::span<const OpDef> recurrent_ops();    // recurrent.cc: RNN, GRU, LSTM
std::span<const OpDef> grid_ops();         // grid.cc: GridSample, AffineGrid
std::span<const OpDef> detection_ops();    // detection.cc: NonMaxSuppression, RoiAlign
std::span<const OpDef> deformable_ops();   // deformable.cc: DeformConv, Col2Im
std::span<const OpDef> determinant_ops();  // determinant.cc: Det
std::span<const OpDef>
linear_attention_ops();              // linear_attention.cc: LinearAttention, CausalConvWithState
std::span<const OpDef> ngram_ops();  // ngrams.cc: TfIdfVectorizer
std::span<const OpDef> control_flow_ops();  // control_flow.cc: If, Loop, Scan
std::span<const OpDef> signal_ops();     // signal.cc: DFT, STFT, HannWindow, ..., MelWeightMatrix
std::span<const OpDef> quantized_ops();  // quantized.cc: QuantizeRows, QuantizedLinear (family B)
std::span<const OpDef>
int8_attention_ops();  // int8_attention.cc: AttentionInt8, its cache (family B)
std::span<const OpDef>
tensor_core_attention_ops();  // tensor_core_attention.cc: AttentionTensorCore (family C)
std::span<const OpDef> tensor_core_ops();  // tensor_core.cc: TensorCoreLinear (family C)
std::span<const OpDef> grouped_ops();  // grouped.cc: QuantizeGroups, GroupedLinear, ... (family B)
std::span<const OpDef> fixed_point_ops();  // fixed_point.cc: ToFixed, FixedDot, ... (Q16.16)
std::span<const OpDef> gradient_ops();     // gradient.cc: SumTo, GatherGrad, GeluGrad, ...
std::span<const OpDef>
normalization_gradient_ops();  // normalization_gradient.cc: LayerNormalizationGrad, ...
std::span<const OpDef> attention_gradient_ops();  // attention_gradient.cc: AttentionGrad
std::span<const OpDef> optimizer_ops();           // optimizer.cc: SgdUpdate, AdamWUpdate

}  // namespace verbatim
