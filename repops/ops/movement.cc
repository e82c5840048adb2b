// Operators that move, repeat or create elements and keep their bytes. Those that only change the
// shape share the operand's storage. Indexed movement is in indexing.cc.
#include <bit>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

Result<Tensors> view_as(const Tensor& x, std::span<const int64_t> dims) {
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, x.reshaped(shape));
  return Tensors{out};
}

// --- shape only
// -------------------------------------------------------------------------------------------------------------

// Reshape(data, shape): -1 is inferred, 0 copies the operand's dimension (unless allowzero). A
// copied dimension takes no part in what is inferred, so that a batch of none has entries of their
// size.
Result<Tensors> reshape(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t allow_zero, node.attributes.get<int64_t>("allowzero", 0));
  VB_ASSIGN(std::vector<int64_t> dims, read_integers(inputs[1], "shape", kMaxRank));
  int inferred = -1;
  int64_t known = 1;
  std::array<bool, kMaxRank> copied{};
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && allow_zero == 0) {
      if (static_cast<int>(i) >= x.rank())
        return bad_input("0 in dimension " + std::to_string(i) + " of the shape for " +
                         x.describe());
      dims[i] = x.dim(static_cast<int>(i));
      copied[i] = true;
    } else if (dims[i] == -1) {
      if (inferred >= 0) return bad_input("two dimensions of the shape are -1");
      inferred = static_cast<int>(i);
    } else {
      VB_ASSIGN(known, checked_multiply(known, dims[i]));
    }
  }
  if (inferred >= 0) {
    int64_t rest = 1;
    for (int i = 0; i < x.rank(); ++i) rest *= copied[i] ? 1 : x.dim(i);
    if (known == 0 || rest % known != 0)
      return bad_input("cannot infer a dimension of the shape for " + x.describe());
    dims[inferred] = rest / known;
  }
  return view_as(x, dims);
}

// Flatten: [d_0 * ... * d_(axis-1), d_axis * ...].
Result<Tensors> flatten(const Node& node, std::span<const Tensor> inputs) {
  const Shape& s = inputs[0].shape();
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 1));
  if (a < -s.rank() || a > s.rank())
    return bad_input("axis " + std::to_string(a) + " for " + inputs[0].describe());
  const int axis = static_cast<int>(a < 0 ? a + s.rank() : a);
  return view_as(inputs[0], std::array{s.elements(0, axis), s.elements(axis, s.rank())});
}

// Squeeze(data, axes?): without axes, every dimension of size 1 goes.
Result<Tensors> squeeze(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  std::array<bool, kMaxRank> drop{};
  if (inputs.size() > 1 && inputs[1].defined()) {
    VB_ASSIGN(const std::vector<int64_t> axes, read_integers(inputs[1], "axes", kMaxRank));
    VB_ASSIGN(drop, axis_set(x.shape(), axes));
  } else {
    for (int i = 0; i < x.rank(); ++i) drop[i] = x.dim(i) == 1;
  }
  std::vector<int64_t> dims;
  for (int i = 0; i < x.rank(); ++i) {
    if (!drop[i])
      dims.push_back(x.dim(i));
    else if (x.dim(i) != 1)
      return bad_input("cannot squeeze dimension " + std::to_string(i) + " of " + x.describe());
  }
  return view_as(x, dims);
}

// Unsqueeze(data, axes): axes are positions in the result.
Result<Tensors> unsqueeze(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const std::vector<int64_t> axes, read_integers(inputs[1], "axes", kMaxRank));
  const int rank = x.rank() + static_cast<int>(axes.size());
  if (rank > kMaxRank) return over_limit("rank " + std::to_string(rank));
  const std::vector<int64_t> ones(static_cast<size_t>(rank), 1);
  VB_ASSIGN(const Shape result, Shape::of(ones));
  VB_ASSIGN(const auto inserted, axis_set(result, axes));
  std::vector<int64_t> dims;
  for (int i = 0, next = 0; i < rank; ++i) dims.push_back(inserted[i] ? 1 : x.dim(next++));
  return view_as(x, dims);
}

Result<Tensors> identity(const Node&, std::span<const Tensor> inputs) { return Tensors{inputs[0]}; }

