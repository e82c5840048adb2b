// Conv in binary32: input elements gathered into the columns that an ordered product takes
// (im2col; Chellapilla, Puri and Simard 2006), strip by strip.
//
// Padded taps take no part in the contract, and are zeros here. With finite weights they add +0 or
// -0, which changes nothing but the sign of a sum that is -0 just then, and so no result but one
// that is zero: those, where a window reaches into padding, are computed anew as defined.
#include <verbatim/repops/ops/convolution.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

// Of gathered columns: in a core's cache, unless that were fewer panels than make it worth reading
// all weights.
constexpr int64_t kStripFloats = 1 << 18, kLeastPanels = 4;
constexpr int64_t kMostPanelFloats = 1 << 22;
constexpr int64_t kTasks = 16;       // at least, where strips stay as wide
constexpr int64_t kSharedRows = 64;  // of a task at most, where threads share a strip
constexpr size_t kMostPanel = 64;    // CpuKernels::panel

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

// Mostly short: a call of memcpy would take longer than the copy.
inline void copy_run(const float* from, int64_t count, float* to) {
  constexpr int64_t kPiece = 8;
  const auto piece = [&](int64_t i) { std::memcpy(to + i, from + i, kPiece * sizeof(float)); };
  if (count < kPiece) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
    return;
  }
  for (int64_t i = 0; i + kPiece <= count; i += kPiece) piece(i);
  piece(count - kPiece);
}

// Columns [first, first + count) of the plane as one packed panel.
void gather(const Task& t, const Taps& taps, float* packed) {
  const int64_t pixels = t.s.window.inputs(), size = t.s.window.taps() * t.kernels.panel;
  const float* in = t.x + t.plane * t.s.in_channels * pixels;
  for (int64_t c = 0; c < t.s.in_channels; ++c, in += pixels, packed += size) {
    for (const Taps::Run& run : taps.runs) {
      float* to = packed + run.to;
      if (run.from == kPadded) {
        std::fill_n(to, run.count, 0.0f);
      } else {
        copy_run(in + run.from, run.count, to);
      }
    }
  }
}

// What the header says of zeros, for the positions of one panel.
void correct_zeros(const Task& t, const Taps& taps, int64_t first, int64_t count) {
  const int64_t panel = t.kernels.panel, size = t.s.window.taps(), positions = t.s.window.outputs();
  assert(panel <= static_cast<int64_t>(kMostPanel));
  std::array<int64_t, kMostPanel> padded;
  size_t found = 0;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t tap = 0; tap < size; ++tap)
      if (taps.offsets[static_cast<size_t>(tap * panel + i)] == kPadded) {
        padded[found++] = first + i;
        break;
      }
  for (int64_t m = 0; m < t.s.out_channels; ++m) {
    float* y = t.y + (t.plane * t.s.out_channels + m) * positions;
    for (size_t j = 0; j < found; ++j) {
      if (y[padded[j]] != 0) continue;
      const float v = convolved(t.s, t.x, t.w, t.plane, m, padded[j]);
      y[padded[j]] = canonical(
          t.bias == nullptr ? v : v + t.bias[t.plane % t.s.groups * t.s.out_channels + m]);
    }
  }
}

// `alone`: the only strip, whose panels and rows threads share. Each thread's scratch memory begins
// with that of its product; the columns lie behind that of the calling thread.
void convolve_strip(const Task& t, bool alone) {
  const int64_t k = t.s.k_size(), panel = t.kernels.panel, panels = ceiling(t.count, panel),
                rows = t.s.out_channels, group = t.plane % t.s.groups,
                positions = t.s.window.outputs(),
                tasks = ceiling(rows, alone ? kSharedRows : kProductRows);
  const size_t product_scratch =
      t.kernels.product_scratch(DType::f32, ceiling(rows, tasks), panels);
  float* packed =
      thread_scratch(static_cast<size_t>(panels * k * panel) + product_scratch) + product_scratch;
  thread_local std::vector<Taps> taps_of_thread;
  std::vector<Taps>& taps = taps_of_thread;
  if (static_cast<int64_t>(taps.size()) < panels) taps.resize(static_cast<size_t>(panels));
  const auto for_each = [alone](int64_t n, auto f) {
    parallel_for(n, alone ? 1 : n, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i);
    });
  };
  for_each(panels, [&](int64_t i) {
    Taps& of_panel = taps[static_cast<size_t>(i)];
    of_panel.find(t.s.window, t.first + i * panel, std::min(panel, t.count - i * panel), panel);
    gather(t, of_panel, packed + i * k * panel);
  });
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
  for_each(tasks, [&](int64_t i) {
    t.kernels.product(p, rows * i / tasks, rows * (i + 1) / tasks, 0, panels,
                      thread_scratch(product_scratch));
  });
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
  if (!backend.all_finite(w)) return not_handled();
  const Convolution& s = *plan;
  if (s.k_size() > kMostPanelFloats / backend.kernels().panel) return not_handled();
  VB_ASSIGN(const Shape shape, s.output_shape());
  VB_ASSIGN(FloatsResult y, start_floats(type, shape));
  if (shape.elements() == 0) return done({y.result});
  const CpuKernels& kernels = backend.kernels();
  const int64_t planes = s.batch * s.groups, positions = s.window.outputs(), panel = kernels.panel,
                panels = ceiling(positions, panel),
                in_cache = std::max(kLeastPanels, kStripFloats / (s.k_size() * panel)),
                strip = std::min(
                    {panels, in_cache, std::max(kLeastPanels, ceiling(panels * planes, kTasks))}),
                strips = ceiling(panels, strip);
  float* out = y.floats.mutable_data<float>().data();
  parallel_for(planes * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % strips * strip * panel;
      convolve_strip({kernels, s, x.data<float>().data(), w.data<float>().data(),
                      has_bias ? bias.data<float>().data() : nullptr, out, i / strips, first,
                      std::min(strip * panel, positions - first)},
                     planes * strips == 1);
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
