// The table of kernels that each vector target fills. Kernels are plain functions over raw memory:
// shapes were checked, outputs allocated and work cut into tasks by their callers, which are
// compiled for the baseline processor. Inputs are aligned to their element only, and nothing
// outside them is read.
//
#pragma once

#include <cstddef>
#include <cstdint>

#include <verbatim/core/dtype.h>
#include <verbatim/kernels/operands.h>
#include <verbatim/repops/ops/key_rows.h>
#include <verbatim/repops/ops/row_codes.h>

namespace verbatim {

inline constexpr int64_t kProductRows = 192;  // most rows of one call of CpuKernels::product

// Attention of the queries of one batch entry to one head of keys and values, or the first of some,
// which `group` query heads share. Query t of head g is at q + t * q_stride + g * head_size, its
// result at out + t * out_stride + g * value_size; key i at k + rows[i] * k_stride, value i at v +
// rows[i] * v_stride.
template <class T>
struct AttentionOf {
  const T *q = nullptr, *k = nullptr, *v = nullptr;
  float* out = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0, out_stride = 0;
  KeyRows rows = {};
  int64_t group = 1, head_size = 0, value_size = 0;
  float scale = 0, softcap = 0;  // as in repops/ops/attention.h
};
inline constexpr int64_t kMostKvHeads = 8;  // of a task
struct Attention : AttentionOf<float> {
  // Of each block of keys, for all queries of a call (repops/ops/sparse_attention.h); null: all 1.
  const uint8_t* levels = nullptr;
  // Heads of keys; the next one's keys, values, queries and results lie beside the first one's.
  int64_t kv_heads = 1;
};
// Of codes (repops/ops/int8_attention.h), whose scales and exponents are [tokens, heads or
// kv_heads] and point to the first query head and to the head of keys.
struct Int8Attention : AttentionOf<int8_t> {
  const float *q_scales = nullptr, *k_scales = nullptr;
  const int32_t* v_exponents = nullptr;
  int64_t heads = 1, kv_heads = 1;
  float q_factor = 1;  // of q's scales: 1 / n of their rotation
  int64_t slices = 1;  // of weights: 1 or 2
};
struct KeyRange {  // the keys that a query sees; ends do not decrease from query to query
  int64_t begin, end;
};

// out [m, n] = the product of sliced rows (repops/ops/sliced.h), or of quantised ones
// (repops/ops/quantized.h), which have scales instead of powers of two and one slice; + bias [n]
// where given. Codes are never -128.
struct SlicedProduct {
  const int8_t* a = nullptr;        // a_count slices, each [m, k], a_slice apart
  const uint8_t* copies = nullptr;  // of a, by CpuKernels::sliced_copy
  const int8_t* b = nullptr;        // b_count slices, each packed by CpuKernels::sliced_pack
  // An exact sum times a_powers[row] * b_powers[column] is what is rounded: the powers of two of
  // both rows, NaN for one that is flagged. b_powers has a whole number of panels.
  const double *a_powers = nullptr, *b_powers = nullptr;
  const float *a_scales = nullptr, *b_scales = nullptr;  // the other form: the sum is rounded first
  int64_t a_count = 1, a_slice = 0, b_count = 1, m = 0, n = 0, k = 0;
  const float* bias = nullptr;
  float* out = nullptr;
};
struct SlicedTask {
  int64_t rows, panels;
  int64_t row_unit;  // rows are cut at its multiples
};

// A product with weights of 1 to 7 bits whose groups of 32 have integer scales
// (repops/ops/quantized.h). Weights lie in panels of CpuKernels::low_bit_panel columns:
// [panel][group][bit][column] words of 32 bits. A code of b bits is cut into fields of 4, 2 and 1
// bits, those that add up to b, low bits first; a field of w bits has w words a column, and byte i
// of word j holds it for the elements 4 (8 / w * j + s) + i, s = 0 .. 8 / w - 1, from its low bits
// on. So a register of words gives codes of 4 successive elements of each column by a shift and a
// mask (the layouts of Tilus, arXiv 2504.12984, have the same aim).
struct LowBitProduct {
  const int32_t* x = nullptr;  // rows [m, groups, kLowBitWords] from low_bit_activations
  const uint32_t* codes = nullptr;
  const uint8_t* group_scales = nullptr;  // [panel][group][column]; 0 for columns beyond n
  const float *x_scales = nullptr, *w_scales = nullptr;
  int bits = 0;
  int64_t m = 0, n = 0, groups = 0;
  const float* bias = nullptr;
  float* out = nullptr;  // [m, n]
};
inline constexpr int kLowBitGroup = 32;
inline constexpr int kLowBitMostBits = 7;
inline constexpr int kLowBitWords = 12;  // of a group of activations: 8 of codes, and sums of them

// A row of codes whose groups have scales (repops/ops/grouped.h).
struct GroupedRow {
  const int8_t* codes = nullptr;
  const uint8_t* scales = nullptr;
  const float* scale_values = nullptr;  // what each of the 256 scales stands for
  int64_t k = 0, group = 0;
};
// A product of such rows. A group is cut into steps of kGroupedStep codes, zeros where it ends.
// Weights lie in panels of CpuKernels::grouped_panel columns: [panel][group][step][word][column]
// words of 32 bits. Of 8 bits, code + 128, byte i of word j is element 4 j + i; of 4 bits, code +
// 8, its low bits are element 8 j + i and its high bits element 8 j + 4 + i. So a register of words
// gives 4 successive elements of each column by a shift and a mask.
struct GroupedProduct {
  const int32_t* x = nullptr;  // rows from grouped_activations, grouped_row_words each
  const int32_t* codes = nullptr;
  const uint16_t* scales = nullptr;  // bf16 [panel][group][column]: all scales are such numbers
  int bits = 8;
  int64_t m = 0, n = 0, groups = 0, steps = 0;  // steps: of a group
  // * (x_scales[row * x_scale_step] * w_scales[column * w_scale_step]), where not null; * power; +
  // bias, where not null.
  const float *x_scales = nullptr, *w_scales = nullptr;
  int64_t x_scale_step = 1, w_scale_step = 1;  // or 0
  float power = 1;
  const float* bias = nullptr;
  float* out = nullptr;  // [m, n]
};
inline constexpr int kGroupedStep = 16;
inline constexpr int64_t kGroupedRows = 96;  // most rows of one call of grouped_product

// A product as tensor cores compute it (docs/numerics.md, Family C): groups of `group` products,
// terms cut to `fraction` bits, sums to `kept`. Operands are bf16 codes (fp8 as such, which loses
// nothing) or fp16 codes.
struct TensorCoreProduct {
  const uint16_t* a = nullptr;     // [m, k]
  const uint16_t* b = nullptr;     // packed by CpuKernels::tensor_core_pack
  const int16_t* infos = nullptr;  // of b's panels, likewise
  int64_t n = 0, k = 0;
  bool half = false;             // the codes are fp16
  int least_a = 0, least_b = 0;  // biased exponent (as binary32's) of the operands' subnormals
  int group = 0, fraction = 0, kept = 0;
  int64_t split = 1, slice = 0;  // chains of `slice` elements, added ascending
  int64_t restart = 0;           // elements after which a slice's chain starts again, or 0
  float* out = nullptr;          // [m, n]
  // Computes out[row, column..column_end) exactly as defined: where exponents are extreme.
  void (*exactly)(const void* context, int64_t row, int64_t column, int64_t column_end) = nullptr;
  const void* context = nullptr;
};
inline constexpr int64_t kTensorCoreGroup = 32;  // K of packed operands is a multiple of this
inline constexpr int64_t kTensorCoreRows = 32;   // most rows of one call of tensor_core_product
inline constexpr int64_t kTensorCoreInfo = 4;    // numbers of a panel's info besides one a column

// Attention as tensor cores compute it (docs/numerics.md, Attention, family C), of bf16 or fp16
// codes.
struct TensorCoreAttention : AttentionOf<uint16_t> {
  bool half = false;       // fp16
  int product_group = 16;  // of products that a step adds: 16 or 8
  // Exactly as defined, where exponents are extreme: q . k, and acc + the weights [begin, end) of a
  // block by the values of one column, value i of the block at v + i * stride.
  float (*score)(const TensorCoreAttention& p, const uint16_t* q, const uint16_t* k) = nullptr;
  float (*weighted)(const TensorCoreAttention& p, float acc, const uint16_t* weights, int64_t begin,
                    int64_t end, const uint16_t* v, int64_t stride) = nullptr;
};

// A row of Q16.16 codes (repops/ops/fixed_point.h) whose sum of squares is this or more may have
// products beyond an int64.
inline constexpr uint64_t kWideFixedNorm = uint64_t{1} << 61;

struct CpuKernels {
  const char* name;

