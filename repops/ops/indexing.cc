// Operators that read or write elements at places given by another tensor: the Gather and Scatter
// families, OneHot, NonZero, Compress, Unique, ReverseSequence. Where several sources meet one
// destination they are applied in ascending source index.
#include <bit>
#include <numeric>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

Status check_index(int64_t i, int64_t dim) {
  if (i >= -dim && i < dim) return {};
  return bad_input("index " + std::to_string(i) + " is outside " + std::to_string(dim));
}

// Indices into a dimension, negative ones counted from the end, all checked.
class Indices {
 public:
  static Result<Indices> of(const Tensor& t, int64_t dim) {
    VB_ASSIGN(const Integers values, Integers::of(t, "indices"));
    for (int64_t i = 0; i < values.size(); ++i) VB_TRY(check_index(values[i], dim));
    return Indices(values, dim);
  }
  int64_t size() const { return values_.size(); }
  int64_t operator[](int64_t i) const { return values_[i] + (values_[i] < 0 ? dim_ : 0); }

 private:
  Indices(const Integers& values, int64_t dim) : values_(values), dim_(dim) {}
  Integers values_;
  int64_t dim_;
};

// Gather(data, indices; axis): [data before axis] + [indices] + [data after axis].
Result<Tensors> gather(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &where = inputs[1];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  VB_ASSIGN(const Indices indices, Indices::of(where, x.dim(axis)));
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().begin() + axis);
  dims.insert(dims.end(), where.shape().dims().begin(), where.shape().dims().end());
  dims.insert(dims.end(), x.shape().dims().begin() + axis + 1, x.shape().dims().end());
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, x.allocate_beside(shape));
  if (shape.elements() == 0) return Tensors{out};
  const int64_t block =
      x.shape().elements(axis + 1, x.rank()) * static_cast<int64_t>(size_of(x.dtype()));
  const auto each_offset = [&](auto&& f) {
    for (int64_t outer = 0, n = x.shape().elements(0, axis); outer < n; ++outer)
      for (int64_t i = 0; i < indices.size(); ++i) f((outer * x.dim(axis) + indices[i]) * block);
  };
  if (DeviceMemory* device = x.device()) {
    const int64_t blocks = x.shape().elements(0, axis) * indices.size();
    VB_ASSIGN(Tensor offsets, Tensor::allocate(DType::i64, Shape{blocks}, Purpose::scratch));
    int64_t* next = offsets.mutable_data<int64_t>().data();
    each_offset([&](int64_t offset) { *next++ = offset; });
    VB_TRY(device->copy_blocks(out.mutable_address(), x.address(), static_cast<size_t>(block),
                               offsets.data<int64_t>()));
    return Tensors{out};
  }
  std::byte* y = out.mutable_bytes().data();
  each_offset([&](int64_t offset) {
    copy_bytes(y, x.bytes().data() + offset, block);
    y += block;
  });
  return Tensors{out};
}

