// Operators that read or write elements at places given by another tensor: the Gather and Scatter
// families, OneHot, NonZero, Compress, Unique, ReverseSequence. Where several sources meet one
// destination they are applied in ascending source index.
#include <numeric>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

// Indices into a dimension, negative ones counted from the end, all checked.
Result<std::vector<int64_t>> read_indices(const Tensor& t, int64_t dim) {
  VB_ASSIGN(std::vector<int64_t> indices, read_integers(t, "indices"));
  for (int64_t& i : indices) {
    if (i < -dim || i >= dim)
      return bad_input("index " + std::to_string(i) + " is outside " + std::to_string(dim));
    if (i < 0) i += dim;
  }
  return indices;
}

// Gather(data, indices; axis): [data before axis] + [indices] + [data after axis].
Result<Tensors> gather(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &where = inputs[1];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  VB_ASSIGN(const std::vector<int64_t> indices, read_indices(where, x.dim(axis)));
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().begin() + axis);
  dims.insert(dims.end(), where.shape().dims().begin(), where.shape().dims().end());
  dims.insert(dims.end(), x.shape().dims().begin() + axis + 1, x.shape().dims().end());
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  if (shape.elements() == 0) return Tensors{out};
  const int64_t block =
      x.shape().elements(axis + 1, x.rank()) * static_cast<int64_t>(size_of(x.dtype()));
  std::byte* y = out.mutable_bytes().data();
  for (int64_t outer = 0, n = x.shape().elements(0, axis); outer < n; ++outer)
    for (int64_t i : indices) {
      copy_bytes(y, x.bytes().data() + (outer * x.dim(axis) + i) * block, block);
      y += block;
    }
  return Tensors{out};
}

// For each index of `shape`, in row-major order: the offset in `data` of the same index with `axis`
// replaced by indices[i].
template <class F>
void for_each_axis_index(const Shape& data, const Shape& shape, int axis,
                         const std::vector<int64_t>& indices, F&& f) {
  View view{strides_of(data), 0};
  const int64_t stride = view.strides[axis];
  view.strides[axis] = 0;
  StridedWalk walk(shape, view.strides);
  for (size_t i = 0; i < indices.size(); ++i, walk.next())
    f(static_cast<int64_t>(i), walk.offset() + indices[i] * stride);
}

Status check_axis_indices(const Tensor& data, const Tensor& indices, int axis) {
  bool fits = indices.rank() == data.rank();
  for (int i = 0; fits && i < data.rank(); ++i) fits = i == axis || indices.dim(i) <= data.dim(i);
  return fits ? Status() : bad_input("indices " + indices.describe() + " for " + data.describe());
}

// GatherElements(data, indices; axis): out[i][j] = data[indices[i][j]][j] for axis 0.
Result<Tensors> gather_elements(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  VB_TRY(check_axis_indices(x, inputs[1], axis));
  VB_ASSIGN(const std::vector<int64_t> indices, read_indices(inputs[1], x.dim(axis)));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), inputs[1].shape()));
  std::byte* y = out.mutable_bytes().data();
  visit_width(size_of(x.dtype()), [&](auto width) {
    for_each_axis_index(x.shape(), out.shape(), axis, indices, [&](int64_t i, int64_t at) {
      std::memcpy(y + i * width, x.bytes().data() + at * width, width);
    });
  });
  return Tensors{out};
}

// --- writing
// ----------------------------------------------------------------------------------------------------------------

// Writes update element `source` to data element `target`, combining as `reduction` says.
class Scatter {
 public:
  static Result<Scatter> create(const Node& node, const Tensor& data, const Tensor& updates) {
    Scatter s;
    VB_ASSIGN(s.reduction_, node.attributes.get<std::string>("reduction", "none"));
    constexpr std::string_view kKnown[] = {"none", "add", "mul", "max", "min"};
    if (std::ranges::find(kKnown, s.reduction_) == std::end(kKnown))
      return bad_input("reduction '" + s.reduction_ + "'");
    if (updates.dtype() != data.dtype())
      return bad_input("updates " + updates.describe() + " for " + data.describe());
    return s;
  }

