#include <verbatim/repops/ops/window.h>

namespace verbatim {
namespace {

constexpr int64_t kMaxExtent = int64_t{1} << 40;  // products of two sizes cannot overflow

// An attribute of one integer for each spatial dimension, in [least, 2^20].
Status read_sizes(const Node& node, const char* name, int rank, int64_t least, int64_t otherwise,
                  std::span<int64_t> out) {
  const std::vector<int64_t> defaults(static_cast<size_t>(rank), otherwise);
  VB_ASSIGN(const std::vector<int64_t> values,
            node.attributes.get<std::vector<int64_t>>(name, defaults));
  if (static_cast<int>(values.size()) != rank)
    return bad_input(std::string(name) + " has " + std::to_string(values.size()) + " values, not " +
                     std::to_string(rank));
  for (int64_t v : values)
    if (v < least || v > 1 << 20)
      return bad_input(std::string(name) + " holds " + std::to_string(v));
  std::ranges::copy(values, out.begin());
  return {};
}

// Padding and output size of one dimension of an ordinary window.
Status fit(Window& w, int d, const std::string& auto_pad, bool ceil_mode) {
  const int64_t extent = w.dilation[d] * (w.kernel[d] - 1) + 1;
  if (auto_pad == "VALID") w.pad_begin[d] = w.pad_end[d] = 0;
  if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
    w.output[d] = (w.input[d] + w.stride[d] - 1) / w.stride[d];
    const int64_t total =
        std::max<int64_t>(0, (w.output[d] - 1) * w.stride[d] + extent - w.input[d]);
    w.pad_begin[d] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
    w.pad_end[d] = total - w.pad_begin[d];
    return {};
  }
  const int64_t room = w.input[d] + w.pad_begin[d] + w.pad_end[d] - extent;
  if (room < 0)
    return bad_input("a kernel of extent " + std::to_string(extent) + " over " +
                     std::to_string(room + extent) + " elements");
  w.output[d] = (room + (ceil_mode ? w.stride[d] - 1 : 0)) / w.stride[d] + 1;
  // A last window that would start in the padding at the end is left out.
  if (ceil_mode && (w.output[d] - 1) * w.stride[d] >= w.input[d] + w.pad_begin[d]) --w.output[d];
  return {};
}

// The same of a transposed convolution; `wanted` is the output size asked for, or 0.
Status fit_transposed(Window& w, int d, const std::string& auto_pad, int64_t output_padding,
                      int64_t wanted) {
  const int64_t extent = w.dilation[d] * (w.kernel[d] - 1) + 1;
  const int64_t full = w.stride[d] * (w.input[d] - 1) + output_padding + extent;
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (auto_pad == "VALID") w.pad_begin[d] = w.pad_end[d] = 0;
  if (same || wanted > 0) {
    w.output[d] = wanted > 0 ? wanted : w.input[d] * w.stride[d];
    const int64_t total = std::max<int64_t>(0, full - w.output[d]);
    w.pad_begin[d] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
    w.pad_end[d] = total - w.pad_begin[d];
  } else {
    w.output[d] = full - w.pad_begin[d] - w.pad_end[d];
  }
  if (w.output[d] < 0 || w.input[d] == 0)
    return bad_input("output size " + std::to_string(w.output[d]) + " in spatial dimension " +
                     std::to_string(d));
  return {};
}

}  // namespace

Result<Window> read_window(const Node& node, const Tensor& x, std::span<const int64_t> kernel,
                           bool transposed) {
  Window w;
  w.rank = x.rank() - 2;
  w.transposed = transposed;
  if (w.rank < 1 || static_cast<int>(kernel.size()) != w.rank)
    return bad_input("a kernel of " + std::to_string(kernel.size()) + " dimensions over " +
                     x.describe());
  for (int d = 0; d < w.rank; ++d) {
    w.input[d] = x.dim(d + 2);
    w.kernel[d] = kernel[d];
    if (kernel[d] < 1 || kernel[d] > 1 << 20 || w.input[d] > kMaxExtent)
      return bad_input("kernel or operand " + x.describe());
  }
  VB_TRY(read_sizes(node, "strides", w.rank, 1, 1, w.stride));
  VB_TRY(read_sizes(node, "dilations", w.rank, 1, 1, w.dilation));
  VB_ASSIGN(const std::string auto_pad, node.attributes.get<std::string>("auto_pad", "NOTSET"));
  if (auto_pad != "NOTSET" && auto_pad != "VALID" && auto_pad != "SAME_UPPER" &&
      auto_pad != "SAME_LOWER")
    return bad_input("auto_pad '" + auto_pad + "'");
  std::array<int64_t, 2 * kMaxRank> pads{};
  VB_TRY(read_sizes(node, "pads", 2 * w.rank, 0, 0, pads));
  VB_ASSIGN(const int64_t ceil_mode, node.attributes.get<int64_t>("ceil_mode", 0));
  std::array<int64_t, kMaxRank> output_padding{}, output_shape{};
  if (transposed) {
    VB_TRY(read_sizes(node, "output_padding", w.rank, 0, 0, output_padding));
    VB_TRY(read_sizes(node, "output_shape", w.rank, 0, 0, output_shape));
  }
  for (int d = 0; d < w.rank; ++d) {
    w.pad_begin[d] = pads[d];
    w.pad_end[d] = pads[d + w.rank];
    if (transposed)
      VB_TRY(fit_transposed(w, d, auto_pad, output_padding[d], output_shape[d]));
    else
      VB_TRY(fit(w, d, auto_pad, ceil_mode != 0));
  }
  // Products of these sizes are taken without further checks.
  for (const auto& dims : {w.kernel, w.output})
    VB_TRY(Shape::of({dims.data(), static_cast<size_t>(w.rank)}).status());
  return w;
}

}  // namespace verbatim
