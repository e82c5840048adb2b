#include <verbatim/cli/eval_tensors.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>

#include <verbatim/core/parallel.h>
#include <verbatim/core/philox.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/layers.h>
#include <verbatim/repops/ops/grouped.h>
#include <verbatim/repops/unary.h>

namespace verbatim::cli {
namespace {

// --- inputs

struct Product {
  Tensor x, w;  // float32 [M, K], [N, K]
};
struct Heads {
  Tensor q, k, v;  // float32 [B, T, heads * size]
  Tensor lengths;  // int64 [B] or undefined
  int64_t heads = 1;
  float scale = 1;
};

// Normally distributed numbers by the library's own functions (Box and Muller), so that the tables
// are the same on every machine.
Result<Tensor> gaussian(const Shape& shape, uint64_t stream) {
  VB_ASSIGN(Tensor t, Tensor::allocate(DType::f32, shape));
  float* y = t.mutable_data<float>().data();
  constexpr double kTwoPi = 0x1.921fb54442d18p2;
  for (int64_t i = 0; i < t.elements(); ++i) {
    const uint64_t r = philox_u64(1, static_cast<uint64_t>(i), stream);
    const double u = (static_cast<double>(r >> 32) + 1) * 0x1p-32,
                 angle = static_cast<double>(r & 0xFFFFFFFF) * 0x1p-32 * kTwoPi;
    y[i] = static_cast<float>(std::sqrt(-2 * log_f64(u)) * cos_f64(angle));
  }
  return t;
}

// Every `step`-th channel of the last dimension is greater by `factor`, as activations of large
// models have them.
void add_outliers(Tensor& t, int64_t step, float factor) {
  const int64_t width = t.dim(t.rank() - 1);
  for (int64_t i = 0; i < t.elements(); ++i)
    if (i % width % step == step / 2) t.mutable_data<float>()[static_cast<size_t>(i)] *= factor;
}

constexpr int64_t kRecordedRows = 16;  // of each recorded activation

Result<Tensor> first_rows(const Tensor& x) {
  const int64_t k = x.dim(x.rank() - 1), rows = std::min(kRecordedRows, x.elements() / k);
  return Tensor::from<float>(Shape{rows, k}, x.data<float>().first(static_cast<size_t>(rows * k)));
}

// Keeps what the linear layers and attention of a run in binary32 get.
class Recorder final : public TraceSink {
 public:
  explicit Recorder(const Graph& graph) : graph_(graph) {}
  Status on_node(uint64_t, int32_t index, std::span<const Tensor> node_inputs,
                 std::span<const Tensor>) override {
    const Node& node = graph_.nodes[static_cast<size_t>(index)];
    if (node.domain != kVerbatimDomain || (node.op != "Linear" && node.op != "Attention"))
      return {};
    Tensors inputs;
    for (const Tensor& t : node_inputs) {
      VB_ASSIGN(Tensor here, t.on_host());
      inputs.push_back(std::move(here));
    }
    if (node.op == "Linear") {
      VB_ASSIGN(const Tensor x, first_rows(inputs[0]));
      products.push_back({x, inputs[1]});
    }
    if (node.op == "Attention") {
      VB_ASSIGN(const int64_t heads, node.attributes.require<int64_t>("heads"));
      VB_ASSIGN(const float scale, node.attributes.require<float>("scale"));
      attention.push_back(
          {inputs[0], inputs[1], inputs[2], input_or_none(inputs, 3), heads, scale});
    }
    return {};
  }
  Status on_step_end(uint64_t, std::span<const Tensor>, std::span<const Tensor>) override {
    return {};
  }

  std::vector<Product> products;
  std::vector<Heads> attention;

