// Reductions, prefix sums, and selection along an axis. Several reduced axes are flattened
// row-major; sums follow sum.h.
#include <verbatim/repops/ops/reduction.h>

#include <bit>
#include <numeric>
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sum.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

// --- what is computed from the reduced elements, gathered in a row
// ----------------------------------------------------------

template <class C>
C sum_of(std::span<C> row) {
  const auto n = static_cast<int64_t>(row.size());
  if constexpr (std::is_integral_v<C>)
    return static_cast<C>(
        ordered_sum<uint64_t>(n, [&](int64_t i) { return static_cast<uint64_t>(row[i]); }));
  else
    return ordered_sum<C>(n, [&](int64_t i) { return row[i]; });
}
template <class C>
C sum_of_squares(std::span<C> row) {
  const auto n = static_cast<int64_t>(row.size());
  if constexpr (std::is_integral_v<C>) {
    return static_cast<C>(ordered_sum<uint64_t>(n, [&](int64_t i) {
      return static_cast<uint64_t>(row[i]) * static_cast<uint64_t>(row[i]);
    }));
  } else {
    return ordered_sum_of_squares<C>(n, [&](int64_t i) { return row[i]; });
  }
}
template <class C>
C greatest_of(std::span<C> row) {
  if (row.empty())
    return std::is_integral_v<C> ? std::numeric_limits<C>::lowest()
                                 : -std::numeric_limits<C>::infinity();
  return std::accumulate(row.begin() + 1, row.end(), row[0], maximum_of<C>);
}

struct ReduceSum {
  template <class C>
  static C apply(std::span<C> row) {
    return sum_of(row);
  }
};
// sum / n; integers truncate. No integers have no mean: 0.
struct ReduceMean {
  template <class C>
  static C apply(std::span<C> row) {
    if (std::is_integral_v<C> && row.empty()) return 0;
    return mean_of(sum_of(row), row.size());
  }
};
struct ReduceMax {
  template <class C>
  static C apply(std::span<C> row) {
    return greatest_of(row);
  }
};
struct ReduceMin {
  template <class C>
  static C apply(std::span<C> row) {
    if (row.empty())
      return std::is_integral_v<C> ? std::numeric_limits<C>::max()
                                   : std::numeric_limits<C>::infinity();
    return std::accumulate(row.begin() + 1, row.end(), row[0], minimum_of<C>);
  }
};
// The product in ascending order, starting from the first; of nothing, 1.
struct ReduceProd {
  template <class C>
  static C apply(std::span<C> row) {
    return row.empty() ? C{1} : std::accumulate(row.begin() + 1, row.end(), row[0], multiply_of<C>);
  }
};
struct ReduceL1 {
  template <class C>
  static C apply(std::span<C> row) {
    for (C& v : row) v = absolute_of(v);
    return sum_of(row);
  }
};
struct ReduceSumSquare {
  template <class C>
  static C apply(std::span<C> row) {
    return sum_of_squares(row);
  }
};
struct ReduceL2 {
  template <class C>
  static C apply(std::span<C> row) {
    return sqrt_of(sum_of_squares(row));
  }
};
struct ReduceLogSum {
  template <class C>
  static C apply(std::span<C> row) {
    return evaluate(Unary::log, sum_of(row));
  }
};
// m + log(sum(exp(x - m))), m the maximum, or 0 where that is infinite.
struct ReduceLogSumExp {
  template <class C>
  static C apply(std::span<C> row) {
    C m = greatest_of(row);
    if (absolute_of(m) == std::numeric_limits<C>::infinity()) m = 0;
    for (C& v : row) v = evaluate(Unary::exp, v - m);
    return m + evaluate(Unary::log, sum_of(row));
  }
};

// --- the operators
// ---------------------------------------------------------------------------------------------