  // targets[i] is where update i goes. With a reduction, 16-bit tensors are rounded once, at the
  // end.
  Result<Tensors> run(const Tensor& data, const Tensor& updates,
                      const std::vector<int64_t>& targets) const {
    VB_ASSIGN(Tensor out, Tensor::allocate(data.dtype(), data.shape()));
    if (reduction_ == "none") {
      copy_bytes(out.mutable_bytes().data(), data.bytes().data(),
                 static_cast<int64_t>(data.byte_size()));
      visit_width(size_of(data.dtype()), [&](auto width) {
        for (size_t i = 0; i < targets.size(); ++i)
          std::memcpy(out.mutable_bytes().data() + targets[i] * width,
                      updates.bytes().data() + i * width, width);
      });
      return Tensors{out};
    }
    return visit_number<Tensors>(data, [&](auto type) -> Result<Tensors> {
      using T = decltype(type);
      std::vector<Compute<T>> total;
      for (T v : data.data<T>()) total.push_back(load(v));
      for (size_t i = 0; i < targets.size(); ++i)
        total[targets[i]] = combined(total[targets[i]], load(updates.data<T>()[i]));
      T* y = out.mutable_data<T>().data();
      for (size_t i = 0; i < total.size(); ++i) y[i] = store<T>(total[i]);
      return Tensors{out};
    });
  }

 private:
  template <class C>
  C combined(C a, C b) const {
    if (reduction_ == "add") return add_of(a, b);
    if (reduction_ == "mul") return multiply_of(a, b);
    return reduction_ == "max" ? maximum_of(a, b) : minimum_of(a, b);
  }
  std::string reduction_;
};

// ScatterElements(data, indices, updates; axis, reduction).
Result<Tensors> scatter_elements(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &updates = inputs[2];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  VB_ASSIGN(const Scatter scatter, Scatter::create(node, x, updates));
  VB_TRY(check_axis_indices(x, inputs[1], axis));
  if (!(updates.shape() == inputs[1].shape()))
    return bad_input("updates " + updates.describe() + " for indices " + inputs[1].describe());
  VB_ASSIGN(std::vector<int64_t> targets, read_indices(inputs[1], x.dim(axis)));
  std::vector<int64_t> offsets(targets.size());
  for_each_axis_index(x.shape(), updates.shape(), axis, targets,
                      [&](int64_t i, int64_t at) { offsets[i] = at; });
  return scatter.run(x, updates, offsets);
}

// Index tuples: the last dimension of `indices` names a place in dimensions [batch, batch + length)
// of `data`; what lies behind is a block that moves together.
struct Tuples {
  std::vector<int64_t> offsets;  // in elements of data, one for each tuple
  int length = 0;
  int64_t block = 1;
};

Result<Tuples> read_tuples(const Tensor& data, const Tensor& indices, int64_t batch) {
  const auto mismatch = [&] {
    return bad_input("indices " + indices.describe() + " for " + data.describe());
  };
  if (indices.rank() < 1 || data.rank() < 1 || batch < 0 ||
      batch >= std::min(indices.rank(), data.rank()))
    return mismatch();
  Tuples t;
  const int64_t length = indices.dim(indices.rank() - 1);
  const int first = static_cast<int>(batch);
  if (length > data.rank() - first) return mismatch();
  t.length = static_cast<int>(length);
  for (int i = 0; i < first; ++i)
    if (indices.dim(i) != data.dim(i)) return mismatch();
  t.block = data.shape().elements(first + t.length, data.rank());
  VB_ASSIGN(const std::vector<int64_t> flat, read_integers(indices, "indices"));
  const int64_t count = indices.shape().elements(0, indices.rank() - 1),
                batches = data.shape().elements(0, first);
  VB_TRY(Tensor::allocate(DType::i64, Shape{count}).status());
  const int64_t per_batch = batches == 0 ? 0 : count / batches,
                batch_size = data.shape().elements(first, data.rank());
  const Strides strides = strides_of(data.shape());
  for (int64_t i = 0; i < count; ++i) {
    int64_t offset = i / per_batch * batch_size;
    for (int j = 0; j < t.length; ++j) {
      const int64_t dim = data.dim(first + j), index = flat[i * length + j];
      if (index < -dim || index >= dim)
        return bad_input("index " + std::to_string(index) + " is outside " + std::to_string(dim));
      offset += (index < 0 ? index + dim : index) * strides[first + j];
    }
    t.offsets.push_back(offset);
  }
  return t;
}

