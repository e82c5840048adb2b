#include <verbatim/repops/ops/convolution.h>

#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

struct Convolution {
  Window window;
  int64_t batch = 0, groups = 1;
  int64_t in_channels = 0, out_channels = 0;  // of one group
  bool transposed = false;

  int64_t k_size() const { return in_channels * window.taps(); }
  // The weight of output channel m of group g at K index k.
  int64_t weight(int64_t g, int64_t m, int64_t k) const {
    if (!transposed) return (g * out_channels + m) * k_size() + k;
    const int64_t taps = window.taps(), c = k / taps;
    return ((g * in_channels + c) * out_channels + m) * taps + k % taps;
  }
};

// The taps of one output position and group that read an element, in ascending K index.
template <class T>
struct Column {
  std::vector<T> values;
  std::vector<int64_t> k;
};

template <class T>
void gather_column(const Convolution& s, const T* x, int64_t position, Column<T>& column) {
  column.values.clear();
  column.k.clear();
  const int64_t taps = s.window.taps(), pixels = s.window.inputs();
  for (int64_t c = 0; c < s.in_channels; ++c)
    s.window.for_each_tap(position, [&](int64_t tap, int64_t offset) {
      column.values.push_back(x[c * pixels + offset]);
      column.k.push_back(c * taps + tap);
    });
}

// The ordered product of a column with the weights at its K indices.
template <class T>
Compute<T> column_dot(const Convolution& s, const Column<T>& column, const T* w, int64_t g,
                      int64_t m, std::vector<T>& weights) {
  weights.clear();
  for (int64_t k : column.k) weights.push_back(w[s.weight(g, m, k)]);
  Compute<T> total = 0;
  size_t at = 0;
  for (int64_t begin = 0; begin < s.k_size(); begin += kProductBlock) {
    const size_t first = at;
    while (at < column.k.size() && column.k[at] < begin + kProductBlock) ++at;
    const Compute<T> block = ordered_dot(column.values.data() + first, weights.data() + first,
                                         static_cast<int64_t>(at - first));
    total = begin == 0 ? block : add_of(total, block);
  }
  return total;
}

template <class T>
void run(const Convolution& s, const T* x, const T* w, const T* bias, T* y) {
  const int64_t positions = s.window.outputs(), pixels = s.window.inputs();
  parallel_for(s.batch * s.groups * positions, 16, [&](int64_t from, int64_t to) {
    Column<T> column;
    std::vector<T> weights;
    for (int64_t i = from; i < to; ++i) {
      const int64_t position = i % positions, plane = i / positions, g = plane % s.groups;
      gather_column(s, x + plane * s.in_channels * pixels, position, column);
      for (int64_t m = 0; m < s.out_channels; ++m) {
        Compute<T> v = column_dot(s, column, w, g, m, weights);
        if (bias != nullptr) v = add_of(v, load(bias[g * s.out_channels + m]));
        y[(plane * s.out_channels + m) * positions + position] = store<T>(v);
      }
    }
  });
}

Result<Convolution> plan(const Node& node, const Tensor& x, const Tensor& w, const Tensor& bias,
                         bool transposed) {
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

Result<Tensor> convolve(const Node& node, const Tensor& x, const Tensor& w, const Tensor& bias,
                        bool transposed) {
  VB_ASSIGN(const Convolution s, plan(node, x, w, bias, transposed));
  std::vector<int64_t> dims = {s.batch, s.groups * s.out_channels};
  for (int d = 0; d < s.window.rank; ++d) dims.push_back(s.window.output[d]);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
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
  return 2 * static_cast<uint64_t>(y.elements()) *
         static_cast<uint64_t>(w.shape().elements(1, w.rank()));
}

std::span<const OpDef> convolution_ops() { return kOps; }

}  // namespace verbatim
