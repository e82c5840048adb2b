// oneDNN's matmul primitive, whose constant weights are reordered once into the layout that it asks
// for, and attention made of it.
#include <verbatim/cli/bench/peers.h>

#if defined(VERBATIM_BENCH_ONEDNN)
#include <omp.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

#include <verbatim/core/cpu.h>

namespace verbatim::bench {
namespace {

std::string version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

// A product, or a batch of them. Weights that are constant come in the layout that it asks for.
Contender contender(const dnnl::memory::desc& a_desc, const dnnl::memory::desc& b_desc,
                    const dnnl::memory::desc& c_desc, bool constant, const void* a, const void* b,
                    void* c, const dnnl::primitive_attr& attributes = {}) {
  using dnnl::memory;
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::desc any(b_desc.dims(), b_desc.data_type(), memory::format_tag::any);
  const dnnl::matmul::primitive_desc desc(
      dnnl::matmul::desc(a_desc, constant ? any : b_desc, c_desc), attributes, engine);
  dnnl::stream stream(engine);
  memory weights(b_desc, engine, const_cast<void*>(b));
  if (constant) {
    memory packed(desc.weights_desc(), engine);
    dnnl::reorder(weights, packed).execute(stream, weights, packed);
    stream.wait();
    weights = packed;
  }
  const dnnl::matmul primitive(desc);
  const memory x(a_desc, engine, const_cast<void*>(a)), y(c_desc, engine, c);
  return {"oneDNN", version(), desc.impl_info_str(),
          [=]() mutable {
            primitive.execute(stream,
                              {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, y}});
            stream.wait();
          },
          set_onednn_threads};
}

// `batch` dense matrices of rows by columns; turned: in memory they lie transposed.
dnnl::memory::desc matrices(int64_t batch, int64_t rows, int64_t columns,
                            dnnl::memory::data_type type, bool turned) {
  using Tag = dnnl::memory::format_tag;
  if (batch == 1) return {{rows, columns}, type, turned ? Tag::ba : Tag::ab};
  return {{batch, rows, columns}, type, turned ? Tag::acb : Tag::abc};
}

// Some queries of every head: two batched products and a softmax, in place between them. Scores
// that a causal query must not see are overwritten: as an addend of the first product, a mask makes
// oneDNN 2.6 take its reference code on some processors.
class AttentionBlock {
 public:
  AttentionBlock(const dnnl::engine& engine, const FloatAttention& p, int64_t from, int64_t to)
      : engine_(engine) {
    using dnnl::memory;
    const int64_t rows = to - from, keys = p.causal ? to : p.keys;
    const memory::dims q_strides = {p.queries * p.size, p.size, 1};
    const memory::desc q({p.heads, rows, p.size}, Type::f32, q_strides),
        k({p.heads, p.size, keys}, Type::f32, memory::dims{p.keys * p.size, 1, p.size}),
        v({p.heads, keys, p.size}, Type::f32, memory::dims{p.keys * p.size, p.size, 1}),
        scores({p.heads, rows, keys}, Type::f32, memory::format_tag::abc);
    dnnl::primitive_attr scaled;
    scaled.set_output_scales(0, {p.scale});
    const dnnl::matmul::primitive_desc first({q, k, scores}, scaled, engine);
    const dnnl::matmul::primitive_desc second({scores, v, q}, engine);
    const dnnl::softmax_forward::primitive_desc softmax(
        {dnnl::prop_kind::forward_inference, scores, 2}, engine);
    kernel_ = first.impl_info_str();
    const auto at = [&](const memory::desc& desc, const float* data) {
      return memory(desc, engine, const_cast<float*>(data));
    };
    scores_ = memory(scores, engine);
    if (p.causal) masked_ = {p.heads, rows, keys, from};
    steps_ = {{dnnl::matmul(first),
               {{DNNL_ARG_SRC, at(q, p.q + from * p.size)},
                {DNNL_ARG_WEIGHTS, at(k, p.k)},
                {DNNL_ARG_DST, scores_}}},
              {dnnl::softmax_forward(softmax), {{DNNL_ARG_SRC, scores_}, {DNNL_ARG_DST, scores_}}},
              {dnnl::matmul(second),
               {{DNNL_ARG_SRC, scores_},
                {DNNL_ARG_WEIGHTS, at(v, p.v)},
                {DNNL_ARG_DST, at(q, p.out + from * p.size)}}}};
  }
  const std::string& kernel() const { return kernel_; }
  void run(dnnl::stream& stream) const {
    steps_[0].primitive.execute(stream, steps_[0].arguments);
    if (masked_.rows > 0) hide_later_keys();
    for (size_t i = 1; i < steps_.size(); ++i)
      steps_[i].primitive.execute(stream, steps_[i].arguments);
  }

