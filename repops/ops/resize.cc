// Resize: nearest, linear and cubic, one axis after another from the last to the first.
//
// Coordinates and weights are computed in binary64; weights are rounded to the computing type.
// Along an axis an element is acc = +0; acc = fma(weight, x, acc) over its taps, ascending. Taps
// beyond the edge read the edge. Between axes values stay in the computing type. Nearest moves
// bytes.
#include <numeric>
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sum.h>

namespace verbatim {
namespace {

// Antialiasing widens a kernel by at most this factor.
constexpr double kGreatestShrink = 65536;

struct Settings {
  std::string mode, transform, nearest;
  bool antialias = false, exclude_outside = false;
  double cubic = -0.75;
  float extrapolation = 0;
};

constexpr std::string_view kTransforms[] = {
    "half_pixel",    "pytorch_half_pixel",   "asymmetric",        "tf_half_pixel_for_nn",
    "align_corners", "half_pixel_symmetric", "tf_crop_and_resize"};

Result<Settings> read_settings(const Node& node) {
  const Attributes& a = node.attributes;
  Settings s;
  VB_ASSIGN(s.mode, a.get<std::string>("mode", "nearest"));
  VB_ASSIGN(s.transform, a.get<std::string>("coordinate_transformation_mode", "half_pixel"));
  VB_ASSIGN(s.nearest, a.get<std::string>("nearest_mode", "round_prefer_floor"));
  VB_ASSIGN(const int64_t antialias, a.get<int64_t>("antialias", 0));
  VB_ASSIGN(const int64_t exclude, a.get<int64_t>("exclude_outside", 0));
  VB_ASSIGN(const float cubic, a.get<float>("cubic_coeff_a", -0.75f));
  VB_ASSIGN(s.extrapolation, a.get<float>("extrapolation_value", 0.0f));
  s.antialias = antialias != 0;
  s.exclude_outside = exclude != 0;
  s.cubic = cubic;
  if (s.mode != "nearest" && s.mode != "linear" && s.mode != "cubic")
    return bad_input("mode '" + s.mode + "'");
  constexpr std::string_view kNearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                           "ceil"};
  if (std::ranges::find(kNearest, s.nearest) == std::end(kNearest))
    return bad_input("nearest_mode '" + s.nearest + "'");
  if (std::ranges::find(kTransforms, s.transform) == std::end(kTransforms))
    return bad_input("coordinate_transformation_mode '" + s.transform + "'");
  return s;
}

// One axis of the operand, and what becomes of it.
struct Axis {
  int64_t input = 0, output = 0;
  double scale = 1, roi_begin = 0, roi_end = 1;
};

// Where output position i lies on the input's axis.
double coordinate(const Settings& s, const Axis& a, int64_t i) {
  const double x = static_cast<double>(i), in = static_cast<double>(a.input), wanted = a.scale * in;
  if (s.transform == "half_pixel") return (x + 0.5) / a.scale - 0.5;
  if (s.transform == "pytorch_half_pixel") return wanted == 1 ? -0.5 : (x + 0.5) / a.scale - 0.5;
  if (s.transform == "asymmetric") return x / a.scale;
  if (s.transform == "tf_half_pixel_for_nn") return (x + 0.5) / a.scale;
  if (s.transform == "align_corners") return wanted == 1 ? 0.0 : x * (in - 1) / (wanted - 1);
  if (s.transform == "half_pixel_symmetric")
    return in / 2 * (1 - static_cast<double>(a.output) / wanted) + (x + 0.5) / a.scale - 0.5;
  // tf_crop_and_resize
  return a.output > 1 ? a.roi_begin * (in - 1) + x * (a.roi_end - a.roi_begin) * (in - 1) /
                                                     static_cast<double>(a.output - 1)
                      : 0.5 * (a.roi_begin + a.roi_end) * (in - 1);
}

struct Tap {
  int64_t index;
  double weight;
};

// Keys' kernel.
double cubic_weight(double x, double a) {
  x = absolute_of(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

double nearest_position(const Settings& s, double x) {
  if (s.nearest == "floor") return floor_of(x);
  if (s.nearest == "ceil") return ceiling_of(x);
  return s.nearest == "round_prefer_floor" ? ceiling_of(x - 0.5) : floor_of(x + 0.5);
}

// An axis of which every position stays where it is.
bool kept(const Settings& s, const Axis& a) {
  return a.input == a.output && a.scale == 1 && s.transform != "tf_crop_and_resize";
}

// Whether position x of the axis is beyond the operand and has the extrapolation value.
bool is_outside(const Settings& s, const Axis& a, double x) {
  return s.transform == "tf_crop_and_resize" && !(x >= 0 && x <= static_cast<double>(a.input - 1));
}

// A coordinate far outside reads the edge all the same; clamping it keeps indices small.
double clamp_coordinate(const Axis& a, double x) {
  const double bound = 4.0 * static_cast<double>(a.input + 3);
  return is_nan(x) ? 0 : std::clamp(x, -bound, bound);
}

// The input position that output position i of an axis reads where nothing is interpolated.
int64_t nearest_source(const Settings& s, const Axis& a, int64_t i) {
  if (kept(s, a)) return i;
  const double x = coordinate(s, a, i);
  if (is_outside(s, a, x)) return 0;
  const double at = nearest_position(s, clamp_coordinate(a, x));
  return std::clamp<int64_t>(static_cast<int64_t>(at), 0, a.input - 1);
}

// The taps of output position i.
void find_taps(const Settings& s, const Axis& a, int64_t i, std::vector<Tap>& taps) {
  taps.clear();
  const double at = coordinate(s, a, i);
  if (kept(s, a) || is_outside(s, a, at)) {
    taps.push_back({kept(s, a) ? i : 0, 1});
    return;
  }
  const double x = clamp_coordinate(a, at), base = floor_of(x), ratio = x - base,
               radius = s.mode == "linear" ? 1 : 2;
  // Antialiasing widens the kernel where the axis shrinks.
  const double shrink = s.antialias ? std::min(a.scale, 1.0) : 1.0;
  const auto first = static_cast<int64_t>(floor_of(-radius / shrink)) + 1, end = 2 - first;
  double sum = 0;
  for (int64_t j = first; j < end; ++j) {
    const double distance = shrink * (static_cast<double>(j) - ratio);
    double weight = s.mode == "linear" ? std::max(0.0, 1 - absolute_of(distance))
                                       : cubic_weight(distance, s.cubic);
    const int64_t index = static_cast<int64_t>(base) + j;
    if (s.exclude_outside && (index < 0 || index >= a.input)) weight = 0;
    taps.push_back({std::clamp<int64_t>(index, 0, a.input - 1), weight});
    sum += weight;
  }
  if (s.antialias || s.exclude_outside)
    for (Tap& tap : taps) tap.weight /= sum;
}

// --- sizes
// ------------------------------------------------------------------------------------------------------------------

// Sizes from a tensor of wanted sizes for `axes`, under the aspect ratio policy.
Status fit_sizes(const std::string& policy, std::span<const int64_t> sizes,
                 std::span<const int> axes, std::vector<Axis>& all) {
  std::vector<double> scales;
  for (size_t i = 0; i < axes.size(); ++i)
    scales.push_back(static_cast<double>(sizes[i]) / static_cast<double>(all[axes[i]].input));
  if (policy == "not_larger" || policy == "not_smaller") {
    const double common = scales.empty()           ? 1
                          : policy == "not_larger" ? std::ranges::min(scales)
                                                   : std::ranges::max(scales);
    std::ranges::fill(scales, common);
  } else if (policy != "stretch") {
    return bad_input("keep_aspect_ratio_policy '" + policy + "'");
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    Axis& a = all[axes[i]];
    a.scale = scales[i];
    a.output = policy == "stretch"
                   ? sizes[i]
                   : saturate<int64_t>(floor_of(a.scale * static_cast<double>(a.input) + 0.5));
  }
  return {};
}

Result<std::vector<Axis>> plan_axes(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const auto given = [&](size_t i) {
    return inputs.size() > i && inputs[i].defined() && inputs[i].elements() > 0;
  };
  std::vector<int64_t> numbers;
  for (int d = 0; d < x.rank(); ++d) numbers.push_back(d);
  VB_ASSIGN(numbers, node.attributes.get<std::vector<int64_t>>("axes", numbers));
  VB_TRY(axis_set(x.shape(), numbers).status());
  VB_ASSIGN(const std::string policy,
            node.attributes.get<std::string>("keep_aspect_ratio_policy", "stretch"));
  std::vector<int> axes;
  for (int64_t n : numbers) axes.push_back(static_cast<int>(n < 0 ? n + x.rank() : n));
  std::vector<Axis> all;
  for (int64_t d : x.shape().dims()) all.push_back({d, d});
  if (given(2) == given(3)) return bad_input("wants either scales or sizes");
  if (given(2)) {
    if (inputs[2].dtype() != DType::f32 ||
        inputs[2].elements() != static_cast<int64_t>(axes.size()))
      return bad_input("scales " + inputs[2].describe());
    for (size_t i = 0; i < axes.size(); ++i) {
      Axis& a = all[axes[i]];
      a.scale = static_cast<double>(inputs[2].data<float>()[i]);
      a.output = saturate<int64_t>(floor_of(a.scale * static_cast<double>(a.input)));
    }
  } else {
    VB_ASSIGN(const std::vector<int64_t> sizes, read_integers(inputs[3], "sizes", kMaxRank));
    if (sizes.size() != axes.size()) return bad_input("sizes " + inputs[3].describe());
    VB_TRY(fit_sizes(policy, sizes, axes, all));
  }
  if (given(1)) {
    if (!is_float(inputs[1].dtype()) ||
        inputs[1].elements() != 2 * static_cast<int64_t>(axes.size()))
      return bad_input("roi " + inputs[1].describe());
    VB_TRY(visit_float<bool>(inputs[1], [&](auto type) -> Result<bool> {
             const auto roi = inputs[1].data<decltype(type)>();
             for (size_t i = 0; i < axes.size(); ++i) {
               all[axes[i]].roi_begin = static_cast<double>(load(roi[i]));
               all[axes[i]].roi_end = static_cast<double>(load(roi[i + axes.size()]));
             }
             return true;
           }).status());
  }
  for (const Axis& a : all)
    if (a.output > kMaxSize || (a.input != a.output && (a.input == 0 || !(a.scale > 0))))
      return bad_input("cannot resize " + x.describe());
  return all;
}

// --- values
// -----------------------------------------------------------------------------------------------------------------

// One axis of a row-major array of computing type: outer x a.input x inner becomes outer x a.output
// x inner.
template <class C>
void resize_axis(const Settings& s, const Axis& a, const C* x, C* y, int64_t outer, int64_t inner) {
  std::vector<Tap> taps;
  for (int64_t p = 0; p < a.output; ++p) {
    find_taps(s, a, p, taps);
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        C acc = 0;
        for (const Tap& tap : taps)
          acc = fma_of(static_cast<C>(tap.weight), x[(o * a.input + tap.index) * inner + i], acc);
        y[(o * a.output + p) * inner + i] = acc;
      }
  }
}

// Nearest: each output element is one input element.
Result<Tensor> resize_nearest(const Settings& s, const Tensor& x, const Shape& shape,
                              std::span<const Axis> axes) {
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  const Strides strides = strides_of(x.shape());
  const size_t width = size_of(x.dtype());
  std::array<int64_t, kMaxRank> at{};  // the offset that each dimension adds
  walk_indices(
      shape, [&](int d, int64_t index) { at[d] = nearest_source(s, axes[d], index) * strides[d]; },
      [&](int64_t i) {
        const int64_t from = std::accumulate(at.begin(), at.end(), int64_t{0});
        std::memcpy(y.mutable_bytes().data() + static_cast<size_t>(i) * width,
                    x.bytes().data() + static_cast<size_t>(from) * width, width);
      });
  return y;
}

template <class T>
Result<Tensor> resize_smooth(const Settings& s, const Tensor& x, const Shape& shape,
                             std::span<const Axis> axes) {
  using C = Compute<T>;
  VB_ASSIGN(Tensor values, Tensor::allocate(dtype_of<C>(), x.shape()));
  std::ranges::transform(x.data<T>(), values.mutable_data<C>().begin(), load<T>);
  for (int d = shape.rank() - 1; d >= 0; --d) {
    // Axes before d still have their input size, those after it their output size.
    const int64_t outer = x.shape().elements(0, d), inner = shape.elements(d + 1, shape.rank());
    VB_TRY(checked_multiply(outer, shape.elements(d, shape.rank())).status());
    VB_ASSIGN(const Shape between, Shape::of(std::array{outer, shape[d], inner}));
    VB_ASSIGN(Tensor next, Tensor::allocate(dtype_of<C>(), between));
    resize_axis(s, axes[d], values.data<C>().data(), next.mutable_data<C>().data(), outer, inner);
    values = next;
  }
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  std::ranges::transform(values.data<C>(), y.mutable_data<T>().begin(), store<T>);
  return y;
}

// Where any axis is outside its region of interest, the extrapolation value.
Status extrapolate(const Settings& s, std::span<const Axis> axes, Tensor& y) {
  if (s.transform != "tf_crop_and_resize") return {};
  return visit_number<bool>(y,
                            [&](auto type) -> Result<bool> {
                              using T = decltype(type);
                              T* out = y.mutable_data<T>().data();
                              const T value = store<T>(real_to<Compute<T>>(s.extrapolation));
                              std::array<bool, kMaxRank> outside{};
                              walk_indices(
                                  y.shape(),
                                  [&](int d, int64_t i) {
                                    outside[d] = is_outside(s, axes[d], coordinate(s, axes[d], i));
                                  },
                                  [&](int64_t i) {
                                    if (std::ranges::find(outside, true) != outside.end())
                                      out[i] = value;
                                  });
                              return true;
                            })
      .status();
}

// Resize(x, roi?, scales?, sizes?).
Result<Tensors> resize(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const Settings s, read_settings(node));
  VB_ASSIGN(const std::vector<Axis> axes, plan_axes(node, inputs));
  std::vector<int64_t> dims;
  for (const Axis& a : axes) dims.push_back(a.output);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  for (const Axis& a : axes)
    if (s.antialias && !(a.scale * kGreatestShrink > 1))
      return over_limit("a scale of " + std::to_string(a.scale) + " with antialiasing");
  Tensor y;
  if (s.mode == "nearest" || shape.elements() == 0) {
    VB_ASSIGN(y, resize_nearest(s, x, shape, axes));
  } else {
    VB_ASSIGN(y, visit_float<Tensor>(x, [&](auto type) {
                return resize_smooth<decltype(type)>(s, x, shape, axes);
              }));
  }
  VB_TRY(extrapolate(s, axes, y));
  return Tensors{y};
}

// Two operations for each tap of each element, as if every pass were as large as the output.
uint64_t resize_cost(const Node& node, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs) {
  const auto elements = static_cast<uint64_t>(outputs[0].elements());
  const Result<Settings> s = read_settings(node);
  const Result<std::vector<Axis>> axes = plan_axes(node, inputs);
  if (!s.ok() || !axes.ok() || s->mode == "nearest") return elements;
  uint64_t taps = 0;
  for (const Axis& a : *axes) {
    const bool wide = s->antialias && a.scale < 1 && a.scale * kGreatestShrink > 1;
    const double shrink = wide ? a.scale : 1;
    taps += kept(*s, a) ? 1 : static_cast<uint64_t>((s->mode == "linear" ? 2 : 4) / shrink) + 2;
  }
  return saturating_multiply(elements, 2 * taps);
}

constexpr OpDef kOps[] = {
    {"", "Resize", 1, 4, 1, resize, resize_cost, nullptr, true},
};

}  // namespace

std::span<const OpDef> resize_ops() { return kOps; }

}  // namespace verbatim
