// What detectors end with: NonMaxSuppression and RoiAlign.
#include <algorithm>
#include <optional>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/interpolation.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

// --- NonMaxSuppression
// ------------------------------------------------------------------------------------------------------

struct Suppression {
  int64_t batch = 0, classes = 0, boxes = 0, most = 0;  // `most` of each class are kept
  bool by_center = false;
  float overlap = 0;
  std::optional<float> threshold;
};

Result<float> read_real(const Tensor& t, const char* what) {
  if (t.dtype() != DType::f32 || t.elements() != 1)
    return bad_input(std::string(what) + " is " + t.describe());
  return t.data<float>()[0];
}

Result<Suppression> read_suppression(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &boxes = inputs[0], &scores = inputs[1];
  Suppression s;
  VB_ASSIGN(const int64_t form, node.attributes.get<int64_t>("center_point_box", 0));
  if (form != 0 && form != 1) return bad_input("center_point_box " + std::to_string(form));
  s.by_center = form == 1;
  if (boxes.dtype() != DType::f32 || scores.dtype() != DType::f32 || boxes.rank() != 3 ||
      scores.rank() != 3 || boxes.dim(2) != 4 || scores.dim(0) != boxes.dim(0) ||
      scores.dim(2) != boxes.dim(1))
    return bad_input("boxes " + boxes.describe() + ", scores " + scores.describe());
  s.batch = boxes.dim(0);
  s.classes = scores.dim(1);
  s.boxes = boxes.dim(1);
  if (const Tensor t = input_or_none(inputs, 2); t.defined()) {
    VB_ASSIGN(s.most, read_integer(t, "max_output_boxes_per_class"));
    s.most = std::clamp<int64_t>(s.most, 0, s.boxes);
  }
  if (const Tensor t = input_or_none(inputs, 3); t.defined()) {
    VB_ASSIGN(s.overlap, read_real(t, "iou_threshold"));
  }
  if (const Tensor t = input_or_none(inputs, 4); t.defined()) {
    VB_ASSIGN(s.threshold, read_real(t, "score_threshold"));
  }
  return s;
}

struct Box {
  float low[2], high[2];
  float area() const { return (high[0] - low[0]) * (high[1] - low[1]); }
};

// Corners in any order, or a center and sizes: center -+ size / 2.
Box box_of(const Suppression& s, const float* p) {
  Box b;
  for (int d = 0; d < 2; ++d) {
    b.low[d] = s.by_center ? p[d] - p[d + 2] / 2 : minimum(p[d], p[d + 2]);
    b.high[d] = s.by_center ? p[d] + p[d + 2] / 2 : maximum(p[d], p[d + 2]);
  }
  return b;
}

// Whether intersection / ((area + area) - intersection) is above the threshold. What has no area,
// or NaN, does not overlap.
bool overlaps(const Suppression& s, const Box& a, const Box& b) {
  Box both;
  for (int d = 0; d < 2; ++d) {
    both.low[d] = maximum(a.low[d], b.low[d]);
    both.high[d] = minimum(a.high[d], b.high[d]);
    if (!(both.high[d] > both.low[d])) return false;
  }
  const float common = both.area(), all = (a.area() + b.area()) - common;
  if (!(common > 0 && a.area() > 0 && b.area() > 0 && all > 0)) return false;
  return common / all > s.overlap;
}

// The boxes of one class in descending order of score, ties and NaN (last) by index, into `order`.
int64_t order_boxes(const Suppression& s, const float* scores, std::span<int64_t> order) {
  int64_t count = 0;
  for (int64_t i = 0; i < s.boxes; ++i)
    if (!s.threshold || scores[i] > *s.threshold) order[count++] = i;
  const auto before = [&](int64_t a, int64_t b) {
    if (is_nan(scores[a]) || is_nan(scores[b]))
      return is_nan(scores[a]) == is_nan(scores[b]) ? a < b : is_nan(scores[b]);
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  };
  std::sort(order.begin(), order.begin() + count, before);
  return count;
}