 private:
  const Graph& graph_;
};

struct DataSet {
  std::string name;
  std::vector<Product> products;
  std::vector<Heads> attention;
};

Result<DataSet> generated(const std::string& name, bool outliers) {
  constexpr int64_t kRows = 32, kColumns = 64, kK = 4096, kTokens = 512, kHeads = 2, kSize = 64;
  Product p;
  VB_ASSIGN(p.x, gaussian({kRows, kK}, 1));
  VB_ASSIGN(p.w, gaussian({kColumns, kK}, 2));
  Heads h;
  h.heads = kHeads;
  h.scale = 0.125f;
  for (Tensor* t : {&h.q, &h.k, &h.v}) {
    VB_ASSIGN(*t, gaussian({1, kTokens, kHeads * kSize}, t == &h.q ? 3 : t == &h.k ? 4 : 5));
  }
  if (outliers) {
    add_outliers(p.x, 512, 1000.0f);
    add_outliers(h.k, 16, 8.0f);
    add_outliers(h.v, 16, 8.0f);
  }
  return DataSet{name, {p}, {h}};
}

Result<DataSet> recorded(const Context& context, const std::string& path, const std::string& text) {
  VB_ASSIGN(const auto model, Model::load(path));
  if (model->kind() != ModelKind::bert)
    return usage_error(model->name() + ": tensors are recorded from sentence embeddings");
  VB_ASSIGN(const Program program, model->embedding_program(Precision{}));
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size() && lines.size() < 2;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (lines.empty()) return usage_error("the text has no lines");
  VB_ASSIGN(const Tensors inputs, model->embedding_inputs(lines));
  VB_ASSIGN(const auto backend, context.make_backend());
  VB_ASSIGN(const Executor executor, Executor::create(program.graph, *backend));
  Recorder recorder(program.graph);
  RunOptions options;
  options.sink = &recorder;
  VB_ASSIGN(const Tensors out, executor.run_step(0, inputs, options));
  return DataSet{model->name(), recorder.products, recorder.attention};
}

// --- what is measured: graphs that take x, or q, k and v

Result<Graph> precision_product(const std::string& name, const Tensor& w) {
  VB_ASSIGN(const Precision precision, parse_precision(name));
  const TensorMap tensors = {{"w.weight", w}};
  LayerBuilder b(tensors, precision);
  const ValueId x = b.graph.input("x", DType::f32, {-1, w.dim(1)});
  b.graph.output("y", b.linear(x, "w", w.dim(1), w.dim(0), false));
  return b.finish();
}

struct NamedFormat {
  const char* name;
  GroupFormat format;
};
constexpr NamedFormat kFormats[] = {{"mxint8", kMxInt8},
                                    {"nvint4", kNvInt4},
                                    {"nvint4-rotated", kNvInt4Rotated},
                                    {"bfp4-32", {4, 32, DType::f8e8m0, 1}},
                                    {"bfp4-64", {4, 64, DType::f8e8m0, 1}}};

Attributes attributes_of(const GroupFormat& f) {
  return {{"bits", int64_t{f.bits}},
          {"group", f.group},
          {"scale_type", static_cast<int64_t>(f.scale)},
          {"rotation", f.rotation}};
}

Result<Graph> format_product(const GroupFormat& f, const Tensor& w) {
  const bool rows = f.scale == DType::f8e4m3;
  VB_ASSIGN(const GroupedTensor q, quantize_groups(w, f, true));
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {-1, w.dim(1)}),
                xq = b.add("QuantizeGroups", kVerbatimDomain, {x}, attributes_of(f), "",
                           rows ? 3 : 2);
  std::vector<ValueId> inputs = {xq, xq + 1, b.constant("codes", q.codes),
                                 b.constant("scales", q.scales)};
  if (rows) {
    inputs.push_back(xq + 2);
    inputs.push_back(b.constant("row_scales", q.row_scales));
  }
  const int64_t exponent = -std::countr_zero(static_cast<uint64_t>(f.rotation));
  b.output("y", b.add("GroupedLinear", kVerbatimDomain, inputs,
                      {{"group", f.group}, {"exponent", exponent}}));
  return b.finish();
}

struct HeadValues {
  ValueId q, k, v;
  std::vector<ValueId> lengths;  // none or one
};
using BuildAttention = ValueId (*)(GraphBuilder& b, const HeadValues& h, Attributes a);

std::vector<ValueId> with_lengths(std::vector<ValueId> inputs, const HeadValues& h) {
  inputs.insert(inputs.end(), h.lengths.begin(), h.lengths.end());
  return inputs;
}
ValueId ordered_attention(GraphBuilder& b, const HeadValues& h, Attributes a) {
  return b.add("Attention", kVerbatimDomain, with_lengths({h.q, h.k, h.v}, h), std::move(a));
}
ValueId bf16_attention(GraphBuilder& b, const HeadValues& h, Attributes a) {
  const auto cast = [&](ValueId x) {
    return b.add("Cast", "", {x}, {{"to", static_cast<int64_t>(DType::bf16)}});
  };
  a.set("output", static_cast<int64_t>(DType::f32));
  return b.add("AttentionTensorCore", kVerbatimDomain,
               with_lengths({cast(h.q), cast(h.k), cast(h.v)}, h), std::move(a));
}
// Keys and values in int8 codes for each token and head, as a cache holds them.
template <int64_t kSlices>
ValueId int8_cache(GraphBuilder& b, const HeadValues& h, Attributes a) {
  const Attributes heads = {{"heads", *a.require<int64_t>("heads")}};
  const ValueId k = b.add("QuantizeKeys", kVerbatimDomain, {h.k}, heads, "", 2),
                v = b.add("QuantizeValues", kVerbatimDomain, {h.v}, heads, "", 2);
  a.set("weight_slices", kSlices);
  return b.add("AttentionInt8Cached", kVerbatimDomain, with_lengths({h.q, k, v, k + 1, v + 1}, h),
               std::move(a));
}
// Keys and values in block floating point; their channels as they are.
template <int kBits, int64_t kGroup>
ValueId block_cache(GraphBuilder& b, const HeadValues& h, Attributes a) {
  const GroupFormat f = {kBits, kGroup, DType::f8e8m0, 1};
  const auto stored = [&](ValueId x) {
    const ValueId q = b.add("QuantizeGroups", kVerbatimDomain, {x}, attributes_of(f), "", 2);
    return b.add("DequantizeGroups", kVerbatimDomain, {q, q + 1}, {{"group", kGroup}});
  };
  return b.add("Attention", kVerbatimDomain, with_lengths({h.q, stored(h.k), stored(h.v)}, h),
               std::move(a));
}
// The same with channels in falling order of the keys' own norms over the tokens: what the order of
// W_k's rows does at load, here from the tensors. The values' channels stay.
template <int kBits, int64_t kGroup>
ValueId ordered_block_cache(GraphBuilder& b, const HeadValues& h, Attributes a) {
  const int64_t heads = *a.require<int64_t>("heads");
  const int64_t zero = 0;
  const ValueId first = b.constant("zero", *Tensor::scalar(zero));
  const ValueId rows =
      b.add("Transpose", "", {b.add("Gather", "", {h.k, first}, {{"axis", int64_t{0}}})});
  const ValueId order = b.add("ChannelOrder", kVerbatimDomain, {rows}, {{"heads", heads}});
  HeadValues permuted = h;
  for (ValueId* x : {&permuted.q, &permuted.k})
    *x = b.add("Gather", "", {*x, order}, {{"axis", int64_t{2}}});
  return block_cache<kBits, kGroup>(b, permuted, std::move(a));
}

struct NamedAttention {
  const char* name;
  BuildAttention build;
};
constexpr NamedAttention kAttention[] = {
    {"fp32", ordered_attention},           {"bf16", bf16_attention},
    {"int8 cache", int8_cache<1>},         {"int8 cache, 2 slices", int8_cache<2>},
    {"bfp8-32 cache", block_cache<8, 32>}, {"bfp4-32 cache", block_cache<4, 32>},
    {"bfp4-64 cache", block_cache<4, 64>}, {"bfp4-32 cache, ordered", ordered_block_cache<4, 32>}};

// --- errors

// Errors of elements, each relative to a size of its own.
struct Errors {
  double sum = 0, greatest = 0;
  int64_t count = 0;
  void add(double error, double size) {
    if (size == 0) return;
    const double relative = std::abs(error) / size;
    sum += relative;
    if (!(relative <= greatest)) greatest = relative;  // NaN too
    ++count;
  }
  double mean() const { return sum / static_cast<double>(std::max<int64_t>(1, count)); }
};

Status measure_product(const Product& p, const Graph& graph, Backend& backend, Errors& errors) {
  VB_ASSIGN(const Executor executor, Executor::create(graph, backend));
  const Tensor inputs[] = {p.x};
  VB_ASSIGN(const Tensors out, executor.run_step(0, inputs));
  const int64_t n_size = p.w.dim(0), k_size = p.w.dim(1);
  const float *x = p.x.data<float>().data(), *w = p.w.data<float>().data();
  std::vector<double> exact(static_cast<size_t>(out[0].elements())), size(exact.size());
  parallel_for(out[0].elements(), 64, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const float *a = x + i / n_size * k_size, *b = w + i % n_size * k_size;
      double sum = 0, magnitudes = 0;
      for (int64_t k = 0; k < k_size; ++k) {
        const double product = double{a[k]} * b[k];  // exact
        sum += product;
        magnitudes += std::abs(product);
      }
      exact[static_cast<size_t>(i)] = sum;
      size[static_cast<size_t>(i)] = magnitudes;
    }
  });
  for (size_t i = 0; i < exact.size(); ++i) errors.add(out[0].data<float>()[i] - exact[i], size[i]);
  return {};
}

