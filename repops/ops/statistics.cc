// Normalisations over batches, instances, groups and neighbouring channels. Two passes, as
// LayerNormalization: mean = sum / n; d = x - mean; var = sumsq(d) / n; y = d * rsqrt(var + eps),
// then * scale, + bias, each operation rounded.
#include <algorithm>
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sum.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

template <class C>
C rsqrt_of(C x) {
  return C{1} / sqrt_of(x);
}

inline float pow_of(float a, float b) { return pow_f32(a, b); }
inline double pow_of(double a, double b) { return pow_f64(a, b); }

// A vector of `size` parameters in the computing type C. 16-bit and binary32 operands mix; binary64
// stays by itself.
template <class C>
Result<std::vector<C>> read_parameters(const Tensor& t, int64_t size, const char* name) {
  if (t.rank() != 1 || t.elements() != size)
    return bad_input(std::string(name) + " is " + t.describe() + ", not of " +
                     std::to_string(size) + " values");
  return visit_float<std::vector<C>>(t, [&](auto type) -> Result<std::vector<C>> {
    using T = decltype(type);
    std::vector<C> values;
    if constexpr (std::is_same_v<Compute<T>, C>) {
      for (T v : t.data<T>()) values.push_back(load(v));
      return values;
    } else {
      return unsupported(std::string(name) + " of type " + std::string(name_of(t.dtype())));
    }
  });
}

template <class C>
Result<Tensor> parameters_like(const Tensor& like, const std::vector<C>& values) {
  VB_ASSIGN(Tensor t, Tensor::allocate(like.dtype(), like.shape()));
  return visit_float<Tensor>(t, [&](auto type) -> Result<Tensor> {
    using T = decltype(type);
    if constexpr (std::is_same_v<Compute<T>, C>)
      for (size_t i = 0; i < values.size(); ++i) t.mutable_data<T>()[i] = store<T>(values[i]);
    return t;
  });
}

template <class C>
struct Moments {
  C mean, variance;
};
template <class C, class Value>
Moments<C> moments(int64_t n, Value value) {
  const C count = static_cast<C>(n), mean = ordered_sum<C>(n, value) / count;
  return {mean, ordered_sum_of_squares<C>(n, [&](int64_t i) { return value(i) - mean; }) / count};
}

// x as [batch, channels, pixels].
struct Planes {
  int64_t batch = 0, channels = 0, pixels = 0;
};
Result<Planes> planes_of(const Tensor& x) {
  if (x.rank() < 2) return bad_input("wants [N, C, ...], not " + x.describe());
  return Planes{x.dim(0), x.dim(1), x.shape().elements(2, x.rank())};
}

// BatchNormalization(x, scale, bias, mean, var; epsilon, momentum, training_mode). In training the
// batch's own statistics are used, and the running ones become running * momentum + own * (1 -
// momentum).
Result<Tensors> batch_normalization(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-5f));
  VB_ASSIGN(const float momentum, node.attributes.get<float>("momentum", 0.9f));
  VB_ASSIGN(const int64_t training, node.attributes.get<int64_t>("training_mode", 0));
  if (training == 0 && node.outputs.size() > 1)
    return bad_input("running statistics are outputs of training mode only");
  Planes p;
  if (x.rank() == 1)
    p = {x.dim(0), 1, 1};
  else {
    VB_ASSIGN(p, planes_of(x));
  }
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    VB_ASSIGN(const std::vector<C> scale, read_parameters<C>(inputs[1], p.channels, "scale"));
    VB_ASSIGN(const std::vector<C> bias, read_parameters<C>(inputs[2], p.channels, "bias"));
    VB_ASSIGN(std::vector<C> mean, read_parameters<C>(inputs[3], p.channels, "mean"));
    VB_ASSIGN(std::vector<C> variance, read_parameters<C>(inputs[4], p.channels, "var"));
    const T* px = x.data<T>().data();
    Tensors outputs = {y};
    if (y.elements() > 0)
      for (int64_t c = 0; c < p.channels; ++c) {
        const auto at = [&](int64_t i) {
          return (i / p.pixels * p.channels + c) * p.pixels + i % p.pixels;
        };
        Moments<C> m{mean[c], variance[c]};
        if (training != 0) {
          m = moments<C>(p.batch * p.pixels, [&](int64_t i) { return load(px[at(i)]); });
          mean[c] = mean[c] * C{momentum} + m.mean * (C{1} - C{momentum});
          variance[c] = variance[c] * C{momentum} + m.variance * (C{1} - C{momentum});
        }
        const C inverse = rsqrt_of(m.variance + C{epsilon});
        for (int64_t i = 0; i < p.batch * p.pixels; ++i)
          y.mutable_data<T>()[at(i)] =
              store<T>((load(px[at(i)]) - m.mean) * inverse * scale[c] + bias[c]);
      }
    if (training != 0) {
      VB_ASSIGN(const Tensor running_mean, parameters_like<C>(inputs[3], mean));
      VB_ASSIGN(const Tensor running_variance, parameters_like<C>(inputs[4], variance));
      outputs.push_back(running_mean);
      outputs.push_back(running_variance);
    }
    return outputs;
  });
}

