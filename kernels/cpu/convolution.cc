// Conv in binary32: input elements gathered into the columns that an ordered product takes
// (im2col; Chellapilla, Puri and Simard 2006), strip by strip.
//
// Padded taps take no part in the contract, and are zeros here. With finite weights they add +0 or
// -0, which changes nothing but the sign of a sum that is -0 just then, and so no result but one
// that is zero: those, where a window reaches into padding, are computed anew as defined.
#include <verbatim/repops/ops/convolution.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

constexpr int64_t kStripFloats = 1 << 18;  // of gathered columns: they stay in a core's cache
constexpr int64_t kMostPanelFloats = 1 << 24;
constexpr int64_t kTasks = 16;       // at least, where strips stay as wide as
constexpr int64_t kLeastPanels = 4;  // this: each strip reads all weights

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Task {
  const CpuKernels& kernels;
  const Convolution& s;
  const float *x, *w, *bias;
  float* y;
  int64_t plane, first, count;  // output positions
};

constexpr int64_t kPadded = -1;

// The elements that the windows of one panel's positions read, in a channel.
struct Taps {
  // Elements that lie side by side in the image and in the columns, or padding.
  struct Run {
    int64_t to, count, from;  // from: an offset, or kPadded
  };
  std::vector<int64_t> offsets;  // [taps, panel], or kPadded
  std::vector<Run> runs;         // the same in short

  void find(const Window& window, int64_t first, int64_t count, int64_t panel) {
    offsets.assign(static_cast<size_t>(window.taps() * panel), kPadded);
    for (int64_t i = 0; i < count; ++i)
      window.for_each_tap(first + i, [&](int64_t tap, int64_t offset) {
        offsets[static_cast<size_t>(tap * panel + i)] = offset;
      });
    runs.clear();
    for (int64_t i = 0, end = static_cast<int64_t>(offsets.size()); i < end; ++i) {
      const int64_t from = offsets[static_cast<size_t>(i)];
      Run* last = runs.empty() ? nullptr : &runs.back();
      if (last != nullptr && from == (last->from == kPadded ? kPadded : last->from + last->count)) {
        ++last->count;
      } else {
        runs.push_back({i, 1, from});
      }
    }
  }
};

// Columns [first, first + count) of the plane as one packed panel.
void gather(const Task& t, const Taps& taps, float* packed) {
  constexpr int64_t kShort = 8;  // where a loop is quicker than a call
  const int64_t pixels = t.s.window.inputs(), size = t.s.window.taps() * t.kernels.panel;
  const float* in = t.x + t.plane * t.s.in_channels * pixels;
  for (int64_t c = 0; c < t.s.in_channels; ++c, in += pixels, packed += size) {
    for (const Taps::Run& run : taps.runs) {
      float* to = packed + run.to;
      if (run.from == kPadded) {
        std::fill_n(to, run.count, 0.0f);
      } else if (run.count < kShort) {
        for (int64_t i = 0; i < run.count; ++i) to[i] = in[run.from + i];
      } else {
        std::memcpy(to, in + run.from, static_cast<size_t>(run.count) * sizeof(float));
      }
    }
  }
}

// What the header says of zeros, for the positions of one panel.
void correct_zeros(const Task& t, const Taps& taps, int64_t first, int64_t count) {
  const int64_t panel = t.kernels.panel, size = t.s.window.taps(), positions = t.s.window.outputs();
  for (int64_t i = 0; i < count; ++i) {
    bool padded = false;
    for (int64_t tap = 0; tap < size; ++tap)
      padded = padded || taps.offsets[static_cast<size_t>(tap * panel + i)] == kPadded;
    if (!padded) continue;
    for (int64_t m = 0; m < t.s.out_channels; ++m) {
      float& y = t.y[(t.plane * t.s.out_channels + m) * positions + first + i];
      if (y != 0) continue;
      const float v = convolved(t.s, t.x, t.w, t.plane, m, first + i);
      y = canonical(t.bias == nullptr ? v
                                      : v + t.bias[t.plane % t.s.groups * t.s.out_channels + m]);
    }
  }
}