// Attention in binary64: one query of one head, into out.
void exact_attention(const Heads& h, int64_t b, int64_t t, int64_t head, std::span<double> out) {
  const int64_t tokens = h.k.dim(1), width = h.q.dim(2), size = width / h.heads,
                length = h.lengths.defined() ? h.lengths.data<int64_t>()[static_cast<size_t>(b)]
                                             : tokens;
  const auto row = [&](const Tensor& x, int64_t i) {
    return x.data<float>().data() + (b * tokens + i) * width + head * size;
  };
  std::vector<double> p(static_cast<size_t>(length));
  double greatest = -HUGE_VAL, total = 0;
  for (int64_t i = 0; i < length; ++i) {
    double s = 0;
    for (int64_t j = 0; j < size; ++j) s += double{row(h.q, t)[j]} * row(h.k, i)[j];
    p[static_cast<size_t>(i)] = s * h.scale;
    greatest = std::max(greatest, s * h.scale);
  }
  for (double& v : p) total += v = exp_f64(v - greatest);
  std::ranges::fill(out, 0.0);
  for (int64_t i = 0; i < length; ++i)
    for (int64_t j = 0; j < size; ++j)
      out[static_cast<size_t>(j)] += p[static_cast<size_t>(i)] / total * row(h.v, i)[j];
}