// The channels of each batch entry in `groups` groups, each normalised by itself. Parameters are
// for channels or for groups.
Result<Tensors> normalize_groups(const Node& node, std::span<const Tensor> inputs, int64_t groups) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-5f));
  VB_ASSIGN(const Planes p, planes_of(x));
  if (groups < 1 || p.channels % groups != 0)
    return bad_input(std::to_string(groups) + " groups of " + x.describe());
  const int64_t group_channels = p.channels / groups, size = group_channels * p.pixels;
  const bool per_group = inputs[1].elements() == groups && inputs[1].elements() != p.channels;
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  if (y.elements() == 0) return Tensors{y};
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    VB_ASSIGN(const std::vector<C> scale,
              read_parameters<C>(inputs[1], per_group ? groups : p.channels, "scale"));
    VB_ASSIGN(const std::vector<C> bias,
              read_parameters<C>(inputs[2], per_group ? groups : p.channels, "bias"));
    for (int64_t g = 0; g < p.batch * groups; ++g) {
      const T* in = x.data<T>().data() + g * size;
      const Moments<C> m = moments<C>(size, [&](int64_t i) { return load(in[i]); });
      const C inverse = rsqrt_of(m.variance + C{epsilon});
      for (int64_t i = 0; i < size; ++i) {
        const int64_t c = per_group ? g % groups : g % groups * group_channels + i / p.pixels;
        y.mutable_data<T>()[g * size + i] =
            store<T>((load(in[i]) - m.mean) * inverse * scale[c] + bias[c]);
      }
    }
    return Tensors{y};
  });
}

Result<Tensors> instance_normalization(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const Planes p, planes_of(inputs[0]));
  return normalize_groups(node, inputs, p.channels);
}
// GroupNormalization(x, scale, bias; num_groups): parameters for each channel, or, before operator
// set 21, for each group.
Result<Tensors> group_normalization(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t groups, node.attributes.require<int64_t>("num_groups"));
  return normalize_groups(node, inputs, groups);
}

// LpNormalization(x; axis, p): x / norm, 0 where the norm is 0; norm = sum(|x|) or sqrt(sumsq(x)).
Result<Tensors> lp_normalization(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", -1));
  VB_ASSIGN(const int64_t p, node.attributes.get<int64_t>("p", 2));
  VB_ASSIGN(const int axis, x.shape().axis(a));
  if (p != 1 && p != 2) return bad_input("p = " + std::to_string(p));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  if (y.elements() == 0) return Tensors{y};
  const int64_t size = x.dim(axis), stride = x.shape().elements(axis + 1, x.rank());
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    for (int64_t line = 0; line < x.elements() / size; ++line) {
      const T* in = x.data<T>().data() + line / stride * stride * size + line % stride;
      T* out = y.mutable_data<T>().data() + (in - x.data<T>().data());
      const auto value = [&](int64_t i) { return load(in[i * stride]); };
      const C norm = p == 2
                         ? sqrt_of(ordered_sum_of_squares<C>(size, value))
                         : ordered_sum<C>(size, [&](int64_t i) { return absolute_of(value(i)); });
      for (int64_t i = 0; i < size; ++i)
        out[i * stride] = store<T>(norm == 0 ? C{0} : value(i) / norm);
    }
    return Tensors{y};
  });
}

// LRN(x; size, alpha, beta, bias): x / pow(bias + (alpha / size) * sumsq, beta), the sum over the
// channels from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2).
Result<Tensors> local_response_normalization(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int64_t size, node.attributes.require<int64_t>("size"));
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1e-4f));
  VB_ASSIGN(const float beta, node.attributes.get<float>("beta", 0.75f));
  VB_ASSIGN(const float bias, node.attributes.get<float>("bias", 1.0f));
  VB_ASSIGN(const Planes p, planes_of(x));
  if (size < 1 || size > 1 << 20) return bad_input("size = " + std::to_string(size));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    for (int64_t i = 0; i < x.elements(); ++i) {
      const int64_t c = i / p.pixels % p.channels, from = std::max<int64_t>(0, c - (size - 1) / 2),
                    to = std::min(p.channels, c + size / 2 + 1);
      const T* in = x.data<T>().data() + i - c * p.pixels;
      const C squares = ordered_sum_of_squares<C>(
          to - from, [&](int64_t k) { return load(in[(from + k) * p.pixels]); });
      const C base = C{bias} + C{alpha} / static_cast<C>(size) * squares;
      y.mutable_data<T>()[i] = store<T>(load(x.data<T>()[i]) / pow_of(base, C{beta}));
    }
    return Tensors{y};
  });
}

// A window of channels for each output, and a division and a power.
uint64_t lrn_cost(const Node& node, std::span<const Tensor> inputs,
                  std::span<const Tensor> outputs) {
  const Result<int64_t> size = node.attributes.get<int64_t>("size", 1);
  const int64_t channels = inputs[0].rank() > 1 ? std::max<int64_t>(1, inputs[0].dim(1)) : 1;
  const int64_t window = std::clamp<int64_t>(size.ok() ? *size : 1, 1, channels);
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()),
                             static_cast<uint64_t>(2 * window + 2));
}

constexpr OpDef kOps[] = {
    {"", "BatchNormalization", 5, 5, 3, batch_normalization},
    {"", "InstanceNormalization", 3, 3, 1, instance_normalization},
    {"", "GroupNormalization", 3, 3, 1, group_normalization},
    {"", "LpNormalization", 1, 1, 1, lp_normalization},
    {"", "LRN", 1, 1, 1, local_response_normalization, lrn_cost},
};

}  // namespace

std::span<const OpDef> statistics_ops() { return kOps; }

}  // namespace verbatim