  // Packing: B [k, n] becomes panels of `panel` columns, the last one padded with zeros. Panel p is
  // packed + p * k * panel, row-major [k, panel].
  int64_t panel;
  // Panels [from, to) of B, whose element (k, n) is at b[k * b_k + n * b_n]; one of them is 1.
  void (*pack)(DType type, const void* b, int64_t b_k, int64_t b_n, int64_t k, int64_t n,
               int64_t from, int64_t to, void* packed);
  // Rows [row, row_end), at most kProductRows, of the columns of panels [from, to). `scratch` has
  // product_scratch(p.type, row_end - row, to - from) floats.
  void (*product)(const Product& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
                  float* scratch);
  size_t (*product_scratch)(DType type, int64_t rows, int64_t panels);

  // `scratch` has n floats; float32 needs none.
  void (*softmax)(DType type, const void* x, void* y, int64_t rows, int64_t n, float* scratch);
  void (*layer_norm)(const RowNorm& p, int64_t row, int64_t row_end);
  void (*rms_norm)(const RowNorm& p, int64_t row, int64_t row_end);
  void (*l2_normalize)(const RowNorm& p, int64_t row, int64_t row_end);
  // Results [from, to) of y.
  void (*reduce)(const Reduction& p, int64_t from, int64_t to);

