// The finished table of one target.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>

#define VB_STRING_(x) #x
#define VB_STRING(x) VB_STRING_(x)

namespace verbatim::VB_TARGET {

constinit const CpuKernels kKernels = {
    .name = VB_STRING(VB_TARGET),
    .panel = kPanel,
    .pack = pack,
    .product = product,
    .product_scratch = product_scratch,
    .softmax = softmax,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .l2_normalize = l2_normalize,
    .reduce = reduce,
    .attend = attend,
    .attention_scratch = attention_scratch,
    .mean_rows = mean_rows,
    .attend_int8 = attend_int8,
    .int8_attention_scratch = int8_attention_scratch,
    .attend_tensor_core = attend_tensor_core,
    .tensor_core_attention_scratch = tensor_core_attention_scratch,
    .quantize_rows = quantize_rows,
    .rotate_back = rotate_back,
    .sliced_panel = kPanel,
    .sliced_panel_bytes = sliced_panel_bytes,
    .sliced_pack = sliced_pack,
    .sliced_way = sliced_way,
    .sliced_copy_bytes = sliced_copy_bytes,
    .sliced_copy = sliced_copy,
    .sliced_task = sliced_task,
    .sliced_product = sliced_product,
    .sliced_scratch = sliced_scratch,
    .low_bit_panel = kLanes,
    .low_bit_activations = low_bit_activations,
    .low_bit_product = low_bit_product,
    .grouped_panel = kGroupedPanel,
    .grouped_row_words = grouped_row_words,
    .grouped_activations = grouped_activations,
    .grouped_product = grouped_product,
    .quantize_groups = quantize_groups,
    .dequantize_groups = dequantize_groups,
    .tensor_core_panel = kLanes,
    .tensor_core_pack = tensor_core_pack,
    .tensor_core_product = tensor_core_product,
    .tensor_core_scratch = tensor_core_scratch,
    .fixed_norm = fixed_norm,
    .fixed_dots = fixed_dots,
    .map_unary = map_unary,
    .map_binary = map_binary,
    .rotate_halves = rotate_halves,
};

}  // namespace verbatim::VB_TARGET
