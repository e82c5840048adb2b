#include <verbatim/repops/ops/convolution.h>

#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

// The ordered products of one output position with a few output channels, their taps given in
// ascending K index. Taps are gathered until their block of 512 ends, so that nothing grows with
// the kernel.
template <class T>
class ColumnProduct {
 public:
  static constexpr int64_t kChannels = 64;

  // Channels [first, first + count) of group g, count at most kChannels.
  ColumnProduct(const Convolution& s, const T* w, int64_t g, int64_t first, int64_t count)
      : s_(s), w_(w), g_(g), first_(first), count_(count) {}

  void add(T value, int64_t k) {
    if (k / kProductBlock != block_) end_blocks(k / kProductBlock);
    values_[size_] = value;
    k_[size_++] = k;
  }
  // Once, after the last tap.
  void finish() { end_blocks((s_.k_size() + kProductBlock - 1) / kProductBlock); }
  Compute<T> total(int64_t channel) const { return totals_[channel]; }
  // All taps of an output position of `plane`.
  void add_all(const T* x, int64_t plane, int64_t position) {
    const int64_t pixels = s_.window.inputs(), taps = s_.window.taps();
    const T* in = x + plane * s_.in_channels * pixels;
    for (int64_t c = 0; c < s_.in_channels; ++c)
      s_.window.for_each_tap(position, [&](int64_t tap, int64_t offset) {
        add(in[c * pixels + offset], c * taps + tap);
      });
    finish();
  }

 private:
  // Adds the blocks [block_, end) to the totals: the gathered taps, and for the others +0.
  void end_blocks(int64_t end) {
    for (; block_ < end; ++block_, size_ = 0)
      for (int64_t m = 0; m < count_; ++m) {
        const T* value = values_.data();
        const int64_t* k = k_.data();
        const Compute<T> sum = ordered_product<Compute<T>>(
            size_, [&] { return load(*value++); },
            [&] { return load(w_[s_.weight(g_, first_ + m, *k++)]); });
        totals_[m] = block_ == 0 ? sum : add_of(totals_[m], sum);
      }
  }

  const Convolution& s_;
  const T* w_;
  int64_t g_, first_, count_;
  int64_t block_ = 0, size_ = 0;
  std::array<T, kProductBlock> values_;
  std::array<int64_t, kProductBlock> k_;
  std::array<Compute<T>, kChannels> totals_{};
};

template <class T>
void run(const Convolution& s, const T* x, const T* w, const T* bias, T* y) {
  const int64_t positions = s.window.outputs();
  parallel_for(s.batch * s.groups * positions, 16, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t position = i % positions, plane = i / positions, g = plane % s.groups;
      for (int64_t first = 0; first < s.out_channels; first += ColumnProduct<T>::kChannels) {
        const int64_t count = std::min(ColumnProduct<T>::kChannels, s.out_channels - first);
        ColumnProduct<T> product(s, w, g, first, count);
        product.add_all(x, plane, position);
        for (int64_t m = 0; m < count; ++m) {
          const int64_t channel = g * s.out_channels + first + m;
          Compute<T> v = product.total(m);
          if (bias != nullptr) v = add_of(v, load(bias[channel]));
          y[(plane * s.out_channels + first + m) * positions + position] = store<T>(v);
        }
      }
    }
  });
}

template <bool kTransposed>
Result<Tensors> convolution(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(Tensor y, convolve(node, inputs[0], inputs[1], inputs.size() > 2 ? inputs[2] : Tensor(),
                               kTransposed));
  return Tensors{y};
}

constexpr OpDef kOps[] = {
    {"", "Conv", 2, 3, 1, convolution<false>, convolution_cost},
    {"", "ConvTranspose", 2, 3, 1, convolution<true>, convolution_cost},
};

}  // namespace

Result<Convolution> plan_convolution(const Node& node, const Tensor& x, const Tensor& w,
                                     const Tensor& bias, bool transposed) {
  const auto mismatch = [&] {
    return bad_input("operand " + x.describe() + ", weights " + w.describe() +
                     (bias.defined() ? ", bias " + bias.describe() : ""));
  };
  if (x.rank() < 3 || w.rank() != x.rank() || w.dtype() != x.dtype()) return mismatch();
  const std::vector<int64_t> kernel = dims_of(w);
  VB_ASSIGN(const auto stated, node.attributes.get<std::vector<int64_t>>(
                                   "kernel_shape", {kernel.begin() + 2, kernel.end()}));
  if (!std::ranges::equal(stated, std::span(kernel).subspan(2)))
    return bad_input("kernel_shape differs from weights " + w.describe());
  Convolution s;
  s.transposed = transposed;
  s.batch = x.dim(0);
  VB_ASSIGN(s.groups, node.attributes.get<int64_t>("group", 1));
  if (s.groups < 1 || x.dim(1) % s.groups != 0)
    return bad_input("group = " + std::to_string(s.groups) + " for " + x.describe());
  s.in_channels = x.dim(1) / s.groups;
  s.out_channels = transposed ? w.dim(1) : w.dim(0) / s.groups;
  const bool fits =
      transposed ? w.dim(0) == x.dim(1) : w.dim(1) == s.in_channels && w.dim(0) % s.groups == 0;
  if (!fits) return mismatch();
  VB_ASSIGN(s.window, read_window(node, x, stated, transposed));
  VB_TRY(checked_multiply(s.out_channels, s.groups).status());
  if (bias.defined() &&
      (bias.dtype() != x.dtype() || !(bias.shape() == Shape{s.out_channels * s.groups})))
    return mismatch();
  return s;
}

Result<Shape> Convolution::output_shape() const {
  std::vector<int64_t> dims = {batch, groups * out_channels};
  for (int d = 0; d < window.rank; ++d) dims.push_back(window.output[d]);
  return Shape::of(dims);
}

float convolved(const Convolution& s, const float* x, const float* w, int64_t plane,
                int64_t channel, int64_t position) {
  ColumnProduct<float> product(s, w, plane % s.groups, channel, 1);
  product.add_all(x, plane, position);
  return product.total(0);
}

Result<Tensor> convolve(const Node& node, const Tensor& x, const Tensor& w, const Tensor& bias,
                        bool transposed) {
  VB_ASSIGN(const Convolution s, plan_convolution(node, x, w, bias, transposed));
  VB_ASSIGN(const Shape shape, s.output_shape());
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  if (y.elements() == 0) return y;
  const auto with = [&](auto type) -> Result<Tensor> {
    using T = decltype(type);
    run<T>(s, x.data<T>().data(), w.data<T>().data(),
           bias.defined() ? bias.data<T>().data() : nullptr, y.mutable_data<T>().data());
    return y;
  };
  if (x.dtype() == DType::i32) return with(int32_t{});
  return visit_float<Tensor>(x, with);
}

// Two operations for each weight and output position of its channel.
uint64_t convolution_cost(const Node&, std::span<const Tensor> inputs,
                          std::span<const Tensor> outputs) {
  const Tensor &w = inputs[1], &y = outputs[0];
  if (w.rank() == 0 || w.dim(0) == 0) return 0;
  return saturating_multiply(2 * static_cast<uint64_t>(y.elements()),
                             static_cast<uint64_t>(w.shape().elements(1, w.rank())));
}

std::span<const OpDef> convolution_ops() { return kOps; }

}  // namespace verbatim
