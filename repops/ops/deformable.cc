// DeformConv, a convolution whose taps read between elements, and Col2Im, which adds windows back
// into an image.
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/interpolation.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/window.h>

namespace verbatim {
namespace {

// --- DeformConv
// -------------------------------------------------------------------------------------------------------------

struct Deformation {
  Window window;
  int64_t groups = 1, offset_groups = 1;
  int64_t in_channels = 0, out_channels = 0;  // of one group
  int64_t k_size() const { return in_channels * window.taps(); }
};

// [batch, channels, the window's output...]
bool has_shape(const Tensor& t, const Window& w, int64_t batch, int64_t channels) {
  bool fits = t.rank() == w.rank + 2 && t.dim(0) == batch && t.dim(1) == channels;
  for (int d = 0; fits && d < w.rank; ++d) fits = t.dim(d + 2) == w.output[d];
  return fits;
}

Result<Deformation> read_deformation(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[1], &offset = inputs[2], bias = input_or_none(inputs, 3),
               mask = input_or_none(inputs, 4);
  const auto mismatch = [&] {
    return bad_input("x " + x.describe() + ", weights " + w.describe() + ", offset " +
                     offset.describe() + ", bias " + bias.describe() + ", mask " + mask.describe());
  };
  for (const Tensor& t : inputs)
    if (t.defined() && t.dtype() != x.dtype()) return mismatch();
  Deformation s;
  VB_ASSIGN(s.groups, node.attributes.get<int64_t>("group", 1));
  VB_ASSIGN(s.offset_groups, node.attributes.get<int64_t>("offset_group", 1));
  if (x.rank() < 3 || w.rank() != x.rank() || s.groups < 1 || s.offset_groups < 1 ||
      x.dim(1) % s.groups != 0 || x.dim(1) % s.offset_groups != 0 || w.dim(0) % s.groups != 0)
    return mismatch();
  s.in_channels = x.dim(1) / s.groups;
  s.out_channels = w.dim(0) / s.groups;
  std::vector<int64_t> kernel = dims_of(w);
  kernel.erase(kernel.begin(), kernel.begin() + 2);
  VB_ASSIGN(const auto stated, node.attributes.get<std::vector<int64_t>>("kernel_shape", kernel));
  if (w.dim(1) != s.in_channels || stated != kernel) return mismatch();
  VB_ASSIGN(s.window, read_window(node, x, kernel));
  VB_ASSIGN(const int64_t sets, checked_multiply(s.offset_groups, s.window.taps()));
  VB_ASSIGN(const int64_t coordinates, checked_multiply(sets, s.window.rank));
  if (!has_shape(offset, s.window, x.dim(0), coordinates) ||
      (mask.defined() && !has_shape(mask, s.window, x.dim(0), sets)) ||
      (bias.defined() && (bias.rank() != 1 || bias.dim(0) != w.dim(0))))
    return mismatch();
  return s;
}

template <class T>
class DeformedColumn {
 public:
  using C = Compute<T>;

  DeformedColumn(const Deformation& s, std::span<const Tensor> inputs) : s_(s), inputs_(inputs) {
    int64_t step = 1;
    for (int d = s.window.rank - 1; d >= 0; step *= s.window.input[d--]) strides_[d] = step;
    values_.resize(static_cast<size_t>(s.k_size()));
  }

  // What the taps of output position `at` of group g read, in ascending K index (channel, tap).
  std::span<const C> read(int64_t n, int64_t g, int64_t at) {
    const int64_t taps = s_.window.taps();
    for (int64_t k = 0; k < s_.k_size(); ++k)
      values_[k] = value(n, g * s_.in_channels + k / taps, k % taps, at);
    return values_;
  }

 private:
  // Tap k of a channel: interpolated at (position - padding + k * dilation) + offset, elements
  // outside taking no part, then times the mask.
  C value(int64_t n, int64_t channel, int64_t tap, int64_t at) const {
    const Window& w = s_.window;
    const int64_t taps = w.taps(), positions = w.outputs(), channels = s_.groups * s_.in_channels,
                  set = channel / (channels / s_.offset_groups) * taps + tap;
    const T* offset =
        inputs_[2].data<T>().data() + (n * s_.offset_groups * taps + set) * w.rank * positions + at;
    std::array<AxisTaps<C>, kMaxRank> axes;
    int64_t o = at, k = tap;
    for (int d = w.rank - 1; d >= 0; --d) {
      const int64_t base =
          o % w.output[d] * w.stride[d] - w.pad_begin[d] + k % w.kernel[d] * w.dilation[d];
      axes[d] = linear_taps(static_cast<C>(base) + load(offset[d * positions]), w.input[d]);
      o /= w.output[d];
      k /= w.kernel[d];
    }
    const std::span<const AxisTaps<C>> all(axes.data(), static_cast<size_t>(w.rank));
    const C v = interpolate<T, C>(
        inputs_[0].data<T>().data() + (n * channels + channel) * w.inputs(), strides_, all);
    if (inputs_.size() < 5 || !inputs_[4].defined()) return v;
    return v * load(inputs_[4].data<T>()[(n * s_.offset_groups * taps + set) * positions + at]);
  }

