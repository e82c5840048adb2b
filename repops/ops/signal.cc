// Signals: DFT and STFT, the windows of Hann, Hamming and Blackman, MelWeightMatrix.
//
// All of it is computed in binary64, whatever the tensors' type, and rounded once at the end. The
// roots of unity come from unit_root() below.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

struct Root {
  double cosine = 1, sine = 0;
};

// exp(2 pi i m / n) for 0 <= m < n: with q quarter turns taken off, r / n of a quarter turn is
// left; where that is more than half of it, the complement's sine and cosine change places. The
// angle is (pi / 2) * (r / n), each operation rounded, so multiples of a quarter turn are exact.
Root unit_root(int64_t m, int64_t n) {
  constexpr double kQuarter = 0x1.921fb54442d18p+0;
  const int64_t quarters = 4 * m / n, r = 4 * m - quarters * n;
  const bool swapped = 2 * r > n;
  const double angle =
      kQuarter * (static_cast<double>(swapped ? n - r : r) / static_cast<double>(n));
  Root root{cos_f64(angle), sin_f64(angle)};
  if (swapped) std::swap(root.cosine, root.sine);
  switch (quarters) {
    case 1:
      return {-root.sine, root.cosine};
    case 2:
      return {-root.cosine, -root.sine};
    case 3:
      return {root.sine, -root.cosine};
    default:
      return root;
  }
}

// --- DFT, STFT
// --------------------------------------------------------------------------------------------------------------

constexpr int64_t kMaxLength = int64_t{1} << 30;

struct Transform {
  int64_t length = 0;  // n
  int64_t bins = 0;    // of the output
  bool inverse = false;
  // A one-sided inverse: an inner element stands for its mirror image too, so it counts twice; the
  // outer ones are real.
  bool real_output = false;
  bool is_outer(int64_t j) const { return j == 0 || 2 * j == length; }
};

// The n roots of unity, as a tensor so that limits count them.
Result<Tensor> roots_of(int64_t n) {
  VB_ASSIGN(Tensor roots, Tensor::allocate(DType::f64, {n, 2}));
  double* out = roots.mutable_data<double>().data();
  for (int64_t m = 0; m < n; ++m) {
    const Root root = unit_root(m, n);
    out[2 * m] = root.cosine;
    out[2 * m + 1] = root.sine;
  }
  return roots;
}

// One row of the transform. Element k is an ordered product over (j, part): of the real parts x_re
// and x_im with cos and -sin, of the imaginary ones with sin and cos, of the angle +-2 pi j k / n.
class RowTransform {
 public:
  RowTransform(const Transform& t, const Tensor& roots)
      : t_(t), roots_(roots.data<double>().data()) {}

  // signal: (re, im) pairs, at most n of them; those that are missing take no part.
  Root bin(std::span<const double> signal, int64_t k) const {
    Root sum{product(signal, k, false), t_.real_output ? 0.0 : product(signal, k, true)};
    if (t_.inverse) {
      sum.cosine /= static_cast<double>(t_.length);
      sum.sine /= static_cast<double>(t_.length);
    }
    return sum;
  }

 private:
  double product(std::span<const double> signal, int64_t k, bool imaginary) const {
    const double* left = signal.data();
    int64_t at = 0, j = 0;
    bool second = false;
    const auto right = [&] {
      const double cosine = roots_[2 * at],
                   sine = t_.inverse ? roots_[2 * at + 1] : -roots_[2 * at + 1];
      const double factor = second == imaginary ? cosine : second ? -sine : sine;
      const double weight = t_.real_output && !t_.is_outer(j) ? 2 : 1;
      if (second) {
        at = at + k < t_.length ? at + k : at + k - t_.length;
        ++j;
      }
      second = !second;
      return weight * factor;
    };
    return ordered_product<double>(
        static_cast<int64_t>(signal.size()), [&] { return *left++; }, right);
  }
  const Transform& t_;
  const double* roots_;
};

struct Dft {
  Transform transform;
  Shape output;
  int axis = 0;
  int64_t used = 0;  // elements of the axis that take part
};

