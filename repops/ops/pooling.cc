// Pools over windows: padded taps take no part; an average is the ordered sum of the taps in
// ascending order over their count.
#include <algorithm>
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sum.h>
#include <verbatim/repops/ops/window.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

Result<Window> pool_window(const Node& node, const Tensor& x) {
  VB_ASSIGN(const auto kernel, node.attributes.require<std::vector<int64_t>>("kernel_shape"));
  return read_window(node, x, kernel);
}

// One window as large as the operand.
Result<Window> global_window(const Node&, const Tensor& x) {
  if (x.rank() < 3) return bad_input("wants [N, C, spatial...], not " + x.describe());
  Window w;
  w.rank = x.rank() - 2;
  for (int d = 0; d < w.rank; ++d) {
    w.input[d] = w.kernel[d] = x.dim(d + 2);
    w.output[d] = w.stride[d] = w.dilation[d] = 1;
  }
  return w;
}

Result<Tensor> allocate_pooled(DType dtype, const Tensor& x, const Window& w,
                               Purpose purpose = Purpose::result) {
  std::vector<int64_t> dims = {x.dim(0), x.dim(1)};
  for (int d = 0; d < w.rank; ++d) dims.push_back(w.output[d]);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  return Tensor::allocate(dtype, shape, purpose);
}

// y = f(values of the window's taps, output position), for every plane and position.
template <class T, class F>
Status pool(const Tensor& x, const Window& w, Tensor& y, F f) {
  const int64_t positions = w.outputs(), pixels = w.inputs();
  const T* px = x.data<T>().data();
  T* py = y.mutable_data<T>().data();
  const int64_t scratch = std::min(w.taps(), pixels) * static_cast<int64_t>(sizeof(Compute<T>));
  parallel_for(y.elements(), scratch_grain(y.elements(), 64, scratch),
               [&](int64_t from, int64_t to) {
                 std::vector<Compute<T>> taps;
                 taps.reserve(static_cast<size_t>(std::min(w.taps(), pixels)));
                 for (int64_t i = from; i < to; ++i) {
                   taps.clear();
                   w.for_each_tap(i % positions, [&](int64_t, int64_t offset) {
                     taps.push_back(load(px[i / positions * pixels + offset]));
                   });
                   py[i] = store<T>(f(std::span<const Compute<T>>(taps), i % positions));
                 }
               });
  return {};
}

// How many taps of position `o` lie on the operand or its stated padding.
int64_t padded_count(const Window& w, int64_t o) {
  int64_t count = 1;
  for (int d = w.rank - 1; d >= 0; --d) {
    count *= w.taps_before(d, o % w.output[d], w.input[d] + w.pad_begin[d] + w.pad_end[d]);
    o /= w.output[d];
  }
  return count;
}

// AveragePool: sum / count, where padding counts if count_include_pad.
template <auto kWindow>
Result<Tensors> average_pool(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t include, node.attributes.get<int64_t>("count_include_pad", 0));
  VB_ASSIGN(const Window w, kWindow(node, x));
  VB_ASSIGN(Tensor y, allocate_pooled(x.dtype(), x, w));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using C = Compute<decltype(type)>;
    VB_TRY(pool<decltype(type)>(x, w, y, [&](std::span<const C> taps, int64_t o) {
      const auto n = static_cast<int64_t>(taps.size());
      return ordered_sum<C>(n, [&](int64_t i) { return taps[i]; }) /
             static_cast<C>(include != 0 ? padded_count(w, o) : n);
    }));
    return Tensors{y};
  });
}

// LpPool: p = 1: sum(|x|); 2: sqrt(sumsq(x)); else pow(sum(pow(|x|, p)), 1 / p).
template <auto kWindow>
Result<Tensors> lp_pool(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t p, node.attributes.get<int64_t>("p", 2));
  if (p < 1 || p > 1 << 20) return bad_input("p = " + std::to_string(p));
  VB_ASSIGN(const Window w, kWindow(node, x));
  VB_ASSIGN(Tensor y, allocate_pooled(x.dtype(), x, w));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using C = Compute<decltype(type)>;
    const auto power = [](C a, C b) {
      if constexpr (std::is_same_v<C, double>)
        return pow_f64(a, b);
      else
        return pow_f32(a, b);
    };
    VB_TRY(pool<decltype(type)>(x, w, y, [&](std::span<const C> taps, int64_t) {
      const auto n = static_cast<int64_t>(taps.size());
      if (p == 2) return sqrt_of(ordered_sum_of_squares<C>(n, [&](int64_t i) { return taps[i]; }));
      if (p == 1) return ordered_sum<C>(n, [&](int64_t i) { return absolute_of(taps[i]); });
      const C exponent = static_cast<C>(p);
      return power(
          ordered_sum<C>(n, [&](int64_t i) { return power(absolute_of(taps[i]), exponent); }),
          C{1} / exponent);
    }));
    return Tensors{y};
  });
}

// A flat index of an element of x, which storage_order 1 wants with the spatial dimensions in
// column-major order.
int64_t stored_index(const Window& w, int64_t plane, int64_t offset, bool column_major) {
  if (!column_major) return plane * w.inputs() + offset;
  int64_t index = 0, inner = w.inputs();
  for (int d = w.rank - 1; d >= 0; --d) {
    inner /= w.input[d];  // the dimensions before d, which now lie inside it
    index += offset % w.input[d] * inner;
    offset /= w.input[d];
  }
  return plane * w.inputs() + index;
}