template <class Op, class T>
Result<Tensors> reduce_as(const Tensor& x, const ReducedShape& r) {
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), r.result));
  const Strides strides = strides_of(x.shape());
  const int64_t size = r.reduced.elements();
  const T* px = x.data<T>().data();
  T* y = out.mutable_data<T>().data();
  const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(size, 1)),
                scratch = size * static_cast<int64_t>(sizeof(Compute<T>));
  parallel_for(out.elements(), scratch_grain(out.elements(), grain, scratch),
               [&](int64_t begin, int64_t end) {
                 std::vector<Compute<T>> row(static_cast<size_t>(size));
                 StridedWalk start(r.kept, strides);
                 start.seek(begin);
                 for (int64_t i = begin; i < end; ++i, start.next()) {
                   StridedWalk walk(r.reduced, strides, start.offset());
                   for (int64_t j = 0; j < size; ++j, walk.next()) row[j] = load(px[walk.offset()]);
                   y[i] = store<T>(Op::apply(std::span<Compute<T>>(row)));
                 }
               });
  return Tensors{out};
}

template <class Op>
Result<Tensors> reduce(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const ReducedShape r, reduced_shape(node, inputs));
  return visit_number<Tensors>(
      inputs[0], [&](auto type) { return reduce_as<Op, decltype(type)>(inputs[0], r); });
}
template <class Op>
Result<Tensors> reduce_float(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const ReducedShape r, reduced_shape(node, inputs));
  return visit_float<Tensors>(
      inputs[0], [&](auto type) { return reduce_as<Op, decltype(type)>(inputs[0], r); });
}
template <class Op>
Result<Tensors> reduce_or_bool(const Node& node, std::span<const Tensor> inputs) {
  if (inputs[0].dtype() != DType::boolean) return reduce<Op>(node, inputs);
  VB_ASSIGN(const ReducedShape r, reduced_shape(node, inputs));
  VB_ASSIGN(Tensor bytes, Tensor::allocate(DType::u8, inputs[0].shape()));
  std::ranges::copy(inputs[0].data<bool>(), bytes.mutable_data<uint8_t>().begin());
  VB_ASSIGN(const Tensors reduced, (reduce_as<Op, uint8_t>(bytes, r)));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::boolean, r.result));
  for (int64_t i = 0; i < out.elements(); ++i)
    out.mutable_data<bool>()[i] = reduced[0].data<uint8_t>()[i] != 0;
  return Tensors{out};
}

// One operation for each element that is read, and where there are none, for each that is written.
uint64_t reduce_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  return static_cast<uint64_t>(std::max(inputs[0].elements(), outputs[0].elements()));
}

// --- along one axis
// ---------------------------------------------------------------------------------------------------------

// The vectors along an axis: elements of one stand at offset(line), offset(line) + stride, ...
struct Lines {
  int64_t count = 0, size = 0, stride = 1;
  int64_t offset(int64_t line) const { return line / stride * stride * size + line % stride; }
};
Lines lines_of(const Shape& shape, int axis) {
  const int64_t inner = shape.elements(axis + 1, shape.rank());
  return {shape.elements() == 0 ? 0 : shape.elements(0, axis) * inner, shape[axis], inner};
}

// ArgMax, ArgMin(data; axis, keepdims, select_last_index): ties to the lower index unless asked
// otherwise; NaN only among NaNs.
template <bool kGreatest>
Result<Tensors> arg_extreme(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int64_t keep, node.attributes.get<int64_t>("keepdims", 1));
  VB_ASSIGN(const int64_t last, node.attributes.get<int64_t>("select_last_index", 0));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  std::vector<int64_t> dims = dims_of(x);
  dims[axis] = 1;
  if (keep == 0) dims.erase(dims.begin() + axis);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  if (x.dim(axis) == 0 && shape.elements() > 0)
    return bad_input("no elements along axis " + std::to_string(axis) + " of " + x.describe());
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::i64, shape));
  const Lines lines = lines_of(x.shape(), axis);
  return visit_number<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    for (int64_t line = 0; line < lines.count; ++line) {
      const T* v = x.data<T>().data() + lines.offset(line);
      int64_t best = 0;
      for (int64_t i = 1; i < lines.size; ++i) {
        const auto have = load(v[best * lines.stride]), next = load(v[i * lines.stride]);
        const bool better = kGreatest ? next > have : next < have;
        const bool equal = next == have || (have != have && next != next);
        if (better || (have != have && next == next) || (last != 0 && equal)) best = i;
      }
      out.mutable_data<int64_t>()[line] = best;
    }
    return Tensors{out};
  });
}