// For each index of `shape`, in row-major order: the offset in `data` of the same index with `axis`
// replaced by indices[i].
template <class F>
void for_each_axis_index(const Shape& data, const Shape& shape, int axis, const Indices& indices,
                         F&& f) {
  View view{strides_of(data), 0};
  const int64_t stride = view.strides[axis];
  view.strides[axis] = 0;
  StridedWalk walk(shape, view.strides);
  for (int64_t i = 0; i < indices.size(); ++i, walk.next())
    f(i, walk.offset() + indices[i] * stride);
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
  VB_ASSIGN(const Indices indices, Indices::of(inputs[1], x.dim(axis)));
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

  // for_each_target(f) calls f(update, target) for every update, ascending. With a reduction,
  // 16-bit tensors are rounded once, at the end.
  template <class Targets>
  Result<Tensors> run(const Tensor& data, const Tensor& updates, Targets for_each_target) const {
    VB_ASSIGN(Tensor out, Tensor::allocate(data.dtype(), data.shape()));
    if (reduction_ == "none") {
      copy_bytes(out.mutable_bytes().data(), data.bytes().data(),
                 static_cast<int64_t>(data.byte_size()));
      std::byte* y = out.mutable_bytes().data();
      visit_width(size_of(data.dtype()), [&](auto width) {
        for_each_target([&](int64_t update, int64_t target) {
          std::memcpy(y + target * width, updates.bytes().data() + update * width, width);
        });
      });
      return Tensors{out};
    }
    return visit_number<Tensors>(data, [&](auto type) -> Result<Tensors> {
      using T = decltype(type);
      using C = Compute<T>;
      Tensor totals = out;
      if constexpr (!std::is_same_v<T, C>) {
        VB_ASSIGN(totals, Tensor::allocate(dtype_of<C>(), data.shape()));
      }
      C* total = totals.template mutable_data<C>().data();
      for (int64_t i = 0; i < data.elements(); ++i) total[i] = load(data.data<T>()[i]);
      for_each_target([&](int64_t update, int64_t target) {
        total[target] = combined(total[target], load(updates.data<T>()[update]));
      });
      T* y = out.mutable_data<T>().data();
      for (int64_t i = 0; i < out.elements(); ++i) y[i] = store<T>(total[i]);
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
  VB_ASSIGN(const Indices indices, Indices::of(inputs[1], x.dim(axis)));
  return scatter.run(x, updates, [&](auto f) {
    for_each_axis_index(x.shape(), updates.shape(), axis, indices, f);
  });
}

// Index tuples: the last dimension of `indices` names a place in dimensions [batch, batch + length)
// of `data`; what lies behind is a block that moves together.
struct Tuples {
  int first = 0, length = 0;
  int64_t block = 1;
  int64_t count = 0, per_batch = 0, batch_size = 0;
  Shape data;
  Strides strides{};
  Integers flat;

  // Where tuple i points, in elements of data.
  int64_t offset(int64_t i) const {
    int64_t at = i / per_batch * batch_size;
    for (int j = 0; j < length; ++j) {
      const int64_t index = flat[i * length + j];
      at += (index < 0 ? index + data[first + j] : index) * strides[first + j];
    }
    return at;
  }
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
  t.first = static_cast<int>(batch);
  if (length > data.rank() - t.first) return mismatch();
  t.length = static_cast<int>(length);
  for (int i = 0; i < t.first; ++i)
    if (indices.dim(i) != data.dim(i)) return mismatch();
  t.block = data.shape().elements(t.first + t.length, data.rank());
  VB_ASSIGN(t.flat, Integers::of(indices, "indices"));
  for (int64_t i = 0; i < t.flat.size(); ++i)
    VB_TRY(check_index(t.flat[i], data.dim(t.first + static_cast<int>(i % length))));
  t.count = indices.shape().elements(0, indices.rank() - 1);
  const int64_t batches = data.shape().elements(0, t.first);
  t.per_batch = batches == 0 ? 0 : t.count / batches;
  t.batch_size = data.shape().elements(t.first, data.rank());
  t.data = data.shape();
  t.strides = strides_of(t.data);
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
  if (out.elements() == 0) return Tensors{out};
  for (int64_t i = 0; i < t.count; ++i) {
    copy_bytes(y, x.bytes().data() + t.offset(i) * width, t.block * width);
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
  return scatter.run(x, updates, [&](auto f) {
    for (int64_t i = 0; i < updates.elements(); ++i) f(i, t.offset(i / t.block) + i % t.block);
  });
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
  const bool given = inputs.size() > 2 && inputs[2].defined();
  Integers starts;
  if (given) {
    VB_ASSIGN(starts, Integers::of(inputs[2], "write_indices"));
    if (starts.size() != x.dim(0)) return bad_input("write_indices " + inputs[2].describe());
  }
  for (int64_t i = 0; i < starts.size(); ++i)
    if (starts[i] < 0 || starts[i] > x.dim(axis) ||
        (mode == "linear" && starts[i] + updates.dim(axis) > x.dim(axis)))
      return bad_input("write index " + std::to_string(starts[i]) + " for " + x.describe());
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), x.shape()));
  copy_bytes(out.mutable_bytes().data(), x.bytes().data(), static_cast<int64_t>(x.byte_size()));
  const int64_t block =
      x.shape().elements(axis + 1, x.rank()) * static_cast<int64_t>(size_of(x.dtype()));
  const int64_t per_batch = x.shape().elements(1, axis), positions = updates.dim(axis);
  for (int64_t i = 0; i < updates.shape().elements(0, axis); ++i)
    for (int64_t p = 0; p < positions; ++p) {
      const int64_t start = given ? starts[i / per_batch] : 0, at = (start + p) % x.dim(axis);
      copy_bytes(out.mutable_bytes().data() + (i * x.dim(axis) + at) * block,
                 updates.bytes().data() + (i * positions + p) * block, block);
    }
  return Tensors{out};
}

// --- others
// -----------------------------------------------------------------------------------------------------------------

// A value of any numeric type as int64: floating ones truncated, as Cast does.
template <class T>
int64_t as_integer(T v) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<int64_t>(v);
  else
    return saturate<int64_t>(static_cast<double>(load(v)));
}

