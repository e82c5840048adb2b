// The kernels of one target, as kernels.h's table lists them.
#pragma once

#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/kernels/cpu/simd.h>

namespace verbatim::VB_TARGET {

// product.cc
void product(const Product& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
             float* scratch);
size_t product_scratch(DType type, int64_t rows, int64_t panels);
void pack(const float* b, int64_t b_k, int64_t b_n, int64_t k_size, int64_t n_size, int64_t from,
          int64_t to, float* packed);
void pack(DType type, const void* b, int64_t b_k, int64_t b_n, int64_t k_size, int64_t n_size,
          int64_t from, int64_t to, void* packed);

// rows.cc
void softmax(DType type, const void* x, void* y, int64_t rows, int64_t n, float* scratch);
void layer_norm(const RowNorm& p, int64_t from, int64_t to);
void rms_norm(const RowNorm& p, int64_t from, int64_t to);
void l2_normalize(const RowNorm& p, int64_t from, int64_t to);

// reductions.cc
void reduce(const Reduction& p, int64_t from, int64_t to);

// attention.cc
void attend(const Attention& p, int64_t from, int64_t to, const KeyRange* visible, float* scratch);
size_t attention_scratch(int64_t rows, int64_t value_size, int64_t heads);
void mean_rows(const float* x, int64_t stride, int64_t rows, int64_t width, float* y);

// int8_attention.cc
void attend_int8(const Int8Attention& p, int64_t from, int64_t to, const KeyRange* visible,
                 float* scratch);
size_t int8_attention_scratch(int64_t rows, int64_t head_size, int64_t value_size);

// tensor_core_attention.cc
void attend_tensor_core(const TensorCoreAttention& p, int64_t from, int64_t to,
                        const KeyRange* visible, float* scratch);
size_t tensor_core_attention_scratch(int64_t rows, int64_t head_size, int64_t value_size);

// quantize_rows.cc
void quantize_rows(const RowCodes& p, int64_t from, int64_t to, float* scratch);
void rotate_back(float* x, int64_t n, int64_t rotation);

// sliced.cc
int64_t sliced_panel_bytes(int64_t k);
void sliced_pack(const int8_t* b, int64_t k, int64_t n, int64_t from, int64_t to, int8_t* packed);
void sliced_product(const SlicedProduct& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
                    float* scratch);
const char* sliced_way(const SlicedProduct& p);
SlicedTask sliced_task(const SlicedProduct& p);
int64_t sliced_copy_bytes(const SlicedProduct& p);
bool sliced_copy(const SlicedProduct& p, int64_t row, int64_t row_end, uint8_t* copies);
size_t sliced_scratch(const SlicedProduct& p, const SlicedTask& task);

// low_bit.cc
void low_bit_activations(const int8_t* x, int64_t k_size, int bits, int32_t* words);
void low_bit_product(const LowBitProduct& p, int64_t from, int64_t to);

// grouped.cc
inline constexpr int kGroupedPanel = kLanes == 8 ? kLanes : 2 * kLanes;  // columns
int64_t grouped_row_words(int64_t groups, int64_t steps, int bits);
void grouped_activations(const GroupedRow& row, int bits, int32_t* words);
void grouped_product(const GroupedProduct& p, int64_t row, int64_t row_end, int64_t from,
                     int64_t to, float* scratch);

// quantize_groups.cc
void quantize_groups(const GroupCodes& p, int64_t from, int64_t to, float* scratch);
void dequantize_groups(const GroupedRow& row, const float* row_scale, float* y);

// tensor_core.cc
void tensor_core_pack(const uint16_t* b, bool half, int least, int64_t k, int64_t n, int64_t from,
                      int64_t to, uint16_t* packed, int16_t* infos);
void tensor_core_product(const TensorCoreProduct& p, int64_t row, int64_t row_end, int64_t from,
                         int64_t to, float* scratch);
size_t tensor_core_scratch(int64_t k);

// fixed_point.cc
uint64_t fixed_norm(const int32_t* row, int64_t k_size);
void fixed_dots(const int32_t* a, int64_t rows, const int32_t* b, int64_t columns, int64_t k_size,
                int64_t* sums, int64_t stride);

// elementwise.cc
void map_unary(UnaryKernel f, float parameter, DType x_type, const void* x, DType y_type, void* y,
               int64_t n);
void map_binary(BinaryKernel f, DType type, const void* a, int a_step, const void* b, int b_step,
                void* y, int64_t n);
void rotate_halves(DType type, const void* x, const float* cosine, const float* sine, void* y,
                   int64_t half);

}  // namespace verbatim::VB_TARGET