  const Deformation& s_;
  std::span<const Tensor> inputs_;
  Strides strides_{};
  std::vector<C> values_;
};

// DeformConv(x [N, C, spatial...], w [O, C / group, kernel...], offset, bias?, mask?): the ordered
// product of what the taps read and the weights, as in Conv, then + bias.
Result<Tensors> deform_conv(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[1], bias = input_or_none(inputs, 3);
  VB_ASSIGN(const Deformation s, read_deformation(node, inputs));
  std::vector<int64_t> dims = {x.dim(0), w.dim(0)};
  for (int d = 0; d < s.window.rank; ++d) dims.push_back(s.window.output[d]);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  if (y.elements() == 0) return Tensors{y};
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const int64_t positions = s.window.outputs(), k_size = s.k_size(),
                  columns = x.dim(0) * s.groups * positions;
    const T* weights = w.data<T>().data();
    T* out = y.mutable_data<T>().data();
    const int64_t grain = scratch_grain(columns, 16, k_size * static_cast<int64_t>(sizeof(C)));
    parallel_for(columns, grain, [&](int64_t begin, int64_t end) {
      DeformedColumn<T> column(s, inputs);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i % positions, g = i / positions % s.groups,
                      n = i / positions / s.groups;
        const std::span<const C> values = column.read(n, g, at);
        for (int64_t m = g * s.out_channels; m < (g + 1) * s.out_channels; ++m) {
          const C* left = values.data();
          const T* right = weights + m * k_size;
          C v = ordered_product<C>(
              k_size, [&] { return *left++; }, [&] { return load(*right++); });
          if (bias.defined()) v = v + load(bias.data<T>()[m]);
          out[(n * w.dim(0) + m) * positions + at] = store<T>(v);
        }
      }
    });
    return Tensors{y};
  });
}

// As a convolution, and what each tap's interpolation takes.
uint64_t deform_conv_cost(const Node& node, std::span<const Tensor> inputs,
                          std::span<const Tensor>) {
  const Result<Deformation> s = read_deformation(node, inputs);
  if (!s.ok()) return 0;
  const auto taps = static_cast<uint64_t>(s->window.outputs()) *
                    static_cast<uint64_t>(inputs[0].dim(0) * s->groups);
  const auto corners = static_cast<uint64_t>(4 * s->window.rank + (2 << s->window.rank));
  return saturating_multiply(saturating_multiply(taps, static_cast<uint64_t>(s->k_size())),
                             2 * static_cast<uint64_t>(s->out_channels) + corners + 8);
}

// --- Col2Im
// -----------------------------------------------------------------------------------------------------------------

// Col2Im(x [N, C * block, L], image_shape, block_shape) -> [N, C, image...]: each element is the
// sum, from +0, of the windows' elements that lie on it, windows ascending; wrapping for integers.
Result<Tensors> col2im(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const auto image_shape, read_integers(inputs[1], "image_shape", kMaxRank - 2));
  VB_ASSIGN(const auto block, read_integers(inputs[2], "block_shape", kMaxRank - 2));
  const auto mismatch = [&] {
    return bad_input("x " + x.describe() + " for image_shape " + inputs[1].describe() +
                     " and block_shape " + inputs[2].describe());
  };
  if (x.rank() != 3 || image_shape.empty() || image_shape.size() != block.size()) return mismatch();
  int64_t taps = 1;
  for (const int64_t b : block) {
    VB_ASSIGN(taps, checked_multiply(taps, b));
  }
  if (taps < 1 || x.dim(1) % taps != 0) return mismatch();
  std::vector<int64_t> dims = {x.dim(0), x.dim(1) / taps};
  dims.insert(dims.end(), image_shape.begin(), image_shape.end());
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  VB_ASSIGN(const Window window, read_window(node, y, block));  // it slides over the image
  if (window.outputs() != x.dim(2)) return mismatch();
  return visit_number<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    VB_ASSIGN(Tensor sum, Tensor::zeros(dtype_of<C>(), shape));
    const int64_t positions = x.dim(2), pixels = window.inputs();
    const T* in = x.data<T>().data();
    C* image = sum.mutable_data<C>().data();
    for (int64_t plane = 0; plane < x.dim(1) / taps * x.dim(0); ++plane)
      for (int64_t at = 0; at < positions; ++at)
        window.for_each_tap(at, [&](int64_t tap, int64_t offset) {
          C& to = image[plane * pixels + offset];
          to = add_of(to, load(in[(plane * taps + tap) * positions + at]));
        });
    for (int64_t i = 0; i < y.elements(); ++i) y.mutable_data<T>()[i] = store<T>(image[i]);
    return Tensors{y};
  });
}

uint64_t col2im_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  return saturating_add(static_cast<uint64_t>(inputs[0].elements()),
                        static_cast<uint64_t>(outputs[0].elements()));
}

constexpr OpDef kOps[] = {
    {"", "DeformConv", 3, 5, 1, deform_conv, deform_conv_cost},
    {"", "Col2Im", 3, 3, 1, col2im, col2im_cost},
};

}  // namespace

std::span<const OpDef> deformable_ops() { return kOps; }

}  // namespace verbatim