// GatherND(data, indices; batch_dims).
Result<Tensors> gather_nd(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &where = inputs[1];
  VB_ASSIGN(const int64_t batch, node.attributes.get<int64_t>("batch_dims", 0));
  VB_ASSIGN(const Tuples t, read_tuples(x, where, batch));
  std::vector<int64_t> dims(where.shape().dims().begin(), where.shape().dims().end() - 1);
  dims.insert(dims.end(), x.shape().dims().begin() + batch + t.length, x.shape().dims().end());
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  const int64_t width = static_cast<int64_t>(size_of(x.dtype()));
  std::byte* y = out.mutable_bytes().data();
  for (int64_t offset : t.offsets) {
    copy_bytes(y, x.bytes().data() + offset * width, t.block * width);
    y += t.block * width;
  }
  return Tensors{out};
}

// ScatterND(data, indices, updates; reduction).
Result<Tensors> scatter_nd(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &where = inputs[1], &updates = inputs[2];
  VB_ASSIGN(const Scatter scatter, Scatter::create(node, x, updates));
  VB_ASSIGN(const Tuples t, read_tuples(x, where, 0));
  std::vector<int64_t> dims(where.shape().dims().begin(), where.shape().dims().end() - 1);
  dims.insert(dims.end(), x.shape().dims().begin() + t.length, x.shape().dims().end());
  if (!std::ranges::equal(dims, updates.shape().dims()))
    return bad_input("updates " + updates.describe() + " for indices " + where.describe());
  std::vector<int64_t> targets;
  for (int64_t offset : t.offsets)
    for (int64_t i = 0; i < t.block; ++i) targets.push_back(offset + i);
  return scatter.run(x, updates, targets);
}

// TensorScatter(past, update, write_indices?; axis, mode): writes update into a copy of a cache,
// batch entry b at position write_indices[b] of the axis, "circular" wrapping around.
Result<Tensors> tensor_scatter(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &updates = inputs[1];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", -2));
  VB_ASSIGN(const std::string mode, node.attributes.get<std::string>("mode", "linear"));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  if (mode != "linear" && mode != "circular") return bad_input("mode '" + mode + "'");
  bool fits = updates.dtype() == x.dtype() && updates.rank() == x.rank() && axis > 0;
  for (int i = 0; fits && i < x.rank(); ++i)
    fits = i == axis ? updates.dim(i) <= x.dim(i) : updates.dim(i) == x.dim(i);
  if (!fits) return bad_input("update " + updates.describe() + " for " + x.describe());
  if (updates.elements() == 0) return Tensors{x};
  std::vector<int64_t> starts(static_cast<size_t>(x.dim(0)), 0);
  if (inputs.size() > 2 && inputs[2].defined()) {
    VB_ASSIGN(starts, read_integers(inputs[2], "write_indices", x.dim(0)));
  }
  if (static_cast<int64_t>(starts.size()) != x.dim(0))
    return bad_input("write_indices " + inputs[2].describe());
  for (int64_t s : starts)
    if (s < 0 || s > x.dim(axis) || (mode == "linear" && s + updates.dim(axis) > x.dim(axis)))
      return bad_input("write index " + std::to_string(s) + " for " + x.describe());
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), x.shape()));
  copy_bytes(out.mutable_bytes().data(), x.bytes().data(), static_cast<int64_t>(x.byte_size()));
  const int64_t block =
      x.shape().elements(axis + 1, x.rank()) * static_cast<int64_t>(size_of(x.dtype()));
  const int64_t per_batch = x.shape().elements(1, axis), positions = updates.dim(axis);
  for (int64_t i = 0; i < updates.shape().elements(0, axis); ++i)
    for (int64_t p = 0; p < positions; ++p) {
      const int64_t at = (starts[i / per_batch] + p) % x.dim(axis);
      copy_bytes(out.mutable_bytes().data() + (i * x.dim(axis) + at) * block,
                 updates.bytes().data() + (i * positions + p) * block, block);
    }
  return Tensors{out};
}