// Dropout(x, ratio?, training?): x and a mask that is all true. In training only where the ratio is
// 0 (an absent one is 0.5): else it draws, and what it gives does not follow from its inputs.
Result<Tensors> dropout(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], ratio = input_or_none(inputs, 1),
               training = input_or_none(inputs, 2);
  if (ratio.defined() && (!is_float(ratio.dtype()) || ratio.elements() != 1))
    return bad_input("ratio " + ratio.describe());
  if (training.defined() && (training.dtype() != DType::boolean || training.elements() != 1))
    return bad_input("training_mode " + training.describe());
  if (training.defined() && training.data<bool>()[0]) {
    if (!ratio.defined()) return unsupported("in training mode with a ratio of 0.5 it is random");
    VB_ASSIGN(const bool keeps_all, visit_float<bool>(ratio, [&](auto type) -> Result<bool> {
                return load(ratio.data<decltype(type)>()[0]) == 0;
              }));
    if (!keeps_all) return unsupported("in training mode with a ratio other than 0 it is random");
  }
  if (node.outputs.size() < 2) return Tensors{x};
  VB_ASSIGN(Tensor mask, Tensor::allocate(DType::boolean, x.shape()));
  std::ranges::fill(mask.mutable_data<bool>(), true);
  return Tensors{x, mask};
}

// BitCast: the same bits as another type of the same width.
Result<Tensors> bit_cast(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t to, node.attributes.require<int64_t>("to"));
  const DType dtype = dtype_from_onnx(to);
  if (dtype == DType::undefined || bit_width(dtype) != bit_width(inputs[0].dtype()))
    return unsupported("BitCast of " + inputs[0].describe() + " to element type " +
                       std::to_string(to));
  VB_ASSIGN(Tensor out, Tensor::allocate(dtype, inputs[0].shape()));
  copy_bytes(out.mutable_bytes().data(), inputs[0].bytes().data(),
             static_cast<int64_t>(out.byte_size()));
  if (dtype == DType::boolean)
    for (std::byte& b : out.mutable_bytes()) b = static_cast<std::byte>(b != std::byte{0});
  return Tensors{out};
}

// Shape(data; start, end): the dimensions [start, end) as int64.
Result<Tensors> shape_of(const Node& node, std::span<const Tensor> inputs) {
  const int64_t rank = inputs[0].rank();
  VB_ASSIGN(int64_t start, node.attributes.get<int64_t>("start", 0));
  VB_ASSIGN(int64_t end, node.attributes.get<int64_t>("end", rank));
  const auto clamped = [rank](int64_t v) {
    return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank);
  };
  start = clamped(start);
  end = std::max(start, clamped(end));
  const std::span<const int64_t> dims = inputs[0].shape().dims().subspan(
      static_cast<size_t>(start), static_cast<size_t>(end - start));
  VB_ASSIGN(Tensor out, Tensor::from<int64_t>(Shape{end - start}, dims));
  return Tensors{out};
}

Result<Tensors> size(const Node&, std::span<const Tensor> inputs) {
  VB_ASSIGN(Tensor out, Tensor::scalar<int64_t>(inputs[0].elements()));
  return Tensors{out};
}

// --- strided copies
// ---------------------------------------------------------------------------------------------------------

// A new dense tensor whose elements are read through `view`.
Result<Tensor> materialize(const Tensor& x, const Shape& shape, const View& view) {
  VB_ASSIGN(Tensor out, x.allocate_beside(shape));
  VB_TRY(copy_strided(shape, out, {strides_of(shape), 0}, x, view));
  return out;
}

Result<Tensor> permuted(const Tensor& x, std::span<const int> permutation) {
  const Strides dense = strides_of(x.shape());
  View view;
  std::vector<int64_t> dims;
  for (size_t i = 0; i < permutation.size(); ++i) {
    dims.push_back(x.dim(permutation[i]));
    view.strides[i] = dense[permutation[i]];
  }
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  return materialize(x, shape, view);
}

// Transpose(data; perm): dimension i of the result is dimension perm[i] of the operand; reversed by
// default.
Result<Tensors> transpose(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  std::vector<int64_t> reversed;
  for (int i = x.rank() - 1; i >= 0; --i) reversed.push_back(i);
  VB_ASSIGN(const std::vector<int64_t> perm,
            node.attributes.get<std::vector<int64_t>>("perm", reversed));
  if (static_cast<int>(perm.size()) != x.rank())
    return bad_input("perm of " + std::to_string(perm.size()) + " axes for " + x.describe());
  VB_TRY(axis_set(x.shape(), perm).status());
  std::vector<int> permutation;
  for (int64_t a : perm) permutation.push_back(static_cast<int>(a < 0 ? a + x.rank() : a));
  VB_ASSIGN(Tensor out, permuted(x, permutation));
  return Tensors{out};
}