Result<Dft> read_dft(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  Dft s;
  VB_ASSIGN(const int64_t inverse, node.attributes.get<int64_t>("inverse", 0));
  VB_ASSIGN(const int64_t onesided, node.attributes.get<int64_t>("onesided", 0));
  s.transform.inverse = inverse != 0;
  s.transform.real_output = inverse != 0 && onesided != 0;
  const auto parts = x.rank() < 2 ? 0 : x.dim(x.rank() - 1);
  if (parts != 1 && parts != 2) return bad_input("DFT of " + x.describe());
  int64_t axis = -2;
  if (const Tensor t = input_or_none(inputs, 2); t.defined()) {
    VB_ASSIGN(axis, read_integer(t, "axis"));
  }
  VB_ASSIGN(s.axis, x.shape().axis(axis));
  if (s.axis == x.rank() - 1) return bad_input("axis " + std::to_string(axis));
  const int64_t size = x.dim(s.axis);
  int64_t& n = s.transform.length;
  n = s.transform.real_output ? 2 * (size - 1) : size;
  if (const Tensor t = input_or_none(inputs, 1); t.defined()) {
    VB_ASSIGN(n, read_integer(t, "dft_length"));
  }
  if (n < 1 || n > kMaxLength) return bad_input("dft_length " + std::to_string(n));
  s.transform.bins = onesided != 0 && inverse == 0 ? n / 2 + 1 : n;
  s.used = std::min(size, s.transform.real_output ? n / 2 + 1 : n);
  std::vector<int64_t> dims = dims_of(x);
  dims[static_cast<size_t>(s.axis)] = s.transform.bins;
  dims.back() = s.transform.real_output ? 1 : 2;
  VB_ASSIGN(s.output, Shape::of(dims));
  return s;
}

// DFT(x [..., 1 or 2], dft_length?, axis?): element k is the sum of x_j exp(-+2 pi i j k / n), for
// the inverse divided by n.
Result<Tensors> dft(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const Dft s, read_dft(node, inputs));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), s.output));
  if (y.elements() == 0) return Tensors{y};
  VB_ASSIGN(const Tensor roots, roots_of(s.transform.length));
  const RowTransform row(s.transform, roots);
  const int last = x.rank() - 1;
  const int64_t outer = x.shape().elements(0, s.axis), inner = x.shape().elements(s.axis + 1, last),
                in_parts = x.dim(last), out_parts = s.output[last];
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    std::vector<double> signal(static_cast<size_t>(2 * s.used));
    for (int64_t i = 0; i < outer * inner; ++i) {
      const int64_t o = i / inner, at = i % inner;
      const T* in = x.data<T>().data() + (o * x.dim(s.axis) * inner + at) * in_parts;
      for (int64_t j = 0; j < s.used; ++j) {
        signal[2 * j] = load(in[j * inner * in_parts]);
        const bool real = in_parts == 1 || (s.transform.real_output && s.transform.is_outer(j));
        signal[2 * j + 1] = real ? Compute<T>{0} : load(in[j * inner * in_parts + 1]);
      }
      T* out = y.mutable_data<T>().data() + (o * s.transform.bins * inner + at) * out_parts;
      for (int64_t k = 0; k < s.transform.bins; ++k) {
        const Root value = row.bin(signal, k);
        out[k * inner * out_parts] = store<T>(static_cast<Compute<T>>(value.cosine));
        if (out_parts == 2)
          out[k * inner * out_parts + 1] = store<T>(static_cast<Compute<T>>(value.sine));
      }
    }
    return Tensors{y};
  });
}

uint64_t dft_cost(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Result<Dft> s = read_dft(node, inputs);
  if (!s.ok()) return 0;
  return saturating_add(saturating_multiply(static_cast<uint64_t>(s->output.elements()),
                                            4 * static_cast<uint64_t>(s->used)),
                        64 * static_cast<uint64_t>(s->transform.length));
}

struct Stft {
  Transform transform;
  int64_t step = 1, frames = 0;
};

Result<Stft> read_stft(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], window = input_or_none(inputs, 2);
  Stft s;
  VB_ASSIGN(const int64_t onesided, node.attributes.get<int64_t>("onesided", 1));
  VB_ASSIGN(s.step, read_integer(inputs[1], "frame_step"));
  if (x.rank() != 3 || (x.dim(2) != 1 && x.dim(2) != 2) ||
      (window.defined() && (window.rank() != 1 || window.dtype() != x.dtype())))
    return bad_input("STFT of " + x.describe() + " with window " + window.describe());
  int64_t& n = s.transform.length;
  n = window.defined() ? window.dim(0) : x.dim(1);
  if (const Tensor t = input_or_none(inputs, 3); t.defined()) {
    VB_ASSIGN(n, read_integer(t, "frame_length"));
  }
  if (n < 1 || n > std::min(kMaxLength, x.dim(1)) || s.step < 1 ||
      (window.defined() && window.dim(0) != n))
    return bad_input("frames of " + std::to_string(n) + ", " + std::to_string(s.step) +
                     " apart, in " + x.describe());
  s.frames = (x.dim(1) - n) / s.step + 1;
  s.transform.bins = onesided != 0 ? n / 2 + 1 : n;
  return s;
}