// --- others
// -----------------------------------------------------------------------------------------------------------------

// The values of a tensor of any numeric type as int64: floating ones truncated, as Cast does.
Result<std::vector<int64_t>> as_integers(const Tensor& t) {
  return visit_number<std::vector<int64_t>>(t, [&](auto type) -> Result<std::vector<int64_t>> {
    using T = decltype(type);
    std::vector<int64_t> values;
    for (T v : t.data<T>()) {
      if constexpr (std::is_integral_v<T>)
        values.push_back(static_cast<int64_t>(v));
      else
        values.push_back(saturate<int64_t>(static_cast<double>(load(v))));
    }
    return values;
  });
}

// OneHot(indices, depth, values; axis): values = [off, on]; indices outside [-depth, depth) give
// all off.
Result<Tensors> one_hot(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &where = inputs[0], &values = inputs[2];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", -1));
  VB_ASSIGN(const int axis, where.shape().axis(a, true));
  VB_ASSIGN(const std::vector<int64_t> depths, as_integers(inputs[1]));
  if (depths.size() != 1 || values.elements() != 2)
    return bad_input("depth " + inputs[1].describe() + ", values " + values.describe());
  const int64_t depth = depths[0];
  VB_ASSIGN(const std::vector<int64_t> indices, as_integers(where));
  std::vector<int64_t> dims = dims_of(where);
  dims.insert(dims.begin() + axis, depth);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(values.dtype(), shape));
  const int64_t inner = where.shape().elements(axis, where.rank());
  std::byte* y = out.mutable_bytes().data();
  visit_width(size_of(values.dtype()), [&](auto width) {
    for (int64_t i = 0; i < out.elements(); ++i)
      std::memcpy(y + i * width, values.bytes().data(), width);
    for (size_t i = 0; i < indices.size(); ++i) {
      if (indices[i] < -depth || indices[i] >= depth) continue;
      const int64_t index = indices[i] < 0 ? indices[i] + depth : indices[i],
                    n = static_cast<int64_t>(i);
      std::memcpy(y + ((n / inner * depth + index) * inner + n % inner) * width,
                  values.bytes().data() + width, width);
    }
  });
  return Tensors{out};
}

// NonZero(x): the indices of elements other than zero, [rank, count], in row-major order. -0 is
// zero.
Result<Tensors> non_zero(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  std::vector<int64_t> found;
  visit_dtype<bool>(x.dtype(), false, [&](auto type) {
    using T = decltype(type);
    for (int64_t i = 0; i < x.elements(); ++i)
      if (load(x.data<T>()[i]) != 0) found.push_back(i);
    return true;
  });
  const auto count = static_cast<int64_t>(found.size());
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::i64, Shape{x.rank(), count}));
  const Strides strides = strides_of(x.shape());
  int64_t* y = out.mutable_data<int64_t>().data();
  for (int d = 0; d < x.rank(); ++d)
    for (int64_t i = 0; i < count; ++i) *y++ = found[i] / strides[d] % x.dim(d);
  return Tensors{out};
}