// Chooses of one class: the best box that overlaps none chosen before, at most `most` of them; they
// are the first of `order`. Returns their number.
int64_t choose(const Suppression& s, const float* boxes, const float* scores,
               std::span<int64_t> order) {
  const int64_t count = order_boxes(s, scores, order);
  int64_t kept = 0;
  for (int64_t k = 0; k < count && kept < s.most; ++k) {
    const Box candidate = box_of(s, boxes + order[k] * 4);
    const auto clashes = [&](int64_t j) {
      return overlaps(s, candidate, box_of(s, boxes + j * 4));
    };
    if (std::none_of(order.begin(), order.begin() + kept, clashes)) order[kept++] = order[k];
  }
  return kept;
}

// NonMaxSuppression(boxes [N, B, 4], scores [N, C, B], max_output_boxes_per_class?, iou_threshold?,
// score_threshold?) -> [count, 3]: (batch, class, box), each class's in the order of choice.
Result<Tensors> non_max_suppression(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const Suppression s, read_suppression(node, inputs));
  const float *boxes = inputs[0].data<float>().data(), *scores = inputs[1].data<float>().data();
  // Each class's order, the chosen boxes moving to the front, and their number. Tensors, so that
  // limits count this work before it is done.
  VB_ASSIGN(Tensor orders, Tensor::allocate(DType::i64, inputs[1].shape()));
  VB_ASSIGN(Tensor counts, Tensor::allocate(DType::i64, {s.batch, s.classes}));
  const std::span<int64_t> all = orders.mutable_data<int64_t>(),
                           kept = counts.mutable_data<int64_t>();
  int64_t total = 0;
  for (int64_t i = 0; i < s.batch * s.classes; ++i) {
    kept[i] = choose(s, boxes + i / s.classes * s.boxes * 4, scores + i * s.boxes,
                     all.subspan(static_cast<size_t>(i * s.boxes), static_cast<size_t>(s.boxes)));
    total += kept[i];
  }
  VB_ASSIGN(Tensor y, Tensor::allocate(DType::i64, {total, 3}));
  int64_t* out = y.mutable_data<int64_t>().data();
  for (int64_t i = 0; i < s.batch * s.classes; ++i)
    for (int64_t k = 0; k < kept[i]; ++k)
      for (const int64_t v : {i / s.classes, i % s.classes, all[i * s.boxes + k]}) *out++ = v;
  return Tensors{y};
}

// Every candidate against every kept box.
uint64_t suppression_cost(const Node& node, std::span<const Tensor> inputs,
                          std::span<const Tensor>) {
  const Result<Suppression> s = read_suppression(node, inputs);
  if (!s.ok()) return 0;
  return saturating_multiply(static_cast<uint64_t>(inputs[1].elements()),
                             24 * static_cast<uint64_t>(s->most + 8));
}

// --- RoiAlign
// ---------------------------------------------------------------------------------------------------------------

struct Alignment {
  int64_t regions = 0, height = 0, width = 0;  // of the output
  int64_t samples = 0;                         // for each bin and axis; 0: as many as elements
  float scale = 1;
  bool half_pixel = true, maximum = false;
};