// MaxPool -> Y, Indices?: the maximum (NaN wins; of padding alone, the type's least) and the first
// tap that holds it.
template <auto kWindow>
Result<Tensors> max_pool(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t column_major, node.attributes.get<int64_t>("storage_order", 0));
  VB_ASSIGN(const Window w, kWindow(node, x));
  VB_ASSIGN(Tensor y, allocate_pooled(x.dtype(), x, w));
  const bool named = node.outputs.size() > 1 && node.outputs[1] != kAbsent;
  VB_ASSIGN(Tensor indices,
            allocate_pooled(DType::i64, x, w, named ? Purpose::result : Purpose::scratch));
  const int64_t positions = w.outputs(), pixels = w.inputs();
  return visit_number<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    for (int64_t i = 0; i < y.elements(); ++i) {
      const int64_t plane = i / positions;
      C best = std::is_integral_v<C> ? std::numeric_limits<C>::lowest()
                                     : -std::numeric_limits<C>::infinity();
      int64_t at = -1;
      w.for_each_tap(i % positions, [&](int64_t, int64_t offset) {
        const C v = load(x.data<T>()[plane * pixels + offset]);
        if (at >= 0 && (!(v > best || v != v) || best != best)) return;
        best = v;
        at = offset;
      });
      y.mutable_data<T>()[i] = store<T>(best);
      indices.mutable_data<int64_t>()[i] =
          at < 0 ? -1 : stored_index(w, plane, at, column_major != 0);
    }
    return Tensors{y, indices};
  });
}

// MaxUnpool(x, indices, output_shape?): zeros, with x's elements at the flat indices that MaxPool
// gave.
Result<Tensors> max_unpool(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &indices = inputs[1];
  if (!(indices.shape() == x.shape()) || x.rank() < 3)
    return bad_input("indices " + indices.describe() + " for " + x.describe());
  VB_ASSIGN(const Integers places, Integers::of(indices, "indices"));
  VB_ASSIGN(const Window w,
            pool_window(node, x));  // checks the attributes; its output size is of no use here
  std::vector<int64_t> natural = {x.dim(0), x.dim(1)};
  for (int d = 0; d < w.rank; ++d)
    natural.push_back((x.dim(d + 2) - 1) * w.stride[d] + w.kernel[d] - w.pad_begin[d] -
                      w.pad_end[d]);
  VB_ASSIGN(const Shape natural_shape, Shape::of(natural));
  Shape shape = natural_shape;
  if (inputs.size() > 2 && inputs[2].defined()) {
    VB_ASSIGN(const std::vector<int64_t> dims, read_integers(inputs[2], "output_shape", kMaxRank));
    VB_ASSIGN(shape, Shape::of(dims));
    if (shape.rank() != x.rank() || shape[0] != x.dim(0) || shape[1] != x.dim(1))
      return bad_input("output_shape " + shape.to_string() + " for " + x.describe());
  }
  VB_ASSIGN(Tensor y, Tensor::zeros(x.dtype(), shape));
  const Strides from = strides_of(natural_shape), to = strides_of(shape);
  const auto width = static_cast<int64_t>(size_of(x.dtype()));
  for (int64_t i = 0; i < places.size(); ++i) {
    int64_t at = 0;
    bool inside = places[i] >= 0 && places[i] < natural_shape.elements();
    for (int d = 0; inside && d < shape.rank(); ++d) {
      const int64_t index = places[i] / from[d] % natural_shape[d];
      inside = index < shape[d];
      at += index * to[d];
    }
    if (!inside)
      return bad_input("index " + std::to_string(places[i]) + " is outside " + shape.to_string());
    copy_bytes(y.mutable_bytes().data() + at * width, x.bytes().data() + i * width, width);
  }
  return Tensors{y};
}

// One operation for each tap that can lie inside the input.
uint64_t pool_cost(const Node& node, std::span<const Tensor> inputs,
                   std::span<const Tensor> outputs) {
  const Result<std::vector<int64_t>> kernel =
      node.attributes.get<std::vector<int64_t>>("kernel_shape", {});
  if (!kernel.ok() || kernel->empty()) return static_cast<uint64_t>(inputs[0].elements());
  uint64_t taps = 1;
  for (size_t i = 0; i < kernel->size() && i + 2 < static_cast<size_t>(inputs[0].rank()); ++i)
    taps *= static_cast<uint64_t>(std::clamp<int64_t>(
        (*kernel)[i], 1, std::max<int64_t>(1, inputs[0].dim(static_cast<int>(i) + 2))));
  return saturating_multiply(taps, static_cast<uint64_t>(outputs[0].elements()));
}

constexpr OpDef kOps[] = {
    {"", "AveragePool", 1, 1, 1, average_pool<pool_window>, pool_cost},
    {"", "GlobalAveragePool", 1, 1, 1, average_pool<global_window>, pool_cost},
    {"", "LpPool", 1, 1, 1, lp_pool<pool_window>, pool_cost},
    {"", "GlobalLpPool", 1, 1, 1, lp_pool<global_window>, pool_cost},
    {"", "MaxPool", 1, 1, 2, max_pool<pool_window>, pool_cost},
    {"", "GlobalMaxPool", 1, 1, 1, max_pool<global_window>, pool_cost},
    {"", "MaxUnpool", 2, 3, 1, max_unpool},
};

}  // namespace

std::span<const OpDef> pooling_ops() { return kOps; }

}  // namespace verbatim