// STFT(x [B, L, 1 or 2], frame_step, window?, frame_length?) -> [B, frames, bins, 2]: the DFT of
// each frame, its elements multiplied by the window's.
Result<Tensors> stft(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], window = input_or_none(inputs, 2);
  VB_ASSIGN(const Stft s, read_stft(node, inputs));
  VB_ASSIGN(const Shape shape,
            Shape::of(std::array{x.dim(0), s.frames, s.transform.bins, int64_t{2}}));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  if (y.elements() == 0) return Tensors{y};
  VB_ASSIGN(const Tensor roots, roots_of(s.transform.length));
  const RowTransform row(s.transform, roots);
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    const int64_t n = s.transform.length, parts = x.dim(2);
    std::vector<double> signal(static_cast<size_t>(2 * n));
    T* out = y.mutable_data<T>().data();
    for (int64_t i = 0; i < x.dim(0) * s.frames; ++i) {
      const int64_t begin = i / s.frames * x.dim(1) + i % s.frames * s.step;
      for (int64_t j = 0; j < n; ++j) {
        const double weight = window.defined() ? load(window.data<T>()[j]) : Compute<T>{1};
        const T* in = x.data<T>().data() + (begin + j) * parts;
        signal[2 * j] = load(in[0]) * weight;
        signal[2 * j + 1] = parts == 2 ? load(in[1]) * weight : 0;
      }
      for (int64_t k = 0; k < s.transform.bins; ++k) {
        const Root value = row.bin(signal, k);
        *out++ = store<T>(static_cast<Compute<T>>(value.cosine));
        *out++ = store<T>(static_cast<Compute<T>>(value.sine));
      }
    }
    return Tensors{y};
  });
}

uint64_t stft_cost(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Result<Stft> s = read_stft(node, inputs);
  if (!s.ok()) return 0;
  const auto n = static_cast<uint64_t>(s->transform.length);
  const uint64_t frames = saturating_multiply(static_cast<uint64_t>(inputs[0].dim(0)),
                                              static_cast<uint64_t>(s->frames)) |
                          1;
  return saturating_multiply(saturating_multiply(frames, n),
                             8 * static_cast<uint64_t>(s->transform.bins) + 64);
}

// --- windows
// ----------------------------------------------------------------------------------------------------------------

// The element type of an output that the attribute output_datatype names; binary32 without it.
Result<DType> output_type(const Node& node) {
  VB_ASSIGN(const int64_t number, node.attributes.get<int64_t>("output_datatype", 1));
  const DType dtype = dtype_from_onnx(number);
  if (dtype == DType::undefined) return unsupported("output_datatype " + std::to_string(number));
  return dtype;
}

// Stores values f(i) of binary64 into y's type, as Cast does.
template <class F>
Result<Tensors> fill(Tensor y, F f) {
  return visit_number<Tensors>(y, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    for (int64_t i = 0; i < y.elements(); ++i)
      y.mutable_data<T>()[i] = store<T>(real_to<Compute<T>>(f(i)));
    return Tensors{y};
  });
}

struct Cosines {
  double a0, a1, a2;
};
constexpr Cosines kHann{0.5, 0.5, 0}, kHamming{25.0 / 46.0, 1 - 25.0 / 46.0, 0},
    kBlackman{0.42, 0.5, 0.08};

// Window(size): element i is (a0 - a1 * cos(2 pi i / n)) + a2 * cos(4 pi i / n), each operation
// rounded, with n = size, or size - 1 where periodic = 0. A symmetric window of one element is 1.
template <const Cosines& kA>
Result<Tensors> window(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t size, read_integer(inputs[0], "size"));
  VB_ASSIGN(const int64_t periodic, node.attributes.get<int64_t>("periodic", 1));
  VB_ASSIGN(const DType dtype, output_type(node));
  VB_ASSIGN(const Shape shape, Shape::of(std::array{size}));
  VB_TRY(check_size(size, "size"));
  VB_ASSIGN(Tensor y, Tensor::allocate(dtype, shape));
  const int64_t n = periodic != 0 ? size : size - 1;
  return fill(y, [n](int64_t i) -> double {
    if (n == 0) return 1;
    const double once = unit_root(i % n, n).cosine, twice = unit_root(2 * i % n, n).cosine;
    return (kA.a0 - kA.a1 * once) + kA.a2 * twice;
  });
}

uint64_t window_cost(const Node&, std::span<const Tensor>, std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()), 128);
}

// --- MelWeightMatrix
// --------------------------------------------------------------------------------------------------------