void convolve_strip(const Task& t) {
  const int64_t k = t.s.k_size(), panel = t.kernels.panel, panels = ceiling(t.count, panel),
                rows = t.s.out_channels, group = t.plane % t.s.groups,
                positions = t.s.window.outputs();
  const int64_t tasks = ceiling(rows, kProductRows);
  const size_t product_scratch =
      t.kernels.product_scratch(DType::f32, ceiling(rows, tasks), panels);
  float* scratch = thread_scratch(static_cast<size_t>(panels * k * panel) + product_scratch);
  float* packed = scratch + product_scratch;
  thread_local std::vector<Taps> taps;
  if (static_cast<int64_t>(taps.size()) < panels) taps.resize(static_cast<size_t>(panels));
  for (int64_t i = 0; i < panels; ++i) {
    Taps& of_panel = taps[static_cast<size_t>(i)];
    of_panel.find(t.s.window, t.first + i * panel, std::min(panel, t.count - i * panel), panel);
    gather(t, of_panel, packed + i * k * panel);
  }
  Product p{.a = t.w + group * rows * k,
            .a_row = k,
            .b = packed,
            .n = t.count,
            .k = k,
            .out = t.y + t.plane * rows * positions + t.first,
            .out_row = positions};
  if (t.bias != nullptr) {
    p.c = t.bias + group * rows;
    p.c_row = 1;
  }
  for (int64_t i = 0; i < tasks; ++i)
    t.kernels.product(p, rows * i / tasks, rows * (i + 1) / tasks, 0, panels, scratch);
  for (int64_t i = 0; i < panels; ++i)
    correct_zeros(t, taps[static_cast<size_t>(i)], t.first + i * panel,
                  std::min(panel, t.count - i * panel));
}

bool has_bias_of(std::span<const Tensor> inputs) {
  return inputs.size() > 2 && inputs[2].defined();
}

Outcome convolve_floats(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs,
                        DType type) {
  const bool has_bias = has_bias_of(inputs);
  const Tensor &x = inputs[0], &w = inputs[1], bias = has_bias ? inputs[2] : Tensor();
  const Result<Convolution> plan = plan_convolution(node, x, w, bias, false);
  if (!plan.ok() || w.elements() == 0) return not_handled();
  if (!std::ranges::all_of(w.data<float>(), [](float v) { return std::isfinite(v); }))
    return not_handled();
  const Convolution& s = *plan;
  if (s.k_size() > kMostPanelFloats / backend.kernels().panel) return not_handled();
  VB_ASSIGN(const Shape shape, s.output_shape());
  VB_ASSIGN(FloatsResult y, start_floats(type, shape));
  if (shape.elements() == 0) return done({y.result});
  const CpuKernels& kernels = backend.kernels();
  const int64_t planes = s.batch * s.groups, positions = s.window.outputs(), panel = kernels.panel,
                panels = ceiling(positions, panel),
                in_cache = std::max<int64_t>(1, kStripFloats / (s.k_size() * panel)),
                strip = std::min(
                    {panels, in_cache, std::max(kLeastPanels, ceiling(panels * planes, kTasks))}),
                strips = ceiling(panels, strip);
  float* out = y.floats.mutable_data<float>().data();
  parallel_for(planes * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % strips * strip * panel;
      convolve_strip({kernels, s, x.data<float>().data(), w.data<float>().data(),
                      has_bias ? bias.data<float>().data() : nullptr, out, i / strips, first,
                      std::min(strip * panel, positions - first)});
    }
  });
  return finish_floats(backend, std::move(y));
}

}  // namespace

Outcome run_convolution(const CpuBackend& backend, const Node& node,
                        std::span<const Tensor> inputs) {
  return run_on_floats(convolve_floats, backend, node, inputs, has_bias_of(inputs) ? 3 : 2);
}

}  // namespace verbatim