// OneHot(indices, depth, values; axis): values = [off, on]; indices outside [-depth, depth) give
// all off.
Result<Tensors> one_hot(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &where = inputs[0], &values = inputs[2];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", -1));
  VB_ASSIGN(const int axis, where.shape().axis(a, true));
  if (inputs[1].elements() != 1 || values.elements() != 2)
    return bad_input("depth " + inputs[1].describe() + ", values " + values.describe());
  VB_ASSIGN(const int64_t depth,
            visit_number<int64_t>(inputs[1], [&](auto type) -> Result<int64_t> {
              return as_integer(inputs[1].data<decltype(type)>()[0]);
            }));
  std::vector<int64_t> dims = dims_of(where);
  dims.insert(dims.begin() + axis, depth);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(values.dtype(), shape));
  const int64_t inner = where.shape().elements(axis, where.rank());
  std::byte* y = out.mutable_bytes().data();
  return visit_number<Tensors>(where, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    visit_width(size_of(values.dtype()), [&](auto width) {
      for (int64_t i = 0; i < out.elements(); ++i)
        std::memcpy(y + i * width, values.bytes().data(), width);
      for (int64_t i = 0; i < where.elements(); ++i) {
        const int64_t given = as_integer(where.data<T>()[i]);
        if (given < -depth || given >= depth) continue;
        const int64_t index = given < 0 ? given + depth : given;
        std::memcpy(y + ((i / inner * depth + index) * inner + i % inner) * width,
                    values.bytes().data() + width, width);
      }
    });
    return Tensors{out};
  });
}