Result<double> read_hertz(const Tensor& t, const char* what) {
  if (t.elements() != 1) return bad_input(std::string(what) + " is " + t.describe());
  VB_ASSIGN(const double value, visit_float<double>(t, [&](auto type) -> Result<double> {
              return static_cast<double>(load(t.data<decltype(type)>()[0]));
            }));
  if (!(value >= 0 && value < 1e30)) return bad_input(std::string(what) + " is no frequency");
  return value;
}

struct MelBands {
  int64_t bands = 0, length = 0, rate = 0;
  double low = 0, step = 0;  // in mel: 2595 * log10(1 + f / 700)

  int64_t bins() const { return length / 2 + 1; }
  // The bin at which band `i` begins: floor(((length + 1) * f) / rate), f = 700 * (10^(mel / 2595)
  // - 1).
  int64_t edge(int64_t i) const {
    const double mel = static_cast<double>(i) * step + low;
    const double f = 700.0 * (pow_f64(10.0, mel / 2595.0) - 1.0);
    const double bin = floor_of(static_cast<double>(length + 1) * f / static_cast<double>(rate));
    return std::clamp(saturate<int64_t>(bin), int64_t{0}, kMaxSize);
  }
};

Result<MelBands> read_bands(std::span<const Tensor> inputs) {
  MelBands m;
  VB_ASSIGN(m.bands, read_integer(inputs[0], "num_mel_bins"));
  VB_ASSIGN(m.length, read_integer(inputs[1], "dft_length"));
  VB_ASSIGN(m.rate, read_integer(inputs[2], "sample_rate"));
  VB_ASSIGN(const double low, read_hertz(inputs[3], "lower_edge_hertz"));
  VB_ASSIGN(const double high, read_hertz(inputs[4], "upper_edge_hertz"));
  for (const int64_t v : {m.bands, m.length, m.rate})
    if (v < 0 || v > kMaxLength) return bad_input("mel bands, length or rate " + std::to_string(v));
  if (m.rate == 0 || high < low) return bad_input("sample_rate or the edges of the bands");
  const auto mel_of = [](double f) { return 2595.0 * log10_f64(1.0 + f / 700.0); };
  m.low = mel_of(low);
  m.step = (mel_of(high) - m.low) / static_cast<double>(m.bands + 2);
  return m;
}

// MelWeightMatrix(num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz) ->
// [dft_length / 2 + 1, num_mel_bins]: in each band's column a triangle from its edge up to the next
// one's, where it is 1, and down to the one after. Of a triangle without a rise, the peak remains.
Result<Tensors> mel_weight_matrix(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const MelBands m, read_bands(inputs));
  VB_ASSIGN(const DType dtype, output_type(node));
  VB_ASSIGN(const Shape shape, Shape::of(std::array{m.bins(), m.bands}));
  VB_ASSIGN(Tensor y, Tensor::allocate(dtype, shape));
  VB_ASSIGN(Tensor edges, Tensor::allocate(DType::i64, Shape{m.bands + 2}));
  int64_t* edge = edges.mutable_data<int64_t>().data();
  for (int64_t i = 0; i < m.bands + 2; ++i) edge[i] = m.edge(i);
  return fill(y, [&](int64_t i) -> double {
    const int64_t j = i / m.bands, band = i % m.bands, left = edge[band], center = edge[band + 1],
                  right = edge[band + 2];
    if (j == center) return 1;
    if (j < left || j >= right) return 0;
    return j < center ? static_cast<double>(j - left) / static_cast<double>(center - left)
                      : static_cast<double>(right - j) / static_cast<double>(right - center);
  });
}

uint64_t mel_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  const Result<MelBands> m = read_bands(inputs);
  return saturating_add(saturating_multiply(static_cast<uint64_t>(outputs[0].elements()), 4),
                        m.ok() ? 256 * static_cast<uint64_t>(m->bands + 2) : 0);
}

constexpr OpDef kOps[] = {
    {"", "DFT", 1, 3, 1, dft, dft_cost},
    {"", "STFT", 2, 4, 1, stft, stft_cost},
    {"", "HannWindow", 1, 1, 1, window<kHann>, window_cost},
    {"", "HammingWindow", 1, 1, 1, window<kHamming>, window_cost},
    {"", "BlackmanWindow", 1, 1, 1, window<kBlackman>, window_cost},
    {"", "MelWeightMatrix", 5, 5, 1, mel_weight_matrix, mel_cost, nullptr, true},
};

}  // namespace

std::span<const OpDef> signal_ops() { return kOps; }

}  // namespace verbatim
