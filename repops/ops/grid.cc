// GridSample: an image read at positions that a grid gives; AffineGrid: such a grid.
//
// Positions and weights are computed in the grid's computing type, each operation rounded: with
// align_corners x = (g + 1) / 2 * (n - 1), else x = ((g + 1) * n - 1) / 2. Nearest rounds half to
// even. A NaN position is 0. With padding "zeros" elements outside the image take no part; "border"
// reads the nearest one; "reflection" mirrors the position, and then whatever it reads, at the
// image's border. Linear and cubic interpolate by interpolation.h.
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/interpolation.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

enum class Mode { nearest, linear, cubic };
enum class Padding { zeros, border, reflection };

constexpr int kMaxSpatial = kMaxRank - 2;

struct Sampling {
  Mode mode = Mode::linear;
  Padding padding = Padding::zeros;
  bool align_corners = false;
  int rank = 0;        // of the image
  int64_t points = 0;  // of one batch entry

  int taps() const { return mode == Mode::nearest ? 1 : mode == Mode::linear ? 2 : 4; }
};

Result<Sampling> read_sampling(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &grid = inputs[1];
  Sampling s;
  VB_ASSIGN(const std::string mode, node.attributes.get<std::string>("mode", "linear"));
  VB_ASSIGN(const std::string padding, node.attributes.get<std::string>("padding_mode", "zeros"));
  VB_ASSIGN(const int64_t align, node.attributes.get<int64_t>("align_corners", 0));
  if (mode != "nearest" && mode != "linear" && mode != "cubic")
    return bad_input("mode '" + printable(mode) + "'");
  if (padding != "zeros" && padding != "border" && padding != "reflection")
    return bad_input("padding_mode '" + printable(padding) + "'");
  s.mode = mode == "nearest" ? Mode::nearest : mode == "linear" ? Mode::linear : Mode::cubic;
  s.padding = padding == "zeros"    ? Padding::zeros
              : padding == "border" ? Padding::border
                                    : Padding::reflection;
  s.align_corners = align != 0;
  s.rank = x.rank() - 2;
  bool fits = s.rank >= 1 && grid.rank() == x.rank() && grid.dim(0) == x.dim(0) &&
              grid.dim(s.rank + 1) == s.rank;
  for (int d = 0; fits && d < s.rank; ++d) fits = x.dim(d + 2) > 0;
  if (!fits) return bad_input("grid " + grid.describe() + " for x " + x.describe());
  s.points = grid.shape().elements(1, s.rank + 1);
  return s;
}

// x mirrored at the borders low and high until it lies between them.
template <class G>
G reflect(G x, G low, G high) {
  const G range = high - low;
  if (!(range > 0)) return low;
  const bool below = x < low;
  const G distance = below ? low - x : x - high;
  if (!(distance > 0)) return x;
  const G turns = truncate_of(distance / range), rest = distance - turns * range,
          half = turns / G{2};
  const bool even = truncate_of(half) == half;
  const G mirrored = below == even ? low + rest : high - rest;
  return is_nan(mirrored) ? low : std::clamp(mirrored, low, high);
}

// The same of an element's index in an image of n.
int64_t reflect_index(int64_t i, int64_t n, bool align_corners) {
  const int64_t period = align_corners ? 2 * (n - 1) : 2 * n;
  if (period == 0) return 0;
  i = (i % period + period) % period;
  if (align_corners) return i < n ? i : period - i;
  return i < n ? i : period - 1 - i;
}

// The element that index i of an axis of n reads, or -1.
int64_t pixel(const Sampling& s, int64_t i, int64_t n) {
  switch (s.padding) {
    case Padding::zeros:
      return i >= 0 && i < n ? i : -1;
    case Padding::border:
      return std::clamp<int64_t>(i, 0, n - 1);
    case Padding::reflection:
      return reflect_index(i, n, s.align_corners);
  }
  return -1;
}

// Where grid value g lies on an axis of n elements, padding applied.
template <class G>
G position(const Sampling& s, G g, int64_t n) {
  const G size = static_cast<G>(n);
  G x = s.align_corners ? (g + G{1}) / G{2} * (size - G{1}) : ((g + G{1}) * size - G{1}) / G{2};
  if (is_nan(x)) x = 0;
  if (s.mode == Mode::nearest) x = round_even_of(x);
  const G low = s.align_corners ? G{0} : G{-0.5},
          high = s.align_corners ? size - G{1} : size - G{0.5};
  if (x < low || x > high) {
    if (s.padding == Padding::border) x = std::clamp(x, G{0}, size - G{1});
    if (s.padding == Padding::reflection) x = reflect(x, low, high);
  }
  // Far outside nothing is read all the same; clamping keeps indices small.
  return std::clamp(x, G{-4}, size + G{4});
}

// Keys' kernel with a = -3/4: the weights of the elements at -1, 0, 1 and 2 from one whose distance
// to the point is r.
template <class G>
std::array<G, 4> cubic_weights(G r) {
  constexpr G a = -0.75;
  const auto near = [](G x) { return ((a + G{2}) * x - (a + G{3})) * x * x + G{1}; };
  const auto far = [](G x) { return ((a * x - G{5} * a) * x + G{8} * a) * x - G{4} * a; };
  return {far(r + G{1}), near(r), near(G{1} - r), far(G{2} - r)};
}

template <class C, class G>
AxisTaps<C> taps_at(const Sampling& s, G g, int64_t n) {
  const G x = position(s, g, n), base = floor_of(x), r = x - base;
  const auto first = static_cast<int64_t>(base);
  AxisTaps<C> taps;
  taps.count = s.taps();
  std::array<G, 4> weight{1};
  if (s.mode == Mode::linear) weight = {G{1} - r, r};
  if (s.mode == Mode::cubic) weight = cubic_weights(r);
  for (int i = 0; i < taps.count; ++i) {
    taps.index[i] = pixel(s, first + i - (s.mode == Mode::cubic ? 1 : 0), n);
    taps.weight[i] = static_cast<C>(weight[i]);
  }
  return taps;
}

