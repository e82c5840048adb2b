// libFuzzer target for operators: the bytes, and after them a generator that they seed, choose a
// node over all operators with attributes and small operands. Its reference gives outputs or an
// error within limits of memory and time, and the best backend of this machine gives the same bits.
#include <verbatim/core/fp_guard.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/ops/control_flow.h>
#include <verbatim/repops/semantics.h>
#include <verbatim/verify/limits.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

using namespace verbatim;

class Choices {
 public:
  explicit Choices(std::span<const uint8_t> bytes) : bytes_(bytes) {
    for (const uint8_t b : bytes) state_ = (state_ ^ b) * 0x100000001B3u;
  }
  uint8_t byte() {
    if (at_ < bytes_.size()) return bytes_[at_++];
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint8_t>(state_ >> 32);
  }
  size_t below(size_t n) { return (byte() | size_t{byte()} << 8) % n; }
  bool one_in(size_t n) { return below(n) == 0; }
  template <class T, size_t N>
  const T& of(const T (&list)[N]) {
    return list[below(N)];
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
  uint64_t state_ = 0xCBF29CE484222325u;
};

constexpr int64_t kIntegers[] = {
    INT64_MIN,        INT64_MAX,       -1, -2, 1 << 20, (1 << 24) + 1, int64_t{1} << 31,
    int64_t{1} << 40, int64_t{1} << 62};
constexpr uint32_t kFloats[] = {0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000,
                                0xFF800000, 0x7FC00001, 0x00000001, 0x7F7FFFFF, 0x00800000,
                                0x4F000000, 0x5F000000, 0x3F000000, 0xC2FF0000};

int64_t integer(Choices& c) {
  return c.one_in(4) ? c.of(kIntegers) : static_cast<int64_t>(c.below(6));
}
float real(Choices& c) {
  if (c.one_in(4)) return float_of(c.of(kFloats));
  return (static_cast<float>(c.below(512)) - 256.0f) / 16.0f;
}

void fill(Choices& c, Tensor& t) {
  if (t.dtype() == DType::f32) {
    for (float& v : t.mutable_data<float>()) v = real(c);
  } else if (t.dtype() == DType::i64) {
    for (int64_t& v : t.mutable_data<int64_t>()) v = integer(c);
  } else if (t.dtype() == DType::i32) {
    for (int32_t& v : t.mutable_data<int32_t>()) v = static_cast<int32_t>(integer(c));
  } else {
    const unsigned codes =
        t.dtype() == DType::boolean ? 2 : 1u << std::min(bit_width(t.dtype()), 8);
    const unsigned range = c.one_in(2) ? codes : std::min(codes, 3u);
    for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>(c.byte() % range);
  }
}

constexpr DType kTypes[] = {
    DType::f32,     DType::f32,        DType::f32,   DType::i64,  DType::i64, DType::i32,
    DType::u8,      DType::i8,         DType::f16,   DType::bf16, DType::f64, DType::u64,
    DType::boolean, DType::u32,        DType::i16,   DType::u16,  DType::i4,  DType::u2,
    DType::f4e2m1,  DType::f8e4m3fnuz, DType::f8e8m0};

Tensor tensor(Choices& c, DType dtype, int rank) {
  std::vector<int64_t> dims;
  for (int i = 0; i < rank; ++i)
    dims.push_back(static_cast<int64_t>(c.one_in(12) ? 0 : 1 + c.below(c.one_in(8) ? 40 : 4)));
  Tensor t = *Tensor::allocate(dtype, *Shape::of(dims));
  fill(c, t);
  return t;
}

// An operand: like the first, integers such as an axis or a shape, any, or none.
Tensor operand(Choices& c, const Tensor& first, bool required) {
  switch (c.below(required ? 7 : 8)) {
    case 0:
      return first;
    case 1: {
      Tensor t = *Tensor::allocate(first.dtype(), first.shape());
      fill(c, t);
      return t;
    }
    case 2:
      return tensor(c, first.dtype(), static_cast<int>(c.below(5)));
    case 3:
      return tensor(c, first.dtype(), first.rank());
    case 4:
    case 5:
      return tensor(c, c.one_in(8) ? DType::i32 : DType::i64, static_cast<int>(c.below(2)));
    case 6:
      return tensor(c, c.of(kTypes), static_cast<int>(c.below(5)));
    default:
      return {};
  }
}

constexpr const char* kIntegerNames[] = {"align_corners",
                                         "center_point_box",
                                         "inverse",
                                         "is_causal",
                                         "kv_num_heads",
                                         "layout",
                                         "left_window_size",
                                         "linear_before_reset",
                                         "max_skip_count",
                                         "num_heads",
                                         "offset_group",
                                         "onesided",
                                         "output_datatype",
                                         "output_height",
                                         "output_width",
                                         "periodic",
                                         "q_num_heads",
                                         "qk_matmul_output_mode",
                                         "right_window_size",
                                         "rotary_embedding_dim",
                                         "sampling_ratio",
                                         "allowzero",
                                         "antialias",
                                         "axis",
                                         "batch_axis",
                                         "batch_dims",
                                         "block_size",
                                         "blocksize",
                                         "causal",
                                         "ceil_mode",
                                         "count",
                                         "count_include_pad",
                                         "detect_negative",
                                         "detect_positive",
                                         "dtype",
                                         "end",
                                         "exclude_outside",
                                         "exclusive",
                                         "fmod",
                                         "group",
                                         "bits",
                                         "exponent",
                                         "fraction",
                                         "pairs",
                                         "repeat",
                                         "rotation",
                                         "scale_type",
                                         "weight_slices",
                                         "whole",
                                         "heads",
                                         "ignore_index",
                                         "interleaved",
                                         "k",
                                         "keepdims",
                                         "kv_heads",
                                         "largest",
                                         "noop_with_empty_axes",
                                         "num_groups",
                                         "num_outputs",
                                         "output_dtype",
                                         "p",
                                         "reverse",
                                         "seed",
                                         "select_last_index",
                                         "size",
                                         "sorted",
                                         "start",
                                         "storage_order",
                                         "time_axis",
                                         "to",
                                         "top_k",
                                         "training_mode",
                                         "transA",
                                         "transB",
                                         "upper",
                                         "window"};
constexpr const char* kRealNames[] = {
    "alpha",         "beta",     "bias",          "clip",
    "epsilon",       "gamma",    "lambd",         "min_p",
    "spatial_scale", "momentum", "scale",         "softcap",
    "temperature",   "top_p",    "cubic_coeff_a", "extrapolation_value"};
constexpr const char* kListNames[] = {"axes",           "kernel_shape", "perm", "dilations",
                                      "output_padding", "output_shape", "pads", "strides"};
constexpr std::pair<const char*, const char*> kTexts[] = {
    {"approximate", "tanh"},
    {"auto_pad", "SAME_UPPER"},
    {"auto_pad", "SAME_LOWER"},
    {"auto_pad", "VALID"},
    {"direction", "LEFT"},
    {"direction", "RIGHT"},
    {"mode", "constant"},
    {"mode", "reflect"},
    {"mode", "edge"},
    {"mode", "wrap"},
    {"mode", "linear"},
    {"mode", "nearest"},
    {"mode", "cubic"},
    {"mode", "circular"},
    {"mode", "CRD"},
    {"mode", "max"},
    {"mode", "IDF"},
    {"direction", "bidirectional"},
    {"direction", "reverse"},
    {"padding_mode", "border"},
    {"padding_mode", "reflection"},
    {"activation", "silu"},
    {"update_rule", "linear"},
    {"update_rule", "gated"},
    {"coordinate_transformation_mode", "output_half_pixel"},
    {"reduction", "none"},
    {"reduction", "add"},
    {"reduction", "mul"},
    {"reduction", "max"},
    {"reduction", "sum"},
    {"equation", "ij,jk->ik"},
    {"equation", "ii->i"},
    {"equation", "...ij,...jk->...ik"},
    {"equation", "i,j->ij"},
    {"equation", "ij->"},
    {"keep_aspect_ratio_policy", "not_larger"},
    {"keep_aspect_ratio_policy", "not_smaller"},
    {"coordinate_transformation_mode", "align_corners"},
    {"coordinate_transformation_mode", "tf_crop_and_resize"},
    {"coordinate_transformation_mode", "half_pixel_symmetric"},
    {"nearest_mode", "ceil"}};

std::vector<int64_t> list(Choices& c, size_t size) {
  std::vector<int64_t> values(size);
  for (int64_t& v : values) v = integer(c);
  return values;
}

void set_random_attribute(Choices& c, Attributes& a) {
  switch (c.below(4)) {
    case 0:
      return a.set(c.of(kIntegerNames), integer(c));
    case 1:
      return a.set(c.of(kRealNames), real(c));
    case 2:
      return a.set(c.of(kListNames), list(c, c.below(6)));
    default:
      const auto& [name, value] = c.of(kTexts);
      return a.set(name, std::string(value));
  }
}

// What operators cannot do without, most of the time.
void set_required_attributes(Choices& c, const OpDef& op, const Tensor& first, Attributes& a) {
  const std::string_view name = op.name;
  const auto small = [&] { return static_cast<int64_t>(1 + c.below(3)); };
  if (name.ends_with("Pool") || name == "MaxUnpool") {
    std::vector<int64_t> kernel(static_cast<size_t>(std::max(0, first.rank() - 2)));
    for (int64_t& k : kernel) k = small();
    a.set("kernel_shape", kernel);
  }
  if (name == "Cast" || name == "BitCast") a.set("to", static_cast<int64_t>(c.of(kTypes)));
  if (name == "Attention" || name == "RotaryEmbedding" || name == "AttentionGrad") {
    a.set("heads", small());
    a.set("kv_heads", int64_t{1});
    a.set("scale", real(c));
  }
  if (name == "Slices") a.set("count", small());
  if (name == "Concat") a.set("axis", static_cast<int64_t>(c.below(3)));
  if (name == "DepthToSpace" || name == "SpaceToDepth") a.set("blocksize", small());
  if (name == "GroupNormalization") a.set("num_groups", small());
  if (name == "LRN") a.set("size", small());
  if (name == "Sample") a.set("temperature", 0.5f);
  if (name == "BitShift") a.set("direction", std::string("LEFT"));
  if (name == "Mod") a.set("fmod", int64_t{1});
  if (name == "Einsum") {
    constexpr const char* kEquations[] = {"ij,jk->ik", "ii->i", "ij->", "...i,...i", "i,j->ij"};
    a.set("equation", std::string(c.of(kEquations)));
  }
}

Tensor shaped(Choices& c, DType dtype, std::vector<int64_t> dims) {
  Tensor t = *Tensor::allocate(dtype, *Shape::of(dims));
  fill(c, t);
  return t;
}
Tensor small_integers(Choices& c, std::vector<int64_t> dims, size_t below) {
  Tensor t = *Tensor::allocate(DType::i64, *Shape::of(dims));
  for (int64_t& v : t.mutable_data<int64_t>())
    v = c.one_in(16) ? integer(c) : static_cast<int64_t>(c.below(below));
  return t;
}

// Operands that fit each other, of operators which operands by chance hardly ever do; else nothing.
Tensors fitting_operands(Choices& c, const OpDef& op, Attributes& a) {
  constexpr DType kReal[] = {DType::f32, DType::f32, DType::f16, DType::f64};
  const DType real = c.of(kReal);
  const auto size = [&] { return static_cast<int64_t>(c.one_in(16) ? 0 : 1 + c.below(4)); };
  const auto of = [&](std::vector<int64_t> dims) { return shaped(c, real, std::move(dims)); };
  const auto maybe = [&](Tensor t) { return c.one_in(3) ? Tensor() : t; };
  const int64_t n = size(), m = size(), k = size(), l = size(),
                h = 1 + static_cast<int64_t>(c.below(2));
  const std::string_view name = op.name;
  const auto dims = [&](std::vector<int64_t> d) {
    return *Tensor::from<int64_t>({static_cast<int64_t>(d.size())}, d);
  };
  if (name == "SumTo") return {of({n, m, k}), c.one_in(2) ? dims({m, 1}) : dims({n, 1, k})};
  if (name == "GatherGrad") return {of({n, m, k}), small_integers(c, {n, m}, l + 1), dims({l, k})};
  if (name == "GeluGrad" || name == "SwishGrad" || name == "L2NormalizeGrad")
    return {of({n, m}), of({n, m})};
  if (name == "LayerNormalizationGrad" || name == "RMSNormalizationGrad")
    return {of({n, m, k}), of({n, m, k}), of({c.one_in(4) ? 1 : k})};
  if (name == "MeanPoolGrad") return {of({n, k}), small_integers(c, {n}, m + 1), dims({n, m, k})};
  if (name == "NegativeLogLikelihoodLossGrad")
    return {of({}), dims({n, k}), small_integers(c, {n}, k + 1), maybe(of({k}))};
  if (name == "AttentionGrad") {
    const int64_t heads = 2, kv = 1 + static_cast<int64_t>(c.below(2));
    a.set("heads", heads);
    a.set("kv_heads", kv);
    return {of({n, m, heads * 3}), of({n, m, heads * k}), of({n, l, kv * k}), of({n, l, kv * 3}),
            maybe(small_integers(c, {n}, l + 1))};
  }
  if (name == "SgdUpdate" || name == "AdamWUpdate") {
    const auto single = [&] { return shaped(c, DType::f32, {n, m}); };
    const Tensor rate = shaped(c, DType::f32, {});
    if (name == "SgdUpdate") return {single(), single(), rate, single()};
    return {single(),
            single(),
            single(),
            single(),
            rate,
            shaped(c, DType::f64, {2}),
            shaped(c, DType::f64, {2})};
  }
  if (name == "RNN" || name == "GRU" || name == "LSTM") {
    const int64_t gates = name == "RNN" ? 1 : name == "GRU" ? 3 : 4;
    if (h == 2) a.set("direction", std::string("bidirectional"));
    Tensors t = {of({n, m, k}),
                 of({h, gates * l, k}),
                 of({h, gates * l, l}),
                 maybe(of({h, 2 * gates * l})),
                 maybe(small_integers(c, {m}, n + 1)),
                 maybe(of({h, m, l}))};
    if (name == "LSTM") t.insert(t.end(), {maybe(of({h, m, l})), maybe(of({h, 3 * l}))});
    return t;
  }
  if (op.domain.empty() && name == "Attention") {
    const bool cached = c.one_in(2);
    return {of({n, 2 * h, m, k}),
            of({n, h, l, k}),
            of({n, h, l, 3}),
            maybe(c.one_in(2) ? of({m, l}) : shaped(c, DType::boolean, {n, 1, m, l})),
            cached ? of({n, h, 2, k}) : Tensor(),
            cached ? of({n, h, 2, 3}) : Tensor(),
            cached ? Tensor() : maybe(small_integers(c, {n}, l + 1))};
  }
  if (op.domain.empty() && name == "RotaryEmbedding")
    return {of({n, h, m, 2 * k}), of({5, k}), of({5, k}), small_integers(c, {n, m}, 5)};
  if (name == "GridSample") return {of({n, h, m, k}), of({n, l, 2, 2})};
  if (name == "AffineGrid") return {of({n, 2, 3}), small_integers(c, {4}, 4)};
  if (name == "DeformConv")
    return {of({n, h, m + 1, k + 2}), of({l, h, 2, 3}), of({n, 12, m, k}), maybe(of({l})),
            maybe(of({n, 6, m, k}))};
  if (name == "Col2Im")
    return {
        of({n, 2 * h, m}),
        c.one_in(4) ? small_integers(c, {1}, 6) : *Tensor::from<int64_t>({1}, std::array{m + 1}),
        c.one_in(4) ? small_integers(c, {1}, 3)
                    : *Tensor::from<int64_t>({1}, std::array{int64_t{2}})};
  if (name == "RoiAlign") return {of({n, h, m, k}), of({l, 4}), small_integers(c, {l}, n + 1)};
  if (name == "NonMaxSuppression")
    return {shaped(c, DType::f32, {n, 8, 4}), shaped(c, DType::f32, {n, h, 8}),
            maybe(small_integers(c, {1}, 8)), maybe(shaped(c, DType::f32, {1})),
            maybe(shaped(c, DType::f32, {}))};
  if (name == "Det") return {of({n, m, m})};
  if (name == "DFT")
    return {of({n, m, k, h}), maybe(small_integers(c, {}, 12)), maybe(small_integers(c, {}, 3))};
  if (name == "STFT")
    return {of({n, 12, h}), small_integers(c, {}, 6), maybe(of({k})),
            maybe(small_integers(c, {}, 6))};
  if (name == "LinearAttention") {
    const bool decays = c.one_in(2), corrects = c.one_in(2);
    a.set("q_num_heads", 2 * h);
    a.set("kv_num_heads", h);
    a.set("update_rule", std::string(decays     ? corrects ? "gated_delta" : "gated"
                                     : corrects ? "delta"
                                                : "linear"));
    return {of({n, m, 2 * h * k}),
            of({n, m, h * k}),
            of({n, m, h * l}),
            maybe(of({n, h, k, l})),
            decays ? of({n, m, c.one_in(2) ? h : h * k}) : Tensor(),
            corrects ? of({n, m, c.one_in(2) ? h : 1}) : Tensor()};
  }
  if (name == "CausalConvWithState")
    return {of({n, m, k}), of({m, 1, l + 1}), maybe(of({m})), maybe(of({n, m, l}))};
  if (name.ends_with("Window")) return {small_integers(c, {}, 40)};
  if (name == "MelWeightMatrix")
    return {small_integers(c, {}, 9), small_integers(c, {}, 40), small_integers(c, {}, 9),
            shaped(c, DType::f32, {}), shaped(c, DType::f32, {})};
  if (name == "TfIdfVectorizer") {
    const auto few = [&](size_t count, size_t below) {
      std::vector<int64_t> v(count);
      for (int64_t& x : v) x = c.one_in(32) ? integer(c) : static_cast<int64_t>(c.below(below));
      return v;
    };
    a.set("mode", std::string("TFIDF"));
    a.set("min_gram_length", 1 + static_cast<int64_t>(c.below(2)));
    a.set("max_gram_length", c.one_in(16) ? integer(c) : 1 + static_cast<int64_t>(c.below(3)));
    a.set("max_skip_count", few(1, 4)[0]);
    a.set("ngram_counts", std::vector<int64_t>{0, 2});
    a.set("ngram_indexes", few(8, 9));
    a.set("pool_int64s", few(2 + c.below(6), 4));
    return {small_integers(c, {n, m}, 4)};
  }
  return {};
}

// A body of a few small operators over its inputs. For a Loop its first output is the condition.
Body random_body(Choices& c, size_t inputs, size_t outputs, bool loop) {
  constexpr std::pair<const char*, int> kOps[] = {
      {"Add", 2},      {"Mul", 2},  {"MatMul", 2}, {"Neg", 1},    {"Size", 1}, {"Exp", 1},
      {"Identity", 1}, {"Less", 2}, {"Not", 1},    {"Concat", 2}, {"If", 1},   {"Loop", 3}};
  GraphBuilder b;
  std::vector<ValueId> values;
  for (size_t i = 0; i < inputs; ++i) values.push_back(b.body_input(std::to_string(i)));
  if (values.empty()) return nullptr;
  const auto any = [&] { return values[c.below(values.size())]; };
  for (size_t i = c.below(4); i > 0; --i) {
    const auto& [op, operands] = c.of(kOps);
    std::vector<ValueId> in;
    for (int j = 0; j < operands; ++j) in.push_back(any());
    Attributes a;
    const std::string_view name = op;
    if (name == "Concat") a.set("axis", int64_t{0});
    if (name == "If") {
      in.insert(in.begin(), loop ? values[1] : any());
      a.set("then_branch", random_body(c, 1, 1, false));
      a.set("else_branch", random_body(c, 1, 1, false));
    }
    if (name == "Loop") {
      if (c.one_in(2)) in[0] = kAbsent;
      in[1] = loop ? values[1] : kAbsent;
      a.set("body", random_body(c, 3, 2, true));
    }
    values.push_back(b.add(op, "", in, std::move(a)));
  }
  for (size_t i = 0; i < outputs; ++i)
    b.output(std::to_string(i), loop && i == 0 && !c.one_in(8) ? values[1] : any());
  Result<Body> body = b.finish_body();
  return body.ok() ? *body : nullptr;
}

// Operands and bodies that fit a control-flow node of these outputs, most of the time.
void make_control_flow(Choices& c, Node& node, Tensors& inputs) {
  const bool loop = node.op == "Loop", scan = node.op == "Scan";
  const size_t first = node.op == "If" ? 1 : loop ? 2 : 0;
  inputs.resize(std::max(inputs.size(), first + 1));
  if (loop) inputs[0] = c.one_in(3) ? Tensor() : small_integers(c, {}, 5);
  if (first > 0) inputs[first - 1] = loop && c.one_in(3) ? Tensor() : shaped(c, DType::boolean, {});
  for (size_t i = first; i < inputs.size(); ++i)
    if (!inputs[i].defined() && !c.one_in(8))
      inputs[i] = tensor(c, DType::f32, static_cast<int>(c.below(3)));
  const size_t rest = inputs.size() - first, captures = c.below(rest);
  const size_t sequences = scan ? 1 + c.below(rest - captures) : 0;
  if (loop || scan) node.attributes.set("captures", static_cast<int64_t>(captures));
  if (scan) node.attributes.set("num_scan_inputs", static_cast<int64_t>(sequences));
  const size_t states = rest - captures - sequences;
  if (node.outputs.size() < states) node.outputs.resize(states, 100);
  std::vector<int64_t> types;
  for (size_t i = states; i < node.outputs.size(); ++i) types.insert(types.end(), {1, 1, 2});
  if (!c.one_in(4)) node.attributes.set("scan_types", std::move(types));
  if (first == 1) {
    node.attributes.set("then_branch", random_body(c, rest, node.outputs.size(), false));
    node.attributes.set("else_branch", random_body(c, rest, node.outputs.size(), false));
  } else {
    node.attributes.set("body",
                        random_body(c, inputs.size(), node.outputs.size() + (loop ? 1 : 0), loop));
  }
  node.inputs.clear();
  for (size_t i = 0; i < inputs.size(); ++i)
    node.inputs.push_back(inputs[i].defined() ? static_cast<ValueId>(i) : kAbsent);
}

Node node_of(Choices& c, Tensors& inputs) {
  const OpDef& op = *all_ops()[c.below(all_ops().size())];
  Node node;
  node.domain = op.domain;
  node.op = op.name;
  const int optional = std::min(op.max_inputs - op.min_inputs, 4);
  const int count = op.min_inputs + static_cast<int>(c.below(static_cast<size_t>(optional) + 1));
  const Tensor first = tensor(c, c.of(kTypes), static_cast<int>(c.below(5)));
  for (int i = 0; i < count; ++i) {
    inputs.push_back(i == 0 ? first : operand(c, first, i < op.min_inputs));
    node.inputs.push_back(inputs.back().defined() ? i : kAbsent);
  }
  if (!c.one_in(4)) {
    Tensors fitting = fitting_operands(c, op, node.attributes);
    if (!fitting.empty()) {
      inputs = std::move(fitting);
      node.inputs.clear();
      for (size_t i = 0; i < inputs.size(); ++i)
        node.inputs.push_back(inputs[i].defined() ? static_cast<ValueId>(i) : kAbsent);
    }
  }
  for (size_t i = c.below(4); i > 0; --i) set_random_attribute(c, node.attributes);
  if (!c.one_in(6)) set_required_attributes(c, op, first, node.attributes);
  const auto outputs = 1 + c.below(static_cast<size_t>(std::min(op.max_outputs, 4)));
  for (size_t i = 0; i < outputs; ++i) node.outputs.push_back(static_cast<ValueId>(100 + i));
  if (is_control_flow(op.domain, op.name)) make_control_flow(c, node, inputs);
  return node;
}

[[noreturn]] void fail(const Node& node, std::span<const Tensor> inputs, const char* what) {
  std::fprintf(stderr, "%s: %s\n", node.op.c_str(), what);
  for (const Tensor& t : inputs) std::fprintf(stderr, "  %s\n", t.describe().c_str());
  for (const auto& [name, value] : node.attributes.map())
    std::fprintf(stderr, "  %s (kind %zu)\n", name.c_str(), value.index());
  std::abort();
}

void check_outputs(const Node& node, const Tensors& inputs, const Tensors& outputs) {
  if (outputs.size() < node.outputs.size()) fail(node, inputs, "an output is missing");
  for (const Tensor& t : outputs) {
    if (!t.defined()) fail(node, inputs, "an output is undefined");
    if (t.dtype() == DType::boolean &&
        std::ranges::any_of(t.bytes(), [](std::byte b) { return b > std::byte{1}; }))
      fail(node, inputs, "a bool is neither 0 nor 1");
    if (is_sub_byte(t.dtype()) && std::ranges::any_of(t.bytes(), [&](std::byte b) {
          return std::to_integer<int>(b) >> bit_width(t.dtype()) != 0;
        }))
      fail(node, inputs, "an element has bits that its type lacks");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Backend* const backend = make_backend("auto")->release();
  const FloatGuard guard;
  Choices choices({data, size});
  Tensors inputs;
  const Node node = node_of(choices, inputs);
  constexpr NodeLimits kLimits{1 << 22, 1 << 20, 1 << 22};
  const EffectiveLimits limits{kLimits, kLimits};
  static Backend* const reference = make_reference_backend().release();
  const Result<Tensors> want = run_limited(*reference, limits, node, inputs);
  if (want.ok()) check_outputs(node, inputs, *want);
  if (want.status().code() == StatusCode::internal) fail(node, inputs, "an internal error");
  if (want.status().code() == StatusCode::limit) return 0;
  const bool controls = is_control_flow(node.domain, node.op);
  const Result<Tensors> have =
      controls ? backend->run_bodies(node, inputs, {}) : backend->run(node, inputs);
  if (have.ok() != want.ok()) fail(node, inputs, "backends differ in what they refuse");
  for (size_t i = 0; have.ok() && i < node.outputs.size(); ++i)
    if (!identical((*have)[i], (*want)[i])) fail(node, inputs, "backends differ in bits");
  return 0;
}