// Hardmax: 1 at the first maximum along the axis, 0 elsewhere.
Result<Tensors> hardmax(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", -1));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  Node argument;
  argument.attributes.set("axis", int64_t{axis});
  VB_ASSIGN(Tensor out, Tensor::zeros(x.dtype(), x.shape()));
  if (x.elements() == 0) return Tensors{out};
  VB_ASSIGN(const Tensors best, arg_extreme<true>(argument, inputs));
  const Lines lines = lines_of(x.shape(), axis);
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    for (int64_t line = 0; line < lines.count; ++line)
      out.mutable_data<T>()[lines.offset(line) + best[0].data<int64_t>()[line] * lines.stride] =
          store<T>(Compute<T>{1});
    return Tensors{out};
  });
}

// TopK(data, k; axis, largest) -> values (bytes kept), indices. Sorted whether or not that is asked
// for; ties to the lower index, NaN last.
Result<Tensors> top_k(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", -1));
  VB_ASSIGN(const int64_t largest, node.attributes.get<int64_t>("largest", 1));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  VB_ASSIGN(const int64_t k, read_integer(inputs[1], "k"));
  if (k < 0 || k > x.dim(axis))
    return bad_input("k = " + std::to_string(k) + " for " + x.describe());
  std::vector<int64_t> dims = dims_of(x);
  dims[axis] = k;
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor values, Tensor::allocate(x.dtype(), shape));
  VB_ASSIGN(Tensor indices, Tensor::allocate(DType::i64, shape));
  if (shape.elements() == 0) return Tensors{values, indices};
  const Lines from = lines_of(x.shape(), axis), to = lines_of(shape, axis);
  return visit_number<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    VB_ASSIGN(Tensor order_tensor, Tensor::allocate(DType::i64, Shape{from.size}));
    const std::span<int64_t> order = order_tensor.mutable_data<int64_t>();
    for (int64_t line = 0; line < from.count; ++line) {
      const T* v = x.data<T>().data() + from.offset(line);
      std::iota(order.begin(), order.end(), 0);
      std::ranges::sort(order, [&](int64_t i, int64_t j) {
        const auto p = load(v[i * from.stride]), q = load(v[j * from.stride]);
        const bool nan_p = p != p, nan_q = q != q;
        if (nan_p != nan_q) return nan_q;
        if (nan_p || p == q) return i < j;
        return largest != 0 ? p > q : p < q;
      });
      for (int64_t i = 0; i < k; ++i) {
        const int64_t at = to.offset(line) + i * to.stride;
        values.mutable_data<T>()[at] = v[order[i] * from.stride];
        indices.mutable_data<int64_t>()[at] = order[i];
      }
    }
    return Tensors{values, indices};
  });
}

// A sort of each line.
uint64_t top_k_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const auto n = static_cast<uint64_t>(inputs[0].elements());
  return saturating_multiply(n, 1 + 2 * static_cast<uint64_t>(std::bit_width(n)));
}

struct Plus {
  static constexpr int kStart = 0;
  template <class C>
  static C apply(C a, C b) {
    return add_of(a, b);
  }
};
struct Times {
  static constexpr int kStart = 1;
  template <class C>
  static C apply(C a, C b) {
    return multiply_of(a, b);
  }
};