// Expand(data, shape): broadcast both ways.
Result<Tensors> expand(const Node&, std::span<const Tensor> inputs) {
  VB_ASSIGN(const std::vector<int64_t> dims, read_integers(inputs[1], "shape", kMaxRank));
  VB_ASSIGN(const Shape target, Shape::of(dims));
  VB_ASSIGN(const Shape shape, broadcast(inputs[0].shape(), target));
  VB_ASSIGN(Tensor out,
            materialize(inputs[0], shape, {broadcast_strides(inputs[0].shape(), shape), 0}));
  return Tensors{out};
}

// Concat(...; axis).
Result<Tensors> concat(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t a, node.attributes.require<int64_t>("axis"));
  VB_ASSIGN(const int axis, inputs[0].shape().axis(a));
  std::vector<int64_t> dims = dims_of(inputs[0]);
  dims[axis] = 0;
  for (const Tensor& t : inputs) {
    bool same = t.dtype() == inputs[0].dtype() && t.rank() == inputs[0].rank();
    for (int i = 0; same && i < t.rank(); ++i) same = i == axis || t.dim(i) == inputs[0].dim(i);
    if (!same)
      return bad_input("cannot join " + inputs[0].describe() + " and " + t.describe() +
                       " on axis " + std::to_string(axis));
    dims[axis] += t.dim(axis);
    VB_TRY(check_size(dims[axis], "dimension"));
  }
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, inputs[0].allocate_beside(shape));
  View view{strides_of(shape), 0};
  for (const Tensor& t : inputs) {
    VB_TRY(copy_strided(t.shape(), out, view, t, {strides_of(t.shape()), 0}));
    view.offset += t.dim(axis) * view.strides[axis];
  }
  return Tensors{out};
}

// The sizes that Split gives to its outputs.
Result<std::vector<int64_t>> split_sizes(const Node& node, std::span<const Tensor> inputs,
                                         int64_t dim) {
  const auto count = static_cast<int64_t>(node.outputs.size());
  if (inputs.size() > 1 && inputs[1].defined()) {
    VB_ASSIGN(std::vector<int64_t> sizes, read_integers(inputs[1], "split", count));
    int64_t left = dim;
    for (int64_t s : sizes) {
      if (s < 0 || s > left)
        return bad_input("split sizes do not add up to " + std::to_string(dim));
      left -= s;
    }
    if (left != 0 || static_cast<int64_t>(sizes.size()) != count)
      return bad_input(std::to_string(sizes.size()) + " split sizes for " + std::to_string(count) +
                       " outputs and dimension " + std::to_string(dim));
    return sizes;
  }
  VB_ASSIGN(const int64_t parts, node.attributes.get<int64_t>("num_outputs", count));
  if (parts != count)
    return bad_input("num_outputs " + std::to_string(parts) + " with " + std::to_string(count) +
                     " outputs");
  const int64_t chunk = (dim + parts - 1) / parts;
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < parts; ++i)
    sizes.push_back(std::clamp<int64_t>(dim - i * chunk, 0, chunk));
  return sizes;
}

// Split(data, split?; axis, num_outputs): without sizes, equal parts of ceil(dim / parts), the last
// ones smaller.
Result<Tensors> split(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  VB_ASSIGN(const std::vector<int64_t> sizes, split_sizes(node, inputs, x.dim(axis)));
  View view{strides_of(x.shape()), 0};
  Tensors outputs;
  for (int64_t s : sizes) {
    std::vector<int64_t> dims = dims_of(x);
    dims[axis] = s;
    VB_ASSIGN(const Shape shape, Shape::of(dims));
    VB_ASSIGN(Tensor part, materialize(x, shape, view));
    view.offset += s * view.strides[axis];
    outputs.push_back(part);
  }
  return outputs;
}

