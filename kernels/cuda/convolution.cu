// Conv and ConvTranspose of floats (docs/numerics.md, Family A, Matrix product): as ordered
// products of weights with columns that are gathered from the image (im2col), or, where few
// channels share a column, each result by a thread.
//
// Padded taps take no part in the contract, and are zeros in columns: with finite weights that
// changes nothing but the sign of a zero, with others a result becomes NaN. So where a window
// reaches into padding, results that are zero or NaN are computed anew as defined.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/convolution.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/kernels/cuda/windows.cuh>

namespace verbatim::cuda {
namespace {

constexpr int64_t kMostPlane = int64_t{1} << 30;    // bytes of a plane's columns
constexpr int64_t kMostColumns = int64_t{1} << 28;  // of several planes'
constexpr int64_t kLeastOfGroup = 1 << 16;          // products of a plane
constexpr int64_t kMostPlanes = 65535;
constexpr int64_t kLeastChannels = 8;  // that share columns

template <class T>
struct Call {
  const T *x, *w, *bias;  // bias: [groups * out_channels], or null
  T *y, *columns;         // columns: [planes, k, positions]
  Windows window;
  int64_t first_plane, planes, groups, in_channels, out_channels, k;

  // Results are [planes, out_channels, positions].
  struct Result {
    int64_t plane, channel, position;
  };
  __device__ Result result(int64_t i) const {
    const int64_t row = i / window.outputs;
    return {first_plane + row / out_channels, row % out_channels, i % window.outputs};
  }
  __device__ T* at(int64_t i) const { return y + first_plane * out_channels * window.outputs + i; }