  // Queries [from, to), visible[t - from] for each. `scratch` has attention_scratch(rows, ...)
  // floats, rows = (to - from) * group; p.kv_heads is at most kMostKvHeads.
  void (*attend)(const Attention& p, int64_t from, int64_t to, const KeyRange* visible,
                 float* scratch);
  size_t (*attention_scratch)(int64_t rows, int64_t value_size, int64_t heads);
  // y = the sum of rows x[i * stride], ascending, / their number.
  void (*mean_rows)(const float* x, int64_t stride, int64_t rows, int64_t width, float* y);
  // Likewise; what it writes is not turned back yet.
  void (*attend_int8)(const Int8Attention& p, int64_t from, int64_t to, const KeyRange* visible,
                      float* scratch);
  size_t (*int8_attention_scratch)(int64_t rows, int64_t head_size, int64_t value_size);
  void (*attend_tensor_core)(const TensorCoreAttention& p, int64_t from, int64_t to,
                             const KeyRange* visible, float* scratch);
  size_t (*tensor_core_attention_scratch)(int64_t rows, int64_t head_size, int64_t value_size);

  // Rows [from, to). `scratch` has n floats.
  void (*quantize_rows)(const RowCodes& p, int64_t from, int64_t to, float* scratch);
  // A row of n elements, rotated once more and divided by `rotation`: as before it was rotated.
  void (*rotate_back)(float* x, int64_t n, int64_t rotation);