// Slice(data, starts, ends, axes?, steps?), as NumPy slices: out-of-range bounds are clamped.
Result<Tensors> slice(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const auto optional = [&](size_t i) { return inputs.size() > i && inputs[i].defined(); };
  VB_ASSIGN(const std::vector<int64_t> starts, read_integers(inputs[1], "starts", kMaxRank));
  VB_ASSIGN(const std::vector<int64_t> ends, read_integers(inputs[2], "ends", kMaxRank));
  std::vector<int64_t> axes, steps(starts.size(), 1);
  for (size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<int64_t>(i));
  if (optional(3)) {
    VB_ASSIGN(axes, read_integers(inputs[3], "axes", kMaxRank));
  }
  if (optional(4)) {
    VB_ASSIGN(steps, read_integers(inputs[4], "steps", kMaxRank));
  }
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    return bad_input("starts, ends, axes and steps differ in length");
  VB_TRY(axis_set(x.shape(), axes).status());
  std::vector<int64_t> dims = dims_of(x);
  View view{strides_of(x.shape()), 0};
  for (size_t i = 0; i < starts.size(); ++i) {
    VB_ASSIGN(const int axis, x.shape().axis(axes[i]));
    const int64_t dim = x.dim(axis);
    if (steps[i] == 0) return bad_input("a step of 0");
    const int64_t step = std::clamp(steps[i], -dim - 1, dim + 1);
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? dim : dim - 1;
    const int64_t start = std::clamp(starts[i] < 0 ? starts[i] + dim : starts[i], low, high);
    const int64_t end = std::clamp(ends[i] < 0 ? ends[i] + dim : ends[i], low, high);
    const int64_t span = step > 0 ? end - start : start - end, stride = step > 0 ? step : -step;
    dims[axis] = span <= 0 ? 0 : (span + stride - 1) / stride;
    if (dims[axis] > 0) view.offset += start * view.strides[axis];
    view.strides[axis] *= step;
  }
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, materialize(x, shape, view));
  return Tensors{out};
}

// A new tensor whose element at (i_0, i_1, ...) is data's at (source(0, i_0), source(1, i_1), ...),
// or `fill` where any is -1.
template <class Source>
Result<Tensor> remapped(const Tensor& x, const Shape& shape, std::span<const std::byte> fill,
                        Source source) {
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  const Strides strides = strides_of(x.shape());
  const size_t width = size_of(x.dtype());
  std::byte* y = out.mutable_bytes().data();
  std::array<int64_t, kMaxRank> at{};  // the offset that each dimension adds, or -1
  walk_indices(
      shape,
      [&](int d, int64_t index) {
        const int64_t s = source(d, index);
        at[d] = s < 0 ? -1 : s * strides[d];
      },
      [&](int64_t i) {
        int64_t offset = 0;
        bool inside = true;
        for (int d = 0; d < shape.rank(); ++d) {
          inside = inside && at[d] >= 0;
          offset += at[d];
        }
        std::memcpy(y + static_cast<size_t>(i) * width,
                    inside ? x.bytes().data() + static_cast<size_t>(offset) * width : fill.data(),
                    width);
      });
  return out;
}

// Which element of a dimension of size n stands at position p of the padded one; -1 for the
// constant.
int64_t padded_source(std::string_view mode, int64_t p, int64_t n) {
  if (p >= 0 && p < n) return p;
  if (mode == "constant") return -1;
  if (mode == "edge") return p < 0 ? 0 : n - 1;
  const auto modulo = [](int64_t a, int64_t b) { return (a % b + b) % b; };
  if (mode == "wrap") return modulo(p, n);
  if (n == 1) return 0;
  const int64_t reflected = modulo(p, 2 * (n - 1));
  return reflected < n ? reflected : 2 * (n - 1) - reflected;
}