 private:
  using Type = dnnl::memory::data_type;
  struct Step {
    dnnl::primitive primitive;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  struct Masked {
    int64_t heads = 0, rows = 0, keys = 0, from = 0;
  };
  void hide_later_keys() const {
    auto* scores = static_cast<float*>(scores_.get_data_handle());
#pragma omp parallel for
    for (int64_t i = 0; i < masked_.heads * masked_.rows; ++i) {
      float* row = scores + i * masked_.keys;
      std::fill(row + masked_.from + i % masked_.rows + 1, row + masked_.keys,
                -std::numeric_limits<float>::infinity());
    }
  }
  dnnl::engine engine_;
  dnnl::memory scores_;
  Masked masked_;
  std::string kernel_;
  std::vector<Step> steps_;
};

// A convolution whose work is cut for the threads that there are when it is prepared.
class Convolution {
 public:
  explicit Convolution(const FloatConvolution& p) : p_(p), engine_(dnnl::engine::kind::cpu, 0) {
    prepare();
    run();
    memory plain({y_dims(), Type::f32, Tag::nchw}, engine_, p_.y);  // once, to be checked
    dnnl::stream stream(engine_);
    dnnl::reorder(y_, plain).execute(stream, y_, plain);
    stream.wait();
  }
  void prepare() {
    const memory::dims x_dims = {1, p_.c, p_.size, p_.size},
                       w_dims = {p_.m, p_.c, p_.kernel, p_.kernel},
                       pad = {p_.kernel / 2, p_.kernel / 2};
    const auto liked = [](const memory::dims& dims) {
      return memory::desc(dims, Type::f32, Tag::any);
    };
    const dnnl::convolution_forward::primitive_desc desc({dnnl::prop_kind::forward_inference,
                                                          dnnl::algorithm::convolution_direct,
                                                          liked(x_dims),
                                                          liked(w_dims),
                                                          liked(y_dims()),
                                                          {1, 1},
                                                          pad,
                                                          pad},
                                                         engine_);
    kernel_ = desc.impl_info_str();
    x_ = moved(x_dims, Tag::nchw, p_.x, desc.src_desc());
    w_ = moved(w_dims, Tag::oihw, p_.w, desc.weights_desc());
    y_ = memory(desc.dst_desc(), engine_);
    primitive_ = dnnl::convolution_forward(desc);
  }
  void run() {
    dnnl::stream stream(engine_);
    primitive_.execute(stream, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, w_}, {DNNL_ARG_DST, y_}});
    stream.wait();
  }
  const std::string& kernel() const { return kernel_; }

 private:
  using memory = dnnl::memory;
  using Type = memory::data_type;
  using Tag = memory::format_tag;
  memory::dims y_dims() const { return {1, p_.m, p_.size, p_.size}; }
  memory moved(const memory::dims& dims, Tag tag, const float* data, const memory::desc& to) {
    memory plain({dims, Type::f32, tag}, engine_, const_cast<float*>(data)), own(to, engine_);
    dnnl::stream stream(engine_);
    dnnl::reorder(plain, own).execute(stream, plain, own);
    stream.wait();
    return own;
  }
  FloatConvolution p_;
  dnnl::engine engine_;
  memory x_, w_, y_;
  dnnl::primitive primitive_;
  std::string kernel_;
};

}  // namespace