// NonZero(x): the indices of elements other than zero, [rank, count], in row-major order. -0 is
// zero.
Result<Tensors> non_zero(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  Tensor out;
  const Status status =
      visit_dtype<Status>(x.dtype(), internal_error("undefined tensor"), [&](auto type) -> Status {
        const auto values = x.data<decltype(type)>();
        const auto nonzero = [](auto v) { return load(v) != 0; };
        const int64_t count = std::ranges::count_if(values, nonzero);
        VB_ASSIGN(out, Tensor::allocate(DType::i64, {x.rank(), count}));
        const Strides strides = strides_of(x.shape());
        int64_t* y = out.mutable_data<int64_t>().data();
        for (int64_t i = 0, found = 0; i < x.elements(); ++i) {
          if (!nonzero(values[i])) continue;
          for (int d = 0; d < x.rank(); ++d) y[d * count + found] = i / strides[d] % x.dim(d);
          ++found;
        }
        return {};
      });
  VB_TRY(status);
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
  VB_ASSIGN(const Integers lengths, Integers::of(inputs[1], "sequence_lens"));
  const int64_t batches = x.dim(static_cast<int>(batch_axis)),
                times = x.dim(static_cast<int>(time_axis));
  if (lengths.size() != batches) return bad_input("sequence_lens " + inputs[1].describe());
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

// The order of the slices data[i * size, (i + 1) * size).
template <class T>
int compare_slices(const T* data, int64_t size, int64_t a, int64_t b) {
  for (int64_t i = 0; i < size; ++i)
    if (const int c = compare(data[a * size + i], data[b * size + i]); c != 0) return c;
  return 0;
}

// What Unique tells of `count` slices: for each distinct one where it stands first and how often it
// occurs, and for each slice which of them it is.
struct Distinct {
  Tensor first, inverse, counts;
};

template <class T>
Result<Distinct> find_distinct(const T* data, int64_t count, int64_t size, bool sorted) {
  VB_ASSIGN(Tensor order_tensor, Tensor::allocate(DType::i64, Shape{count}));
  const std::span<int64_t> order = order_tensor.mutable_data<int64_t>();
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](int64_t a, int64_t b) {
    const int c = compare_slices(data, size, a, b);
    return c != 0 ? c < 0 : a < b;
  });
  // Equal slices are now runs, each beginning with its first occurrence.
  const auto starts_run = [&](int64_t i) {
    return i == 0 || compare_slices(data, size, order[i - 1], order[i]) != 0;
  };
  int64_t distinct = 0;
  for (int64_t i = 0; i < count; ++i) distinct += starts_run(i);
  Distinct d;
  VB_ASSIGN(d.first, Tensor::allocate(DType::i64, Shape{distinct}));
  VB_ASSIGN(d.counts, Tensor::zeros(DType::i64, Shape{distinct}));
  VB_ASSIGN(d.inverse, Tensor::allocate(DType::i64, Shape{count}));
  const std::span<int64_t> first = d.first.mutable_data<int64_t>();
  for (int64_t i = 0, run = 0; i < count; ++i)
    if (starts_run(i)) first[run++] = order[i];
  if (!sorted) std::ranges::sort(first);
  for (int64_t i = 0, run = -1, at = 0; i < count; ++i) {
    if (starts_run(i))
      at = sorted ? ++run : std::ranges::lower_bound(first, order[i]) - first.begin();
    d.inverse.mutable_data<int64_t>()[order[i]] = at;
    ++d.counts.mutable_data<int64_t>()[at];
  }
  return d;
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
  VB_TRY(copy_strided(front_shape, slices, {strides_of(front_shape), 0}, x, view));

  const int64_t count = x.dim(axis), size = front_shape.elements(1, front_shape.rank());
  Distinct found;
  VB_TRY(
      visit_dtype<Status>(x.dtype(), internal_error("undefined tensor"), [&](auto type) -> Status {
        VB_ASSIGN(found,
                  find_distinct(slices.data<decltype(type)>().data(), count, size, sorted != 0));
        return {};
      }));

  const std::span<const int64_t> first = found.first.data<int64_t>();
  std::vector<int64_t> dims = dims_of(x);
  dims[axis] = found.first.elements();
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  View target{strides_of(shape), 0}, source{dense, 0};
  dims[axis] = 1;
  VB_ASSIGN(const Shape slice, Shape::of(dims));
  for (size_t g = 0; g < first.size(); ++g) {
    target.offset = static_cast<int64_t>(g) * target.strides[axis];
    source.offset = first[g] * dense[axis];
    VB_TRY(copy_strided(slice, out, target, x, source));
  }
  return Tensors{out, found.first, found.inverse, found.counts};
}

// A sort of the slices, and its comparisons of their elements.
uint64_t unique_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const auto n = static_cast<uint64_t>(inputs[0].elements());
  return saturating_multiply(n, 3 + 3 * static_cast<uint64_t>(std::bit_width(n)));
}

// Of those that read all their inputs to give few elements, or none.
uint64_t reading_cost(const Node&, std::span<const Tensor> inputs,
                      std::span<const Tensor> outputs) {
  uint64_t n = 0;
  for (const Tensor& t : inputs) n += static_cast<uint64_t>(t.elements());
  for (const Tensor& t : outputs) n += static_cast<uint64_t>(t.elements());
  return n;
}

constexpr OpDef kOps[] = {
    {"", "Gather", 2, 2, 1, gather},
    {"", "GatherElements", 2, 2, 1, gather_elements},
    {"", "GatherND", 2, 2, 1, gather_nd},
    {"", "ScatterElements", 3, 3, 1, scatter_elements},
    {"", "ScatterND", 3, 3, 1, scatter_nd},
    {"", "TensorScatter", 2, 3, 1, tensor_scatter},
    {"", "OneHot", 3, 3, 1, one_hot, reading_cost},
    {"", "NonZero", 1, 1, 1, non_zero, reading_cost},
    {"", "Compress", 2, 2, 1, compress, reading_cost},
    {"", "ReverseSequence", 2, 2, 1, reverse_sequence},
    {"", "Unique", 1, 1, 4, unique, unique_cost},
};

}  // namespace

std::span<const OpDef> indexing_ops() { return kOps; }

}  // namespace verbatim