// Pad(data, pads, constant_value?, axes?; mode): pads holds all beginnings, then all ends; negative
// ones crop.
Result<Tensors> pad(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const std::string mode, node.attributes.get<std::string>("mode", "constant"));
  if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "wrap")
    return bad_input("mode '" + mode + "'");
  VB_ASSIGN(const std::vector<int64_t> pads, read_integers(inputs[1], "pads", 2 * kMaxRank));
  std::vector<int64_t> axes;
  for (int i = 0; i < x.rank(); ++i) axes.push_back(i);
  if (inputs.size() > 3 && inputs[3].defined()) {
    VB_ASSIGN(axes, read_integers(inputs[3], "axes", kMaxRank));
  }
  VB_TRY(axis_set(x.shape(), axes).status());
  if (pads.size() != 2 * axes.size())
    return bad_input(std::to_string(pads.size()) + " pads for " + std::to_string(axes.size()) +
                     " axes");
  std::array<std::byte, 8> zero{};
  std::span<const std::byte> fill(zero);
  if (inputs.size() > 2 && inputs[2].defined()) {
    if (inputs[2].dtype() != x.dtype() || inputs[2].elements() != 1)
      return bad_input("constant " + inputs[2].describe() + " for " + x.describe());
    fill = inputs[2].bytes();
  }
  std::vector<int64_t> dims = dims_of(x);
  std::array<int64_t, kMaxRank> before{};
  for (size_t i = 0; i < axes.size(); ++i) {
    VB_ASSIGN(const int axis, x.shape().axis(axes[i]));
    const int64_t begin = pads[i], end = pads[i + axes.size()];
    VB_TRY(check_size(begin, "pad"));
    VB_TRY(check_size(end, "pad"));
    before[axis] = begin;
    dims[axis] = std::max<int64_t>(0, dims[axis] + begin + end);
    if (x.dim(axis) == 0 && dims[axis] > 0 && mode != "constant")
      return bad_input("cannot extend " + x.describe() + " by mode " + mode);
  }
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, remapped(x, shape, fill, [&](int d, int64_t i) {
              return padded_source(mode, i - before[d], x.dim(d));
            }));
  return Tensors{out};
}

// CenterCropPad(data, shape; axes): crops or pads with zeros, evenly at both ends, the odd one at
// the end.
Result<Tensors> center_crop_pad(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const std::vector<int64_t> target, read_integers(inputs[1], "shape", kMaxRank));
  std::vector<int64_t> all;
  for (int i = 0; i < x.rank(); ++i) all.push_back(i);
  VB_ASSIGN(const std::vector<int64_t> axes,
            node.attributes.get<std::vector<int64_t>>("axes", all));
  VB_TRY(axis_set(x.shape(), axes).status());
  if (target.size() != axes.size())
    return bad_input(std::to_string(target.size()) + " sizes for " + std::to_string(axes.size()) +
                     " axes");
  std::vector<int64_t> dims = dims_of(x);
  std::array<int64_t, kMaxRank> before{};
  for (size_t i = 0; i < axes.size(); ++i) {
    VB_ASSIGN(const int axis, x.shape().axis(axes[i]));
    VB_TRY(check_size(target[i], "size"));
    if (target[i] < 0) return bad_input("size " + std::to_string(target[i]));
    dims[axis] = target[i];
    // Both ways the smaller half is at the beginning.
    before[axis] =
        target[i] >= x.dim(axis) ? (target[i] - x.dim(axis)) / 2 : -((x.dim(axis) - target[i]) / 2);
  }
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  constexpr std::array<std::byte, 8> kZero{};
  VB_ASSIGN(Tensor out, remapped(x, shape, kZero, [&](int d, int64_t i) {
              return padded_source("constant", i - before[d], x.dim(d));
            }));
  return Tensors{out};
}

// Tile(data, repeats).
Result<Tensors> tile(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const std::vector<int64_t> repeats, read_integers(inputs[1], "repeats", kMaxRank));
  if (static_cast<int>(repeats.size()) != x.rank())
    return bad_input(std::to_string(repeats.size()) + " repeats for " + x.describe());
  std::vector<int64_t> dims = dims_of(x);
  for (size_t i = 0; i < repeats.size(); ++i) {
    VB_ASSIGN(dims[i], checked_multiply(dims[i], repeats[i]));
  }
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, remapped(x, shape, {}, [&](int d, int64_t i) { return i % x.dim(d); }));
  return Tensors{out};
}

// DepthToSpace and SpaceToDepth: [N, C, H, W], a permutation of a six-dimensional view.
Result<Tensors> rearranged(const Tensor& x, std::array<int64_t, 6> split,
                           std::array<int, 6> permutation, std::array<int64_t, 4> result) {
  VB_ASSIGN(const Shape six, Shape::of(split));
  VB_ASSIGN(const Tensor view, x.reshaped(six));
  VB_ASSIGN(const Tensor moved, permuted(view, permutation));
  return view_as(moved, result);
}