Result<Alignment> read_alignment(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &regions = inputs[1];
  const Attributes& a = node.attributes;
  Alignment s;
  VB_ASSIGN(const std::string transform,
            a.get<std::string>("coordinate_transformation_mode", "half_pixel"));
  VB_ASSIGN(const std::string mode, a.get<std::string>("mode", "avg"));
  VB_ASSIGN(s.height, a.get<int64_t>("output_height", 1));
  VB_ASSIGN(s.width, a.get<int64_t>("output_width", 1));
  VB_ASSIGN(s.samples, a.get<int64_t>("sampling_ratio", 0));
  VB_ASSIGN(s.scale, a.get<float>("spatial_scale", 1.0f));
  if (transform != "half_pixel" && transform != "output_half_pixel")
    return bad_input("coordinate_transformation_mode '" + printable(transform) + "'");
  if (mode != "avg" && mode != "max") return bad_input("mode '" + printable(mode) + "'");
  s.half_pixel = transform == "half_pixel";
  s.maximum = mode == "max";
  constexpr int64_t kMost = 1 << 20;
  for (const int64_t v : {s.height, s.width, s.samples})
    if (v < 0 || v > kMost) return bad_input("output size or sampling_ratio " + std::to_string(v));
  const bool fits = x.rank() == 4 && regions.rank() == 2 && regions.dim(1) == 4 &&
                    regions.dtype() == x.dtype() && inputs[2].shape() == Shape{regions.dim(0)} &&
                    x.dim(2) > 0 && x.dim(3) > 0 && s.height > 0 && s.width > 0;
  if (!fits)
    return bad_input("x " + x.describe() + ", rois " + regions.describe() + ", batch_indices " +
                     inputs[2].describe());
  s.regions = regions.dim(0);
  return s;
}

// One axis of a region of interest: where its bins begin, how large they are, and how many samples
// each has.
template <class C>
struct RegionAxis {
  C start = 0, bin = 0;
  int64_t samples = 0, size = 0;

  // Sample i of bin p: (start + p * bin) + ((i + 0.5) * bin) / samples. Beyond an element outside
  // the image there is nothing; between it and the edge, the edge is read.
  AxisTaps<C> taps(int64_t p, int64_t i) const {
    C at = (start + static_cast<C>(p) * bin) +
           ((static_cast<C>(i) + C{0.5}) * bin) / static_cast<C>(samples);
    if (!(at >= -1 && at <= static_cast<C>(size))) return {};
    return linear_taps(std::clamp(at, C{0}, static_cast<C>(size - 1)), size);
  }
};

template <class T, class C = Compute<T>>
Result<RegionAxis<C>> region_axis(const Alignment& s, T begin, T end, int64_t bins, int64_t size) {
  const C offset = s.half_pixel ? C{0.5} : C{0};
  RegionAxis<C> axis;
  axis.size = size;
  axis.start = load(begin) * C{s.scale} - offset;
  C extent = (load(end) * C{s.scale} - offset) - axis.start;
  if (!s.half_pixel) extent = maximum_of(extent, C{1});
  axis.bin = extent / static_cast<C>(bins);
  constexpr int64_t kMost = 1 << 20;
  axis.samples =
      s.samples > 0 ? s.samples : saturate<int64_t>(static_cast<double>(ceiling_of(axis.bin)));
  if (axis.samples > kMost)
    return over_limit(std::to_string(axis.samples) + " samples for each bin of a region");
  axis.samples = std::max<int64_t>(axis.samples, 0);
  return axis;
}

template <class T>
using Region = std::array<RegionAxis<Compute<T>>, 2>;

template <class T>
Result<Region<T>> region_of(const Alignment& s, const Tensor& x, const T* roi) {
  Region<T> r;
  VB_ASSIGN(r[0], region_axis(s, roi[1], roi[3], s.height, x.dim(2)));
  VB_ASSIGN(r[1], region_axis(s, roi[0], roi[2], s.width, x.dim(3)));
  return r;
}

// The greatest of the (up to four) elements around a sample, each multiplied by its two weights'
// product; +0 where nothing is read.
template <class T, class C = Compute<T>>
C greatest(const T* x, const Strides& strides, std::span<const AxisTaps<C>> axes) {
  C best = 0;
  bool any = false;
  for (int i = 0; i < axes[0].count; ++i)
    for (int j = 0; j < axes[1].count; ++j) {
      const bool there = axes[0].index[i] >= 0 && axes[1].index[j] >= 0;
      const C value = there ? (axes[0].weight[i] * axes[1].weight[j]) *
                                  load(x[axes[0].index[i] * strides[0] + axes[1].index[j]])
                            : C{0};
      best = any ? maximum_of(best, value) : value;
      any = true;
    }
  return best;
}

