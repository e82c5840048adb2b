#include <verbatim/cli/bench/cases.h>

#include <cmath>
#include <limits>

#include <verbatim/core/parallel.h>
#include <verbatim/core/philox.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::bench {

Result<Tensor> random_tensor(const Shape& shape, uint64_t seed) {
  VB_ASSIGN(Tensor t, Tensor::allocate(DType::f32, shape));
  float* x = t.mutable_data<float>().data();
  parallel_for(t.elements(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      const auto low = static_cast<uint32_t>(i), high = static_cast<uint32_t>(i >> 32);
      for (const uint32_t word : philox4x32({low, high, 0, 0}, {static_cast<uint32_t>(seed), 0}))
        sum += word * 0x1p-32 - 0.5;
      x[i] = static_cast<float>(sum * 1.7320508);
    }
  });
  return t;
}

Result<Tensor> rounded_to(DType type, const Tensor& x) {
  if (type == DType::f32) return x;
  VB_ASSIGN(Tensor y, Tensor::allocate(type, x.shape()));
  const float* from = x.data<float>().data();
  const auto round = [&](auto* to, auto code) {
    parallel_for(x.elements(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i].bits = code(from[i]);
    });
  };
  if (type == DType::f8e4m3) {
    round(y.mutable_data<Float8E4M3>().data(), [](float v) { return e4m3_from_float(v, true); });
  } else if (type == DType::bf16) {
    round(y.mutable_data<BFloat16>().data(), bfloat16_from_float);
  } else {
    round(y.mutable_data<Half>().data(), half_from_float);
  }
  return y;
}

std::vector<float> numbers_of(const Tensor& x) {
  std::vector<float> y(static_cast<size_t>(x.elements()));
  for (size_t i = 0; i < y.size(); ++i) {
    if (x.dtype() == DType::f32) y[i] = x.data<float>()[i];
    if (x.dtype() == DType::bf16) y[i] = float_from_bfloat16(x.data<BFloat16>()[i].bits);
    if (x.dtype() == DType::f16) y[i] = float_from_half(x.data<Half>()[i].bits);
  }
  return y;
}

Result<std::shared_ptr<Operator>> Operator::create(Backend& backend, std::string_view op,
                                                   std::string_view domain,
                                                   std::vector<Tensor> inputs,
                                                   std::vector<Tensor> constants,
                                                   Attributes attributes) {
  auto made = std::make_shared<Operator>();
  made->backend_ = &backend;
  GraphBuilder builder;
  std::vector<ValueId> values;
  for (const Tensor& t : inputs) {
    const std::span<const int64_t> dims = t.shape().dims();
    values.push_back(
        builder.input("x" + std::to_string(values.size()), t.dtype(), {dims.begin(), dims.end()}));
  }
  for (const Tensor& t : constants)
    values.push_back(builder.constant("w" + std::to_string(values.size()), t));
  builder.output("y", builder.add(op, domain, values, std::move(attributes)));
  VB_ASSIGN(made->graph_, builder.finish());
  VB_TRY(backend.prepare(made->graph_));
  made->operands_ = std::move(inputs);
  made->operands_.insert(made->operands_.end(), constants.begin(), constants.end());
  return made;
}

void Operator::run() {
  Result<Tensors> outputs = backend_->run(graph_.nodes[0], operands_);
  require(outputs.status());
  output_ = std::move((*outputs)[0]);
}

Contender Operator::contender() {
  return {"Verbatim", "", std::string(backend_->name()), [this] { run(); }, {}};
}

double AttentionSize::operations() const {
  const auto seen = static_cast<double>(keys);
  return 4e-9 * static_cast<double>(heads * queries * head_size) * (causal ? (seen + 1) / 2 : seen);
}

float AttentionSize::scale() const { return 1.0f / std::sqrt(static_cast<float>(head_size)); }

Attributes AttentionSize::attributes() const {
  return {{"heads", heads},
          {"kv_heads", kv_heads},
          {"scale", scale()},
          {"output", static_cast<int64_t>(DType::f32)},
          {"causal", int64_t{causal}}};
}

std::string AttentionSize::text() const {
  return shape_text({heads, queries, keys, head_size}) + (causal ? " causal" : "") +
         (kv_heads < heads ? " kv" + std::to_string(kv_heads) : "");
}

Result<AttentionOperands> attention_operands(const AttentionSize& s) {
  AttentionOperands o;
  VB_ASSIGN(o.q, random_tensor(Shape{1, s.queries, s.heads * s.head_size}, 1));
  VB_ASSIGN(o.k, random_tensor(Shape{1, s.keys, s.kv_heads * s.head_size}, 2));
  VB_ASSIGN(o.v, random_tensor(Shape{1, s.keys, s.kv_heads * s.head_size}, 3));
  return o;
}

Result<Tensor> by_head(const Tensor& x, int64_t tokens, int64_t heads) {
  const int64_t size = x.elements() / (tokens * heads);
  VB_ASSIGN(Tensor y, Tensor::allocate(DType::f32, Shape{heads, tokens, size}));
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h)
      std::copy_n(x.data<float>().data() + (t * heads + h) * size, size,
                  y.mutable_data<float>().data() + (h * tokens + t) * size);
  return y;
}

Status close(std::span<const float> ours, std::span<const float> theirs, double tolerance,
             const std::string& who) {
  double squares = 0, worst = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    squares += static_cast<double>(ours[i]) * ours[i];
    const double apart = std::fabs(static_cast<double>(ours[i]) - theirs[i]);
    worst = std::isnan(apart) ? std::numeric_limits<double>::infinity() : std::max(worst, apart);
  }
  const double size = std::sqrt(squares / static_cast<double>(std::max<size_t>(1, ours.size())));
  if (worst <= tolerance * size) return {};
  return internal_error(who + " differs from us by " + std::to_string(worst) +
                        " where values are about " + std::to_string(size) +
                        ": one of the two is wrong, and the comparison means nothing");
}

Result<std::shared_ptr<const Model>> load_model(const std::string& folder) {
  if (folder.empty())
    return unavailable(
        "no model; give its folder by --minilm, --llama, VERBATIM_MINILM or VERBATIM_LLAMA");
  return Model::load(folder);
}

Result<Tensors> random_tokens(const Model& model, int64_t texts, int64_t length) {
  VB_ASSIGN(Tensor ids, Tensor::allocate(DType::i64, Shape{texts, length}));
  uint64_t i = 0;
  for (int64_t& id : ids.mutable_data<int64_t>())
    id = static_cast<int64_t>(philox_u64(5, i++, 0) %
                              static_cast<uint64_t>(model.config().vocab_size));
  VB_ASSIGN(Tensor lengths, Tensor::allocate(DType::i64, Shape{texts}));
  for (int64_t& n : lengths.mutable_data<int64_t>()) n = length;
  return Tensors{ids, lengths};
}

Result<std::unique_ptr<Backend>> make_processor_backend() {
  for (const BackendInfo& b : list_backends())
    if (b.name != "cuda" && b.missing.empty()) return make_backend(b.name);
  return internal_error("no backend of the processor");
}

void require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "verbatim-bench: %s\n", status.message().c_str());
  std::exit(70);
}

std::string shape_text(std::initializer_list<int64_t> sizes) {
  std::string text;
  for (const int64_t n : sizes) text += (text.empty() ? "" : "x") + std::to_string(n);
  return text;
}

}  // namespace verbatim::bench
