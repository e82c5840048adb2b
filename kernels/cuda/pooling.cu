// Pools over windows (repops/ops/pooling.cc): padded taps take no part; an average is the ordered
// sum of the taps over their count. One thread for each result.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/kernels/cuda/windows.cuh>

namespace verbatim::cuda {
namespace {

// The first of the greatest elements; NaN is greatest, and padding alone gives -infinity.
template <class T>
__global__ void __launch_bounds__(256) take_greatest(const T* x, T* y, int64_t n, Windows w) {
  each_element(n, [&](int64_t i) {
    const T* plane = x + i / w.outputs * w.inputs;
    float best = float_of(0xFF800000);
    w.each_tap(w.position(i % w.outputs), [&](int, int64_t from) {
      if (is_nan(best)) return;
      const float v = load(plane[from]);
      if (v > best || is_nan(v)) best = v;
    });
    y[i] = store<T>(best);
  });
}

// The contract's sum of elements that come one by one: 32 lanes, blocks of 1024. A lane starts at
// -0, which changes nothing that is added to it, or that it is added to.
struct OrderedSum {
  float lane[kSumLanes], total = 0;
  int64_t count = 0;

  __device__ void clear() {
    for (float& l : lane) l = -0.0f;
  }
  __device__ void end_block() {
    for (int s = kSumLanes / 2; s > 0; s /= 2)
      for (int j = 0; j < s; ++j) lane[j] = lane[j] + lane[j + s];
    total = count <= kSumBlock ? lane[0] : total + lane[0];
    clear();
  }
  __device__ void add(float v) {
    if (count > 0 && count % kSumBlock == 0) end_block();
    float& l = lane[count++ % kSumLanes];
    l = l + v;
  }
  __device__ float sum() {
    if (count > 0) end_block();
    return total;
  }
};

template <class T>
__global__ void __launch_bounds__(256)
    take_average(const T* x, T* y, int64_t n, Windows w, bool with_padding) {
  each_element(n, [&](int64_t i) {
    const T* plane = x + i / w.outputs * w.inputs;
    const auto position = w.position(i % w.outputs);
    OrderedSum sum;
    sum.clear();
    w.each_tap(position, [&](int, int64_t from) { sum.add(load(plane[from])); });
    const int64_t count = with_padding ? w.stated_taps(position) : sum.count;
    y[i] = store<T>(sum.sum() / static_cast<float>(count));
  });
}

}  // namespace

Outcome run_pool(Gpu& gpu, const KernelBackend& backend, const Node& node,
                 std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  // Indices, too, are the host's.
  if (!all_of_one_type(inputs) || x.rank() < 3 || node.outputs.size() != 1) return not_handled();
  const bool global = node.op.starts_with("Global"), average = node.op.ends_with("AveragePool");
  int64_t with_padding = 0;
  if (average) {
    VB_ASSIGN(with_padding, node.attributes.get<int64_t>("count_include_pad", 0));
  } else {  // an order of indices
    VB_TRY(node.attributes.get<int64_t>("storage_order", 0).status());
  }
  Window window;
  if (global) {
    window.rank = x.rank() - 2;
    for (int d = 0; d < window.rank; ++d) {
      window.input[d] = window.kernel[d] = x.dim(d + 2);
      window.output[d] = window.stride[d] = window.dilation[d] = 1;
    }
  } else {
    VB_ASSIGN(const auto kernel, node.attributes.require<std::vector<int64_t>>("kernel_shape"));
    VB_ASSIGN(window, read_window(node, x, kernel));
  }
  const std::optional<Windows> w = Windows::of(window);
  if (!w) return not_handled();
  std::vector<int64_t> dims = {x.dim(0), x.dim(1)};
  dims.insert(dims.end(), window.output.begin(), window.output.begin() + window.rank);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), shape));
  const int64_t n = y.elements();
  if (n == 0) return done({y});
  if (global && average) {
    VB_TRY(reduce(gpu,
                  {.type = x.dtype(),
                   .kind = ReduceKernel::mean,
                   .x = x.address(),
                   .y = y.mutable_address(),
                   .n = w->inputs},
                  n));
    return done({y});
  }
  VB_TRY(visit_storage(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto* from = reinterpret_cast<const T*>(x.address());
    auto* to = reinterpret_cast<T*>(y.mutable_address());
    if (average)
      return launch(gpu, grid_for(n), take_average<T>, from, to, n, *w, with_padding != 0);
    return launch(gpu, grid_for(n), take_greatest<T>, from, to, n, *w);
  }));
  return done({y});
}

}  // namespace verbatim::cuda