// One bin of one channel: the samples, row by row, are added in ascending order from +0 and divided
// by their number; or the greatest of them.
template <class T, class C = Compute<T>>
C pool(const Alignment& s, const Region<T>& region, const T* image, int64_t p, int64_t q) {
  const Strides strides{region[1].size, 1};
  const int64_t count = region[0].samples * region[1].samples;
  C total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const std::array<AxisTaps<C>, 2> axes = {region[0].taps(p, i / region[1].samples),
                                             region[1].taps(q, i % region[1].samples)};
    const std::span<const AxisTaps<C>> both = axes;
    if (!s.maximum) {
      total = total + interpolate<T, C>(image, strides, both);
    } else {
      const C value = greatest<T, C>(image, strides, both);
      total = i == 0 ? value : maximum_of(total, value);
    }
  }
  return s.maximum || count == 0 ? total : total / static_cast<C>(count);
}

// RoiAlign(x [N, C, H, W], rois [R, 4], batch_indices [R]) -> [R, C, output_height, output_width].
// A region (x1, y1, x2, y2) begins at x1 * scale - 0.5 (output_half_pixel: without the offset, and
// at least 1 wide); each operation is rounded in the computing type.
Result<Tensors> roi_align(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const Alignment s, read_alignment(node, inputs));
  VB_ASSIGN(const std::vector<int64_t> batch, read_integers(inputs[2], "batch_indices"));
  for (const int64_t n : batch)
    if (n < 0 || n >= x.dim(0))
      return bad_input("batch index " + std::to_string(n) + " of " + std::to_string(x.dim(0)));
  VB_ASSIGN(const Shape shape, Shape::of(std::array{s.regions, x.dim(1), s.height, s.width}));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    const int64_t bins = s.height * s.width, pixels = x.dim(2) * x.dim(3);
    T* out = y.mutable_data<T>().data();
    for (int64_t r = 0; r < s.regions; ++r) {
      VB_ASSIGN(const Region<T> region, region_of(s, x, inputs[1].data<T>().data() + r * 4));
      const T* image = x.data<T>().data() + batch[r] * x.dim(1) * pixels;
      for (int64_t i = 0; i < x.dim(1) * bins; ++i)
        *out++ = store<T>(
            pool<T>(s, region, image + i / bins * pixels, i % bins / s.width, i % s.width));
    }
    return Tensors{y};
  });
}

// Some for each sample, of which every region has its own number.
uint64_t roi_align_cost(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Tensor& x = inputs[0];
  const Result<Alignment> s = read_alignment(node, inputs);
  if (!s.ok()) return 0;
  const Result<uint64_t> samples = visit_float<uint64_t>(x, [&](auto type) -> Result<uint64_t> {
    using T = decltype(type);
    uint64_t all = 0;
    for (int64_t r = 0; r < s->regions; ++r) {
      const auto region = region_of(*s, x, inputs[1].data<T>().data() + r * 4);
      if (!region.ok()) continue;
      const auto each = static_cast<uint64_t>((*region)[0].samples * (*region)[1].samples) + 1;
      if (__builtin_add_overflow(all, each, &all)) return UINT64_MAX;
    }
    return all;
  });
  if (!samples.ok()) return 0;
  const uint64_t bins = saturating_multiply(static_cast<uint64_t>(x.dim(1)),
                                            static_cast<uint64_t>(s->height * s->width));
  return saturating_multiply(saturating_multiply(*samples, bins), 32);
}

constexpr OpDef kOps[] = {
    {"", "NonMaxSuppression", 2, 5, 1, non_max_suppression, suppression_cost, nullptr, true},
    {"", "RoiAlign", 3, 3, 1, roi_align, roi_align_cost, nullptr, true},
};

}  // namespace

std::span<const OpDef> detection_ops() { return kOps; }

}  // namespace verbatim