// One point of all channels.
template <class T, class G>
void sample(const Sampling& s, const Tensor& x, int64_t n, const G* grid, T* y) {
  std::array<AxisTaps<Compute<T>>, kMaxSpatial> axes;
  Strides strides{};
  const Strides all = strides_of(x.shape());
  for (int d = 0; d < s.rank; ++d) {
    // The grid names the last dimension first.
    axes[d] = taps_at<Compute<T>>(s, load(grid[s.rank - 1 - d]), x.dim(d + 2));
    strides[d] = all[d + 2];
  }
  for (int64_t c = 0; c < x.dim(1); ++c) {
    const T* image = x.data<T>().data() + n * all[0] + c * all[1];
    y[c * s.points] = store<T>(interpolate<T, Compute<T>>(
        image, strides, std::span(axes).first(static_cast<size_t>(s.rank))));
  }
}

// GridSample(x [N, C, spatial...], grid [N, points..., rank]) -> [N, C, points...].
Result<Tensors> grid_sample(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &grid = inputs[1];
  VB_ASSIGN(const Sampling s, read_sampling(node, inputs));
  std::vector<int64_t> dims = dims_of(grid);
  dims.pop_back();
  dims.insert(dims.begin() + 1, x.dim(1));
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  return visit_float<Tensors>(x, [&](auto type) {
    return visit_float<Tensors>(grid, [&](auto grid_type) -> Result<Tensors> {
      using T = decltype(type);
      const auto* g = grid.data<decltype(grid_type)>().data();
      T* out = y.mutable_data<T>().data();
      parallel_for(x.dim(0) * s.points, 64, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t n = i / s.points;
          sample(s, x, n, g + i * s.rank, out + n * x.dim(1) * s.points + i % s.points);
        }
      });
      return Tensors{y};
    });
  });
}

// Two operations for each element that is read, and the weights.
uint64_t grid_sample_cost(const Node& node, std::span<const Tensor> inputs,
                          std::span<const Tensor>) {
  const Result<Sampling> s = read_sampling(node, inputs);
  if (!s.ok()) return 0;
  const auto each = static_cast<uint64_t>(20 * s->rank);
  uint64_t taps = 2;
  for (int d = 0; d < s->rank; ++d) taps *= static_cast<uint64_t>(s->taps());
  const auto points = static_cast<uint64_t>(inputs[0].dim(0) * s->points);
  return saturating_multiply(
      saturating_multiply(points, static_cast<uint64_t>(inputs[0].dim(1)) + 1), each + taps);
}

// --- AffineGrid
// -------------------------------------------------------------------------------------------------------------

// Position i of n along an axis from -1 to 1: with align_corners 2i / (n - 1) - 1 (-1 where n = 1),
// else (2i + 1) / n - 1, in binary64.
double base_position(int64_t i, int64_t n, bool align_corners) {
  const auto at = static_cast<double>(i), size = static_cast<double>(n);
  if (align_corners) return n == 1 ? -1 : 2 * at / (size - 1) - 1;
  return (2 * at + 1) / size - 1;
}

// AffineGrid(theta [N, R, R + 1], size [R + 2]) -> [N, size[2]..., R], R being 2 or 3: row j of
// theta times the position (x, y, ..., 1), last axis first, rounded to theta's computing type; an
// ordered product.
Result<Tensors> affine_grid(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& theta = inputs[0];
  VB_ASSIGN(const int64_t align, node.attributes.get<int64_t>("align_corners", 0));
  VB_ASSIGN(const std::vector<int64_t> size, read_integers(inputs[1], "size", kMaxRank));
  const auto rank = static_cast<int64_t>(size.size()) - 2;
  if ((rank != 2 && rank != 3) || theta.rank() != 3 || theta.dim(0) != size[0] ||
      theta.dim(1) != rank || theta.dim(2) != rank + 1)
    return bad_input("theta " + theta.describe() + " for size " + inputs[1].describe());
  std::vector<int64_t> dims = {size[0]};
  dims.insert(dims.end(), size.begin() + 2, size.end());
  dims.push_back(rank);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor grid, Tensor::allocate(theta.dtype(), shape));
  const int64_t points = shape.elements(1, static_cast<int>(rank) + 1);
  return visit_float<Tensors>(theta, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const T* rows = theta.data<T>().data();
    T* y = grid.mutable_data<T>().data();
    for (int64_t i = 0; i < size[0] * points; ++i) {
      std::array<C, 4> at;
      at[rank] = 1;
      int64_t rest = i % points;
      for (int64_t d = 0; d < rank; ++d) {
        const int64_t n = size[size.size() - 1 - d];
        at[d] = static_cast<C>(base_position(rest % n, n, align != 0));
        rest /= n;
      }
      for (int64_t j = 0; j < rank; ++j) {
        const T* row = rows + (i / points * rank + j) * (rank + 1);
        const C* p = at.data();
        y[i * rank + j] = store<T>(ordered_product<C>(
            rank + 1, [&] { return load(*row++); }, [&] { return *p++; }));
      }
    }
    return Tensors{grid};
  });
}

uint64_t affine_grid_cost(const Node&, std::span<const Tensor>, std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()), 16);
}

constexpr OpDef kOps[] = {
    {"", "GridSample", 2, 2, 1, grid_sample, grid_sample_cost},
    {"", "AffineGrid", 2, 2, 1, affine_grid, affine_grid_cost},
};

}  // namespace

std::span<const OpDef> grid_ops() { return kOps; }

}  // namespace verbatim