// The sum of |error| and of |exact| over all outputs of real tokens.
Status measure_attention(const Heads& h, BuildAttention build, Backend& backend, double& error,
                         double& magnitude) {
  GraphBuilder b;
  const auto input = [&](const char* name, const Tensor& t) {
    return b.input(name, t.dtype(), {t.shape().dims().begin(), t.shape().dims().end()});
  };
  HeadValues values{input("q", h.q), input("k", h.k), input("v", h.v), {}};
  Tensors inputs = {h.q, h.k, h.v};
  if (h.lengths.defined()) {
    values.lengths.push_back(input("lengths", h.lengths));
    inputs.push_back(h.lengths);
  }
  b.output("y", build(b, values, {{"heads", h.heads}, {"scale", h.scale}}));
  VB_ASSIGN(const Graph graph, b.finish());
  VB_ASSIGN(const Executor executor, Executor::create(graph, backend));
  VB_ASSIGN(const Tensors out, executor.run_step(0, inputs));
  const int64_t tokens = h.q.dim(1), size = h.q.dim(2) / h.heads;
  std::vector<double> exact(static_cast<size_t>(size));
  for (int64_t i = 0; i < h.q.dim(0) * tokens * h.heads; ++i) {
    const int64_t batch = i / (tokens * h.heads), t = i / h.heads % tokens;
    if (h.lengths.defined() && t >= h.lengths.data<int64_t>()[static_cast<size_t>(batch)]) continue;
    exact_attention(h, batch, t, i % h.heads, exact);
    for (int64_t j = 0; j < size; ++j) {
      const double want = exact[static_cast<size_t>(j)];
      error += std::abs(out[0].data<float>()[static_cast<size_t>(i * size + j)] - want);
      magnitude += std::abs(want);
    }
  }
  return {};
}