Result<int64_t> block_size(const Node& node, const Tensor& x) {
  VB_ASSIGN(const int64_t b, node.attributes.require<int64_t>("blocksize"));
  if (x.rank() != 4) return bad_input("wants [N, C, H, W], not " + x.describe());
  if (b < 1 || b > 1 << 20) return bad_input("blocksize " + std::to_string(b));
  return b;
}

Result<Tensors> depth_to_space(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t b, block_size(node, x));
  VB_ASSIGN(const std::string mode, node.attributes.get<std::string>("mode", "DCR"));
  if (mode != "DCR" && mode != "CRD") return bad_input("mode '" + mode + "'");
  const int64_t n = x.dim(0), c = x.dim(1), h = x.dim(2), w = x.dim(3);
  if (c % (b * b) != 0)
    return bad_input("channels of " + x.describe() + " are no multiple of blocksize squared");
  const int64_t depth = c / (b * b);
  const std::array<int64_t, 4> result = {n, depth, h * b, w * b};
  if (mode == "DCR") return rearranged(x, {n, b, b, depth, h, w}, {0, 3, 4, 1, 5, 2}, result);
  return rearranged(x, {n, depth, b, b, h, w}, {0, 1, 4, 2, 5, 3}, result);
}

Result<Tensors> space_to_depth(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t b, block_size(node, x));
  const int64_t n = x.dim(0), c = x.dim(1), h = x.dim(2), w = x.dim(3);
  if (h % b != 0 || w % b != 0)
    return bad_input("blocksize " + std::to_string(b) + " does not divide " + x.describe());
  return rearranged(x, {n, c, h / b, b, w / b, b}, {0, 3, 5, 1, 2, 4},
                    {n, c * b * b, h / b, w / b});
}

// Trilu(data, k?; upper): keeps the upper (column - row >= k) or lower (<= k) triangle of each
// matrix, zeros elsewhere.
Result<Tensors> trilu(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t upper, node.attributes.get<int64_t>("upper", 1));
  int64_t k = 0;
  if (inputs.size() > 1 && inputs[1].defined()) {
    VB_ASSIGN(k, read_integer(inputs[1], "k"));
  }
  if (x.rank() < 2) return bad_input("wants matrices, not " + x.describe());
  VB_ASSIGN(Tensor out, Tensor::zeros(x.dtype(), x.shape()));
  const int64_t rows = x.dim(x.rank() - 2), columns = x.dim(x.rank() - 1),
                width = static_cast<int64_t>(size_of(x.dtype()));
  k = std::clamp(k, -rows - 1, columns + 1);
  const int64_t row_count = columns == 0 ? 0 : x.elements() / columns;
  for (int64_t r = 0; r < row_count; ++r) {
    const int64_t diagonal = std::clamp<int64_t>(r % rows + k, -1, columns);
    const int64_t begin = upper != 0 ? std::max<int64_t>(diagonal, 0) : 0,
                  end = upper != 0 ? columns : std::min(diagonal + 1, columns);
    const int64_t at = (r * columns + begin) * width;
    copy_bytes(out.mutable_bytes().data() + at, x.bytes().data() + at, (end - begin) * width);
  }
  return Tensors{out};
}

// --- creation
// ---------------------------------------------------------------------------------------------------------------

// ConstantOfShape(shape; value): a tensor filled with a single value, float32 0 by default.
Result<Tensors> constant_of_shape(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const std::vector<int64_t> dims, read_integers(inputs[0], "shape", kMaxRank));
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(const Tensor zero, Tensor::scalar(0.0f));
  VB_ASSIGN(const Tensor value, node.attributes.get<Tensor>("value", zero));
  if (!value.defined() || value.elements() != 1)
    return bad_input("value is " + value.describe() + ", not a single element");
  VB_ASSIGN(Tensor out, materialize(value, shape, {}));
  return Tensors{out};
}

// Range(start, limit, delta): start + i * delta (product and sum rounded) for i below ceil((limit -
// start) / delta), which floating types compute in binary64.
template <class C>
Result<int64_t> range_count(C start, C limit, C delta) {
  if (delta == 0) return bad_input("a delta of 0");
  if constexpr (std::is_integral_v<C>) {
    if (delta > 0 ? limit <= start : limit >= start) return int64_t{0};
    const uint64_t span = delta > 0 ? static_cast<uint64_t>(limit) - static_cast<uint64_t>(start)
                                    : static_cast<uint64_t>(start) - static_cast<uint64_t>(limit);
    const uint64_t step =
        delta > 0 ? static_cast<uint64_t>(delta) : uint64_t{0} - static_cast<uint64_t>(delta);
    return static_cast<int64_t>(std::min<uint64_t>((span - 1) / step, kMaxSize)) + 1;
  } else {
    const double count = ceiling_of((static_cast<double>(limit) - static_cast<double>(start)) /
                                    static_cast<double>(delta));
    if (is_nan(count)) return bad_input("a range with a NaN");
    return std::max<int64_t>(0, saturate<int64_t>(count));
  }
}