  // As the contract defines it.
  __device__ T computed(const Result& r) const {
    const auto p = window.position(r.position);
    const int64_t group = r.plane % groups;
    // The weight of the group's channel c at a tap lies tap elements from where c's begin.
    const T* weights =
        w + (window.transposed ? (group * in_channels * out_channels + r.channel) * window.taps
                               : (group * out_channels + r.channel) * k);
    const int64_t next = window.transposed ? out_channels * window.taps : window.taps;
    const T* image = x + r.plane * in_channels * window.inputs;
    float total = 0, acc = 0;
    int64_t block = 0;  // of K; one of padding alone is +0
    const auto end_blocks = [&](int64_t end) {
      for (; block < end; ++block, acc = 0) total = block == 0 ? acc : total + acc;
    };
    for (int64_t c = 0; c < in_channels; ++c, image += window.inputs, weights += next)
      window.each_tap(p, [&](int tap, int64_t from) {
        end_blocks((c * window.taps + tap) / kProductBlock);
        acc = fma32(load(image[from]), load(weights[tap]), acc);
      });
    end_blocks(ceiling(k, kProductBlock));
    if (bias != nullptr) total = total + load(bias[group * out_channels + r.channel]);
    return store<T>(total);
  }
  __device__ bool reaches_padding(const Result& r) const {
    int64_t inside = 0;
    window.each_tap(window.position(r.position), [&](int, int64_t) { ++inside; });
    return inside < window.taps;
  }
};

template <class T>
__global__ void __launch_bounds__(256) compute(Call<T> p, int64_t n) {
  each_element(n, [&](int64_t i) { *p.at(i) = p.computed(p.result(i)); });
}

template <class T>
__global__ void __launch_bounds__(256) gather_columns(Call<T> p, int64_t n) {
  each_element(n, [&](int64_t i) {
    const int64_t position = i % p.window.outputs, line = i / p.window.outputs, k = line % p.k,
                  plane = p.first_plane + line / p.k, channel = k / p.window.taps;
    const int64_t from = p.window.source(p.window.position(position),
                                         p.window.tap(static_cast<int>(k % p.window.taps)));
    p.columns[i] = from < 0 ? T{} : p.x[(plane * p.in_channels + channel) * p.window.inputs + from];
  });
}

template <class T>
__global__ void __launch_bounds__(256) correct_padded(Call<T> p, int64_t n) {
  each_element(n, [&](int64_t i) {
    const float v = load(*p.at(i));
    if (v != 0 && !is_nan(v)) return;
    const auto r = p.result(i);
    if (p.reaches_padding(r)) *p.at(i) = p.computed(r);
  });
}

// Of p.planes planes from p.first_plane on. Those of several groups have different weights and
// bias, and a product each.
template <class T>
Status multiply_columns(Gpu& gpu, const Call<T>& p) {
  const int64_t columns = p.planes * p.k * p.window.outputs,
                results = p.planes * p.out_channels * p.window.outputs;
  VB_TRY(launch(gpu, grid_for(columns), gather_columns<T>, p, columns));
  const MatrixView b{dtype_of<T>(),
                     reinterpret_cast<const std::byte*>(p.columns),
                     p.k,
                     p.window.outputs,
                     p.window.outputs,
                     1};
  const int64_t at_once = p.groups == 1 ? p.planes : 1;
  for (int64_t i = 0; i < p.planes; i += at_once) {
    const int64_t plane = p.first_plane + i, group = plane % p.groups;
    std::vector<MatrixPair> pairs;
    for (int64_t j = 0; j < at_once; ++j) pairs.emplace_back(0, i + j);
    Product product{.type = dtype_of<T>(),
                    .a = p.w + group * p.out_channels * p.k,
                    .a_row = p.k,
                    .out = p.y + plane * p.out_channels * p.window.outputs};
    if (p.bias != nullptr) {
      product.c = p.bias + group * p.out_channels;
      product.c_row = 1;
    }
    VB_TRY(multiply(gpu, product, b, p.out_channels, pairs));
  }
  return launch(gpu, grid_for(results), correct_padded<T>, p, results);
}

template <class T>
Status convolve(Gpu& gpu, Call<T>& p, int64_t planes) {
  const int64_t results = planes * p.out_channels * p.window.outputs;
  const int64_t plane_bytes = p.k * p.window.outputs * int64_t{sizeof(T)};
  p.planes = planes;
  // Planes of several groups take a launch each.
  const bool small = p.groups > 1 && p.out_channels * p.k * p.window.outputs < kLeastOfGroup;
  if (small || p.window.transposed || p.out_channels < kLeastChannels || p.k == 0 ||
      plane_bytes > kMostPlane)
    return launch(gpu, grid_for(results), compute<T>, p, results);
  const int64_t at_once = least(planes, least(kMostPlanes, ceiling(kMostColumns, plane_bytes)));
  const Shape shape{at_once, p.k, p.window.outputs};
  VB_ASSIGN(Tensor columns, Tensor::allocate_on(gpu, dtype_of<T>(), shape, Purpose::scratch));
  p.columns = reinterpret_cast<T*>(columns.mutable_address());
  for (p.first_plane = 0; p.first_plane < planes; p.first_plane += at_once) {
    p.planes = least(at_once, planes - p.first_plane);
    VB_TRY(multiply_columns(gpu, p));
  }
  return {};
}

}  // namespace

Outcome run_convolution(Gpu& gpu, const KernelBackend& backend, const Node& node,
                        std::span<const Tensor> inputs) {
  const bool biased = inputs.size() > 2 && inputs[2].defined();
  if (!all_of_one_type(inputs.first(biased ? 3 : 2))) return not_handled();
  const Result<Convolution> plan = plan_convolution(
      node, inputs[0], inputs[1], biased ? inputs[2] : Tensor(), node.op == "ConvTranspose");
  if (!plan.ok()) return not_handled();
  const Convolution& s = *plan;
  const std::optional<Windows> window = Windows::of(s.window);
  if (!window) return not_handled();
  VB_ASSIGN(const Shape shape, s.output_shape());
  const DType type = inputs[0].dtype();
  VB_ASSIGN(Tensor y, backend.allocate(type, shape));
  if (y.elements() == 0) return done({y});
  VB_TRY(visit_storage(type, [&](auto element) {
    using T = decltype(element);
    const auto elements = [&](size_t i) { return reinterpret_cast<const T*>(inputs[i].address()); };
    Call<T> p{.x = elements(0),
              .w = elements(1),
              .bias = biased ? elements(2) : nullptr,
              .y = reinterpret_cast<T*>(y.mutable_address()),
              .columns = nullptr,
              .window = *window,
              .first_plane = 0,
              .planes = 0,
              .groups = s.groups,
              .in_channels = s.in_channels,
              .out_channels = s.out_channels,
              .k = s.k_size()};
    return convolve(gpu, p, s.batch * s.groups);
  }));
  return done({y});
}

}  // namespace verbatim::cuda