// --- tables

std::string cell(const char* format, double a, double b = 0) {
  char text[64];
  std::snprintf(text, sizeof text, format, a, b);
  return text;
}
std::string padded(std::string text, size_t width) {
  text.resize(std::max(text.size(), width), ' ');
  return text;
}

constexpr const char* kPrecisions[] = {"fp32", "bf16", "fp16", "fp8",  "s1x1", "s2x1", "s2x2",
                                       "s3x3", "s4x4", "w8a8", "w4a8", "w3a8", "w2a8", "w1a8"};
constexpr size_t kNameWidth = 24, kCellWidth = 24;

using GraphOf = std::function<Result<Graph>(const Tensor& w)>;

// One line of the table of products: a precision or format on every data set.
Status product_row(const std::string& name, const GraphOf& graph_of,
                   const std::vector<DataSet>& sets, Backend& backend, Json& json,
                   std::string& table) {
  Progress progress("products");
  table += padded(name, kNameWidth);
  for (const DataSet& set : sets) {
    progress.update(name + ", " + set.name);
    Errors errors;
    for (const Product& p : set.products) {
      VB_ASSIGN(const Graph graph, graph_of(p.w));
      VB_TRY(measure_product(p, graph, backend, errors));
    }
    json["products"][set.name][name] = {{"mean", errors.mean()}, {"max", errors.greatest}};
    table += padded(cell("%.2e  %.2e", errors.mean(), errors.greatest), kCellWidth);
  }
  table += "\n";
  return {};
}

Status attention_row(const NamedAttention& named, const std::vector<DataSet>& sets,
                     Backend& backend, Json& json, std::string& table) {
  table += padded(named.name, kNameWidth);
  for (const DataSet& set : sets) {
    double error = 0, magnitude = 0;
    for (const Heads& h : set.attention)
      VB_TRY(measure_attention(h, named.build, backend, error, magnitude));
    json["attention"][set.name][named.name] = error / magnitude;
    table += padded(cell("%.2e", error / magnitude), kCellWidth);
  }
  table += "\n";
  return {};
}

std::string header(const std::string& title, const std::vector<DataSet>& sets) {
  std::string line = padded(title, kNameWidth);
  for (const DataSet& set : sets) line += padded(set.name, kCellWidth);
  return line + "\n";
}

}  // namespace

Result<int> evaluate_tensors(const Context& context, const std::string& model,
                             const std::string& text) {
  std::vector<DataSet> sets;
  VB_ASSIGN(DataSet plain, generated("gaussian", false));
  VB_ASSIGN(DataSet outliers, generated("outlier channels", true));
  sets.push_back(std::move(plain));
  sets.push_back(std::move(outliers));
  if (!model.empty()) {
    VB_ASSIGN(DataSet set, recorded(context, model, text));
    sets.push_back(std::move(set));
  }
  VB_ASSIGN(const auto backend, context.make_backend());
  Json json = Json::object();
  std::string table = "Products: error / |A||B|, mean and greatest\n" + header("", sets);
  for (const char* name : kPrecisions)
    VB_TRY(product_row(
        name, [&](const Tensor& w) { return precision_product(name, w); }, sets, *backend, json,
        table));
  for (const NamedFormat& f : kFormats)
    VB_TRY(product_row(
        f.name, [&](const Tensor& w) { return format_product(f.format, w); }, sets, *backend, json,
        table));
  table += "\nAttention: sum of |error| / sum of |output|\n" + header("", sets);
  for (const NamedAttention& named : kAttention)
    VB_TRY(attention_row(named, sets, *backend, json, table));
  print_result(context, json, table);
  return kDone;
}

}  // namespace verbatim::cli