  // One slice of B [n, k] becomes panels of sliced_panel rows, sliced_panel_bytes(k) each.
  int64_t sliced_panel;
  int64_t (*sliced_panel_bytes)(int64_t k);
  void (*sliced_pack)(const int8_t* b, int64_t k, int64_t n, int64_t from, int64_t to,
                      int8_t* packed);
  // The cpu_feature_names() beyond the target's own that multiplies codes; "" for none.
  const char* (*sliced_way)(const SlicedProduct& p);
  // Copies rows [row, row_end), cut as a task's, of all slices to `copies`, which has room for
  // sliced_copy_bytes(p). False: a code is out of range (repops/ops/sliced.h).
  int64_t (*sliced_copy_bytes)(const SlicedProduct& p);
  bool (*sliced_copy)(const SlicedProduct& p, int64_t row, int64_t row_end, uint8_t* copies);
  // What one call of sliced_product takes at most, if it is to be fast.
  SlicedTask (*sliced_task)(const SlicedProduct& p);
  // Rows [row, row_end) of the columns of panels [from, to). `scratch` has sliced_scratch(p, task)
  // floats, the task at least that large.
  void (*sliced_product)(const SlicedProduct& p, int64_t row, int64_t row_end, int64_t from,
                         int64_t to, float* scratch);
  size_t (*sliced_scratch)(const SlicedProduct& p, const SlicedTask& task);

  int64_t low_bit_panel;
  // A row of k int8 codes, for weights of that many bits: ceil(k / 32) times kLowBitWords words.
  void (*low_bit_activations)(const int8_t* x, int64_t k, int bits, int32_t* words);
  // All rows of the columns of panels [from, to).
  void (*low_bit_product)(const LowBitProduct& p, int64_t from, int64_t to);

  int64_t grouped_panel;
  // Words of an activation row, for weights of 4 or 8 bits, and the row in that form.
  int64_t (*grouped_row_words)(int64_t groups, int64_t steps, int bits);
  void (*grouped_activations)(const GroupedRow& row, int bits, int32_t* words);
  // Rows [row, row_end), at most kGroupedRows, of the columns of panels [from, to). `scratch` has
  // kGroupedRows * grouped_panel floats.
  void (*grouped_product)(const GroupedProduct& p, int64_t row, int64_t row_end, int64_t from,
                          int64_t to, float* scratch);
  // Rows [from, to). `scratch` has k floats.
  void (*quantize_groups)(const GroupCodes& p, int64_t from, int64_t to, float* scratch);
  // y = (code * scale) * *row_scale; null: code * scale.
  void (*dequantize_groups)(const GroupedRow& row, const float* row_scale, float* y);

  // B [n, k] becomes panels of tensor_core_panel rows: [panel][k / 2][row][2], zeros where k or n
  // end, and for each panel tensor_core_panel + kTensorCoreInfo numbers that say how to decode it.
  int64_t tensor_core_panel;
  void (*tensor_core_pack)(const uint16_t* b, bool half, int least, int64_t k, int64_t n,
                           int64_t from, int64_t to, uint16_t* packed, int16_t* infos);
  // Rows [row, row_end), at most kTensorCoreRows, of the columns of panels [from, to). `scratch`
  // has tensor_core_scratch(k) floats.
  void (*tensor_core_product)(const TensorCoreProduct& p, int64_t row, int64_t row_end,
                              int64_t from, int64_t to, float* scratch);
  size_t (*tensor_core_scratch)(int64_t k);

  // The sum of squares of a row of Q16.16 codes, or kWideFixedNorm where it is that or more.
  uint64_t (*fixed_norm)(const int32_t* row, int64_t k);
  // sums[r * stride + c] = the dot of rows a[r, k] and b[c, k], modulo 2^64: exact where both norms
  // are below kWideFixedNorm (Cauchy and Schwarz).
  void (*fixed_dots)(const int32_t* a, int64_t rows, const int32_t* b, int64_t columns, int64_t k,
                     int64_t* sums, int64_t stride);

  void (*map_unary)(UnaryKernel f, float parameter, DType x_type, const void* x, DType y_type,
                    void* y, int64_t n);
  // An operand with a step of 0 is one element for all.
  void (*map_binary)(BinaryKernel f, DType type, const void* a, int a_step, const void* b,
                     int b_step, void* y, int64_t n);
  // One head: pairs (i, i + half) turned by cosine[i] and sine[i], which are always floats.
  void (*rotate_halves)(DType type, const void* x, const float* cosine, const float* sine, void* y,
                        int64_t half);
};

namespace avx2 {
extern const CpuKernels kKernels;
}
namespace avx512 {
extern const CpuKernels kKernels;
}
namespace neon {
extern const CpuKernels kKernels;
}

}  // namespace verbatim