// CumSum, CumProd(x, axis; exclusive, reverse): one running total in the computing type, each
// prefix rounded on store.
template <class Op>
Result<Tensors> cumulate(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t exclusive, node.attributes.get<int64_t>("exclusive", 0));
  VB_ASSIGN(const int64_t reverse, node.attributes.get<int64_t>("reverse", 0));
  VB_ASSIGN(const int64_t a, read_integer(inputs[1], "axis"));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), x.shape()));
  const Lines lines = lines_of(x.shape(), axis);
  return visit_number<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    for (int64_t line = 0; line < lines.count; ++line) {
      const T* v = x.data<T>().data() + lines.offset(line);
      T* y = out.mutable_data<T>().data() + lines.offset(line);
      C total = static_cast<C>(Op::kStart);
      for (int64_t i = 0; i < lines.size; ++i) {
        const int64_t at = (reverse != 0 ? lines.size - 1 - i : i) * lines.stride;
        const C next = i == 0 ? load(v[at]) : Op::apply(total, load(v[at]));
        y[at] = store<T>(exclusive != 0 ? total : next);
        total = next;
      }
    }
    return Tensors{out};
  });
}

constexpr OpDef kOps[] = {
    {"", "ReduceSum", 1, 2, 1, reduce<ReduceSum>, reduce_cost},
    {"", "ReduceMean", 1, 2, 1, reduce<ReduceMean>, reduce_cost},
    {"", "ReduceMax", 1, 2, 1, reduce_or_bool<ReduceMax>, reduce_cost},
    {"", "ReduceMin", 1, 2, 1, reduce_or_bool<ReduceMin>, reduce_cost},
    {"", "ReduceProd", 1, 2, 1, reduce<ReduceProd>, reduce_cost},
    {"", "ReduceL1", 1, 2, 1, reduce<ReduceL1>, reduce_cost},
    {"", "ReduceL2", 1, 2, 1, reduce_float<ReduceL2>, reduce_cost},
    {"", "ReduceSumSquare", 1, 2, 1, reduce<ReduceSumSquare>, reduce_cost},
    {"", "ReduceLogSum", 1, 2, 1, reduce_float<ReduceLogSum>, reduce_cost},
    {"", "ReduceLogSumExp", 1, 2, 1, reduce_float<ReduceLogSumExp>, reduce_cost},
    {"", "ArgMax", 1, 1, 1, arg_extreme<true>, reduce_cost},
    {"", "ArgMin", 1, 1, 1, arg_extreme<false>, reduce_cost},
    {"", "Hardmax", 1, 1, 1, hardmax},
    {"", "TopK", 2, 2, 2, top_k, top_k_cost},
    {"", "CumSum", 2, 2, 1, cumulate<Plus>},
    {"", "CumProd", 2, 2, 1, cumulate<Times>},
};

}  // namespace

Result<ReducedShape> reduced_shape(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t keep, node.attributes.get<int64_t>("keepdims", 1));
  VB_ASSIGN(const int64_t noop, node.attributes.get<int64_t>("noop_with_empty_axes", 0));
  std::vector<int64_t> axes;
  if (inputs.size() > 1 && inputs[1].defined()) {
    VB_ASSIGN(axes, read_integers(inputs[1], "axes", kMaxRank));
  }
  VB_ASSIGN(auto set, axis_set(x.shape(), axes));
  if (axes.empty() && noop == 0) set.fill(true);
  std::vector<int64_t> kept, reduced, result;
  for (int i = 0; i < x.rank(); ++i) {
    kept.push_back(set[i] ? 1 : x.dim(i));
    reduced.push_back(set[i] ? x.dim(i) : 1);
    if (!set[i] || keep != 0) result.push_back(kept.back());
  }
  ReducedShape r;
  VB_ASSIGN(r.kept, Shape::of(kept));
  VB_ASSIGN(r.reduced, Shape::of(reduced));
  VB_ASSIGN(r.result, Shape::of(result));
  return r;
}

std::span<const OpDef> reduction_ops() { return kOps; }

}  // namespace verbatim