void set_onednn_threads(int threads) { ::omp_set_num_threads(threads); }

void limit_onednn() {
  const std::vector<std::string> disabled = disabled_cpu_features();
  const auto without = [&](const char* name) { return std::ranges::count(disabled, name) > 0; };
  if (without("avx512")) {
    dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
  } else if (without("avx512_vnni")) {
    dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core);
  } else if (without("amx_int8")) {
    dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_vnni);
  }
}

void add_onednn(std::vector<Contender>& to, const FloatProduct& p) {
  using Type = dnnl::memory::data_type;
  if (p.m == 0) return to.push_back({});
  to.push_back(contender(matrices(p.batch, p.m, p.k, Type::f32, p.a_turned),
                         matrices(p.batch, p.k, p.n, Type::f32, p.b_turned),
                         matrices(p.batch, p.m, p.n, Type::f32, false), p.constant, p.a, p.b, p.c));
}

void add_onednn(std::vector<Contender>& to, const Int8Product& p) {
  using Type = dnnl::memory::data_type;
  const auto a = matrices(1, p.m, p.k, Type::s8, false), b = matrices(1, p.k, p.n, Type::s8, true);
  to.push_back(
      contender(a, b, matrices(1, p.m, p.n, Type::s32, false), true, p.a, p.b, p.integers));
  dnnl::primitive_attr scaled;  // by column; it has no scale of a row
  scaled.set_output_scales(1 << 1, {p.scales, p.scales + p.n});
  to.push_back(
      contender(a, b, matrices(1, p.m, p.n, Type::f32, false), true, p.a, p.b, p.floats, scaled));
  to.back().name = "oneDNN to fp32";
}

void add_onednn(std::vector<Contender>& to, const BFloat16Product& p) {
  using Type = dnnl::memory::data_type;
  to.push_back(contender(matrices(1, p.m, p.k, Type::bf16, false),
                         matrices(1, p.k, p.n, Type::bf16, true),
                         matrices(1, p.m, p.n, Type::bf16, false), true, p.a, p.b, p.c));
}

void add_onednn(std::vector<Contender>& to, const FloatAttention& p) {
  if (p.heads == 0) return to.push_back({});
  // Causal queries are cut into blocks, each with the keys up to its last.
  constexpr int64_t kCausalRows = 256;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const int64_t rows = p.causal ? kCausalRows : p.queries;
  std::vector<AttentionBlock> blocks;
  for (int64_t from = 0; from < p.queries; from += rows)
    blocks.emplace_back(engine, p, from, std::min(from + rows, p.queries));
  const std::string kernel = blocks[0].kernel();
  to.push_back({"oneDNN", version(), kernel,
                [blocks = std::move(blocks), stream = dnnl::stream(engine)]() mutable {
                  for (const AttentionBlock& block : blocks) block.run(stream);
                  stream.wait();
                },
                set_onednn_threads});
}

void add_onednn(std::vector<Contender>& to, const FloatConvolution& p) {
  auto convolution = std::make_shared<Convolution>(p);
  to.push_back({"oneDNN", version(), convolution->kernel(), [convolution] { convolution->run(); },
                [convolution](int threads) {
                  set_onednn_threads(threads);
                  convolution->prepare();
                }});
}

}  // namespace verbatim::bench

#else

namespace verbatim::bench {
void limit_onednn() {}
void set_onednn_threads(int) {}
void add_onednn(std::vector<Contender>&, const FloatProduct&) {}
void add_onednn(std::vector<Contender>&, const Int8Product&) {}
void add_onednn(std::vector<Contender>&, const BFloat16Product&) {}
void add_onednn(std::vector<Contender>&, const FloatAttention&) {}
void add_onednn(std::vector<Contender>&, const FloatConvolution&) {}
}  // namespace verbatim::bench

#endif