// Compress(x, condition; axis?): the slices whose condition is true; without an axis, elements of
// the flattened operand.
Result<Tensors> compress(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& condition = inputs[1];
  Tensor x = inputs[0];
  int axis = 0;
  if (node.attributes.has("axis")) {
    VB_ASSIGN(const int64_t a, node.attributes.require<int64_t>("axis"));
    VB_ASSIGN(axis, x.shape().axis(a));
  } else {
    VB_ASSIGN(x, x.reshaped(Shape{x.elements()}));
  }
  if (condition.dtype() != DType::boolean || condition.rank() != 1 ||
      condition.elements() > x.dim(axis))
    return bad_input("condition " + condition.describe() + " for " + inputs[0].describe());
  std::vector<int64_t> dims = dims_of(x);
  dims[axis] = std::ranges::count(condition.data<bool>(), true);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  if (out.elements() == 0) return Tensors{out};
  const int64_t block =
      x.shape().elements(axis + 1, x.rank()) * static_cast<int64_t>(size_of(x.dtype()));
  std::byte* y = out.mutable_bytes().data();
  for (int64_t outer = 0; outer < x.shape().elements(0, axis); ++outer)
    for (int64_t i = 0; i < condition.elements(); ++i)
      if (condition.data<bool>()[i]) {
        copy_bytes(y, x.bytes().data() + (outer * x.dim(axis) + i) * block, block);
        y += block;
      }
  return Tensors{out};
}

// ReverseSequence(x, sequence_lens; batch_axis, time_axis): the first sequence_lens[b] steps of
// batch entry b in reverse.
Result<Tensors> reverse_sequence(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t batch_axis, node.attributes.get<int64_t>("batch_axis", 1));
  VB_ASSIGN(const int64_t time_axis, node.attributes.get<int64_t>("time_axis", 0));
  if (x.rank() < 2 || (batch_axis != 0 && batch_axis != 1) || time_axis != 1 - batch_axis)
    return bad_input("batch_axis " + std::to_string(batch_axis) + ", time_axis " +
                     std::to_string(time_axis) + " for " + x.describe());
  VB_ASSIGN(const std::vector<int64_t> lengths,
            read_integers(inputs[1], "sequence_lens", x.dim(static_cast<int>(batch_axis))));
  const int64_t batches = x.dim(static_cast<int>(batch_axis)),
                times = x.dim(static_cast<int>(time_axis));
  if (static_cast<int64_t>(lengths.size()) != batches)
    return bad_input("sequence_lens " + inputs[1].describe());
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), x.shape()));
  const int64_t block = x.shape().elements(2, x.rank()) * static_cast<int64_t>(size_of(x.dtype()));
  if (out.elements() == 0) return Tensors{out};
  const Strides strides = strides_of(Shape{x.dim(0), x.dim(1)});
  for (int64_t b = 0; b < batches; ++b) {
    if (lengths[b] < 0 || lengths[b] > times)
      return bad_input("sequence length " + std::to_string(lengths[b]));
    for (int64_t t = 0; t < times; ++t) {
      const int64_t from = t < lengths[b] ? lengths[b] - 1 - t : t, base = b * strides[batch_axis];
      copy_bytes(out.mutable_bytes().data() + (base + t * strides[time_axis]) * block,
                 x.bytes().data() + (base + from * strides[time_axis]) * block, block);
    }
  }
  return Tensors{out};
}

// Total order of the contract's sorts: ascending, -0 equal to +0, NaN last and equal to NaN.
template <class T>
int compare(T a, T b) {
  const auto x = load(a), y = load(b);
  if (x < y) return -1;
  if (x > y) return 1;
  if (x == y) return 0;
  const bool nan_x = x != x, nan_y = y != y;
  return static_cast<int>(nan_x) - static_cast<int>(nan_y);
}

// The distinct ones of `count` slices of `size` elements, as groups of slice numbers, ascending in
// each group.
template <class T>
std::vector<std::vector<int64_t>> group_equal(const T* data, int64_t count, int64_t size,
                                              bool sorted) {
  const auto order = [&](int64_t a, int64_t b) {
    for (int64_t i = 0; i < size; ++i)
      if (const int c = compare(data[a * size + i], data[b * size + i]); c != 0) return c;
    return 0;
  };
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  std::ranges::stable_sort(numbers, [&](int64_t a, int64_t b) { return order(a, b) < 0; });
  std::vector<std::vector<int64_t>> groups;
  for (int64_t n : numbers) {
    if (groups.empty() || order(groups.back().front(), n) != 0) groups.emplace_back();
    groups.back().push_back(n);
  }
  if (!sorted) std::ranges::sort(groups, {}, [](const auto& g) { return g.front(); });
  return groups;
}