Result<Tensors> range(const Node&, std::span<const Tensor> inputs) {
  for (const Tensor& t : inputs)
    if (t.dtype() != inputs[0].dtype() || t.elements() != 1)
      return bad_input("wants three scalars of one type, not " + t.describe());
  return visit_number<Tensors>(inputs[0], [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const C start = load(inputs[0].data<T>()[0]), limit = load(inputs[1].data<T>()[0]),
            delta = load(inputs[2].data<T>()[0]);
    VB_ASSIGN(const int64_t count, range_count<C>(start, limit, delta));
    VB_TRY(check_size(count, "range"));
    VB_ASSIGN(Tensor out, Tensor::allocate(dtype_of<T>(), Shape{count}));
    T* y = out.mutable_data<T>().data();
    for (int64_t i = 0; i < count; ++i)
      y[i] = store<T>(add_of(start, multiply_of(static_cast<C>(i), delta)));
    return Tensors{out};
  });
}

// EyeLike(data; dtype, k): ones on diagonal k of a matrix of data's shape.
Result<Tensors> eye_like(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t dtype,
            node.attributes.get<int64_t>("dtype", static_cast<int64_t>(x.dtype())));
  VB_ASSIGN(const int64_t k, node.attributes.get<int64_t>("k", 0));
  VB_TRY(check_size(k, "k"));
  if (x.rank() != 2) return bad_input("wants a matrix, not " + x.describe());
  if (dtype_from_onnx(dtype) == DType::undefined)
    return unsupported("element type " + std::to_string(dtype));
  VB_ASSIGN(Tensor out, Tensor::zeros(dtype_from_onnx(dtype), x.shape()));
  visit_dtype<bool>(out.dtype(), false, [&](auto type) {
    using T = decltype(type);
    for (int64_t r = 0; r < x.dim(0); ++r) {
      if (r + k < 0 || r + k >= x.dim(1)) continue;
      T& y = out.mutable_data<T>()[r * x.dim(1) + r + k];
      if constexpr (std::is_same_v<T, bool>)
        y = true;
      else
        y = store<T>(Compute<T>{1});
    }
    return true;
  });
  return Tensors{out};
}

constexpr OpDef kOps[] = {
    {"", "Reshape", 2, 2, 1, reshape},
    {"", "Flatten", 1, 1, 1, flatten},
    {"", "Squeeze", 1, 2, 1, squeeze},
    {"", "Unsqueeze", 2, 2, 1, unsqueeze},
    {"", "Identity", 1, 1, 1, identity},
    {"", "Dropout", 1, 3, 2, dropout},
    {"", "BitCast", 1, 1, 1, bit_cast},
    {"", "Shape", 1, 1, 1, shape_of},
    {"", "Size", 1, 1, 1, size},
    {"", "Transpose", 1, 1, 1, transpose},
    {"", "Expand", 2, 2, 1, expand},
    {"", "Concat", 1, kVariadic, 1, concat},
    {"", "Split", 1, 2, kVariadic, split},
    {"", "Slice", 3, 5, 1, slice},
    {"", "Pad", 2, 4, 1, pad},
    {"", "CenterCropPad", 2, 2, 1, center_crop_pad},
    {"", "Tile", 2, 2, 1, tile},
    {"", "DepthToSpace", 1, 1, 1, depth_to_space},
    {"", "SpaceToDepth", 1, 1, 1, space_to_depth},
    {"", "Trilu", 1, 2, 1, trilu},
    {"", "ConstantOfShape", 1, 1, 1, constant_of_shape},
    {"", "Range", 3, 3, 1, range},
    {"", "EyeLike", 1, 1, 1, eye_like},
};

}  // namespace

std::span<const OpDef> movement_ops() { return kOps; }

}  // namespace verbatim