// Unique(x; axis?, sorted): distinct elements (or slices along the axis), first occurrences,
// inverse, counts.
Result<Tensors> unique(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t sorted, node.attributes.get<int64_t>("sorted", 1));
  Tensor x = inputs[0];
  int axis = 0;
  if (node.attributes.has("axis")) {
    VB_ASSIGN(const int64_t a, node.attributes.require<int64_t>("axis"));
    VB_ASSIGN(axis, x.shape().axis(a));
  } else {
    VB_ASSIGN(x, x.reshaped(Shape{x.elements()}));
  }
  if (x.elements() == 0 && x.dim(axis) > 0)
    return bad_input("slices of " + x.describe() + " are empty");
  // Slices become contiguous: the axis goes first.
  std::vector<int64_t> front = {x.dim(axis)};
  View view;
  const Strides dense = strides_of(x.shape());
  view.strides[0] = dense[axis];
  for (int d = 0, next = 1; d < x.rank(); ++d)
    if (d != axis) {
      front.push_back(x.dim(d));
      view.strides[next++] = dense[d];
    }
  VB_ASSIGN(const Shape front_shape, Shape::of(front));
  VB_ASSIGN(Tensor slices, Tensor::allocate(x.dtype(), front_shape));
  copy_strided(front_shape, slices, {strides_of(front_shape), 0}, x, view);

  const int64_t count = x.dim(axis), size = front_shape.elements(1, front_shape.rank());
  std::vector<std::vector<int64_t>> groups;
  visit_dtype<bool>(x.dtype(), false, [&](auto type) {
    groups = group_equal(slices.data<decltype(type)>().data(), count, size, sorted != 0);
    return true;
  });

  const auto distinct = static_cast<int64_t>(groups.size());
  std::vector<int64_t> dims = dims_of(x);
  dims[axis] = distinct;
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  std::vector<int64_t> first, inverse(static_cast<size_t>(count)), counts;
  View target{strides_of(shape), 0}, source{dense, 0};
  dims[axis] = 1;
  VB_ASSIGN(const Shape slice, Shape::of(dims));
  for (int64_t g = 0; g < distinct; ++g) {
    first.push_back(groups[g].front());
    counts.push_back(static_cast<int64_t>(groups[g].size()));
    for (int64_t n : groups[g]) inverse[n] = g;
    target.offset = g * target.strides[axis];
    source.offset = groups[g].front() * dense[axis];
    copy_strided(slice, out, target, x, source);
  }
  VB_ASSIGN(Tensor first_tensor, Tensor::from<int64_t>(Shape{distinct}, first));
  VB_ASSIGN(Tensor inverse_tensor, Tensor::from<int64_t>(Shape{count}, inverse));
  VB_ASSIGN(Tensor counts_tensor, Tensor::from<int64_t>(Shape{distinct}, counts));
  return Tensors{out, first_tensor, inverse_tensor, counts_tensor};
}

constexpr OpDef kOps[] = {
    {"", "Gather", 2, 2, 1, gather},        {"", "GatherElements", 2, 2, 1, gather_elements},
    {"", "GatherND", 2, 2, 1, gather_nd},   {"", "ScatterElements", 3, 3, 1, scatter_elements},
    {"", "ScatterND", 3, 3, 1, scatter_nd}, {"", "TensorScatter", 2, 3, 1, tensor_scatter},
    {"", "OneHot", 3, 3, 1, one_hot},       {"", "NonZero", 1, 1, 1, non_zero},
    {"", "Compress", 2, 2, 1, compress},    {"", "ReverseSequence", 2, 2, 1, reverse_sequence},
    {"", "Unique", 1, 1, 4, unique},
};

}  // namespace

std::span<const OpDef> indexing_ops() { return kOps; }

}  // namespace verbatim
