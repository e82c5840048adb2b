// Ordered attention of one type of floats, and its gradient.
#include <verbatim/kernels/cuda/ordered_many_rows.cuh>

namespace verbatim::cuda {
namespace {

using namespace ordered;

template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) attend(AttentionCall p) {
  using Rows = OrderedRows<T, kColumns>;
  __shared__ Tile<kColumns> tile;
  const Rows rows(p);
  rows.attend([&](int64_t block, int64_t end, typename Rows::RowState(&running)[kI]) {
    rows.add_keys(tile, rows.view, {block, end}, rows.seen, rows.lane_seen, running);
  });
}

template <class T, int kColumns>
Status launch_attend(Gpu& gpu, const AttentionCall& p, int64_t batch) {
  return launch(gpu, ordered_attention_grid<kColumns>(p, batch), attend<T, kColumns>, p);
}

// Undefined where there are none.
Result<Tensor> upload_some(Gpu& gpu, const int64_t* values, int64_t count) {
  if (values == nullptr || count == 0) return Tensor();
  return upload(gpu, std::span(values, static_cast<size_t>(count)));
}

}  // namespace

Result<std::optional<PlacedAttention>> place_attention(Gpu& gpu, const AttentionSettings& s,
                                                       std::span<const Tensor> inputs, void* out) {
  constexpr int64_t kMost = int64_t{1} << 30;  // a block beyond the last key is still a number
  if (s.keys >= kMost || s.page_size >= kMost || s.output[1] * (s.heads / s.kv_heads) >= kMost)
    return std::optional<PlacedAttention>();
  VB_ASSIGN(Tensor lengths, upload_some(gpu, s.lengths, s.output[0]));
  VB_ASSIGN(Tensor table, upload_some(gpu, s.table, s.output[0] * s.pages));
  const AttentionCall call{.q = inputs[0].address(),
                           .k = inputs[1].address(),
                           .v = inputs[2].address(),
                           .out = out,
                           .queries = s.output[1],
                           .heads = s.heads,
                           .kv_heads = s.kv_heads,
                           .head_size = s.head_size,
                           .value_size = s.value_size,
                           .keys = s.keys,
                           .key_rows = inputs[1].elements() / (s.kv_heads * s.head_size),
                           .lengths = reinterpret_cast<const int64_t*>(lengths.address()),
                           .table = reinterpret_cast<const int64_t*>(table.address()),
                           .pages = s.pages,
                           .page_size = s.page_size,
                           .window = s.window,
                           .scale = s.scale,
                           .softcap = s.softcap,
                           .log_scale = s.scale * float_of(kLog2E),
                           .causal = s.causal};
  return std::optional(PlacedAttention{call, std::move(lengths), std::move(table)});
}

namespace {

int64_t tiles_of_few_rows(const AttentionCall& p) {
  return ceiling(p.queries * (p.heads / p.kv_heads), FewRows<float>::kFew) * p.kv_heads;
}
// Whether there are keys of several blocks, to go side by side, and fewer tiles of four rows than
// the device has schedulers.
bool suits_few_rows(const Gpu& gpu, const AttentionCall& p, int64_t batch) {
  return p.keys > kKeyBlock && tiles_of_few_rows(p) * batch < 4 * gpu.device().multiprocessors;
}

template <class T>
Status launch_few_rows(Gpu& gpu, const AttentionCall& call, int64_t batch) {
  using Rows = FewRows<T>;
  FewRowsCall p{call};
  const auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; };
  p.in_words = p.head_size % 4 == 0 && p.value_size % 4 == 0 && aligned(p.k) && aligned(p.v);
  p.all_rows = batch * p.queries * p.heads;
  const int64_t tiles = tiles_of_few_rows(p), chunks = ceiling(p.value_size, Rows::kColumns);
  // Whole parts, where they keep the device at work.
  const bool parts =
      tiles * batch * chunks * ceiling(p.keys, kKeyRestart) >= 2 * gpu.device().multiprocessors;
  p.piece_keys = static_cast<int>(parts ? kKeyRestart : kKeyBlock);
  p.pieces = static_cast<int>(ceiling(p.keys, p.piece_keys));
  VB_ASSIGN(Tensor o,
            Tensor::allocate_on(gpu, DType::f32, Shape{p.pieces, p.all_rows, p.value_size},
                                Purpose::scratch));
  VB_ASSIGN(Tensor ml,
            Tensor::allocate_on(gpu, DType::f32, Shape{p.pieces, p.all_rows, 2}, Purpose::scratch));
  p.o = reinterpret_cast<float*>(o.mutable_address());
  p.ml = reinterpret_cast<float*>(ml.mutable_address());
  VB_TRY(launch(gpu,
                {.blocks = {static_cast<unsigned>(chunks * p.pieces), static_cast<unsigned>(tiles),
                            static_cast<unsigned>(batch)},
                 .threads = {Rows::kThreads, 1, 1},
                 .shared_bytes = Rows::shared_bytes(p)},
                attend_piece<T>, p));
  return launch(gpu,
                {.blocks = {static_cast<unsigned>(p.all_rows), 1, 1},
                 .threads = {kMergeThreads, 1, 1},
                 .shared_bytes = Merge::shared_bytes(p)},
                merge_pieces<T>, p, Merge::parts_of(p));
}

// More rows than a block of threads has, of heads that it has room for, whose keys lie within
// reach of 32 bits.
bool suits_many_rows(const AttentionCall& p, size_t element) {
  using Rows = ManyRows<float, 128>;
  const auto bytes = static_cast<int64_t>(element) * p.kv_heads;
  return p.queries * (p.heads / p.kv_heads) > Rows::kRows && p.head_size <= Rows::kMostSize &&
         p.value_size <= 128 && p.key_rows <= UINT32_MAX && bytes * Rows::kMostSize <= UINT32_MAX;
}

template <class T, int kColumns>
Status launch_many_rows(Gpu& gpu, const AttentionCall& call, int64_t batch) {
  using Rows = ManyRows<T, kColumns>;
  ManyRowsCall p{call};
  p.in_words = p.value_size % 4 == 0 && reinterpret_cast<uintptr_t>(p.v) % 16 == 0;
  p.key_bytes = static_cast<uint32_t>(p.kv_heads * p.head_size * int64_t{sizeof(T)});
  p.value_bytes = static_cast<uint32_t>(p.kv_heads * p.value_size * int64_t{sizeof(T)});
  const int64_t rows = p.queries * (p.heads / p.kv_heads);
  return launch(gpu,
                {.blocks = {static_cast<unsigned>(ceiling(rows, Rows::kRows)),
                            static_cast<unsigned>(p.kv_heads), static_cast<unsigned>(batch)},
                 .threads = {Rows::kThreads, 1, 1},
                 .shared_bytes = Rows::shared_bytes(p)},
                attend_many_rows<T, kColumns>, p);
}

Status attend_all(Gpu& gpu, const AttentionCall& p, DType type, int64_t batch) {
  return visit_storage(type, [&](auto element) {
    using T = decltype(element);
    if (suits_few_rows(gpu, p, batch)) {
      const Status status = launch_few_rows<T>(gpu, p, batch);
      if (status.code() != StatusCode::limit) return status;  // or there is no room for states
    }
    if (suits_many_rows(p, sizeof(T))) {
      const Status status = p.value_size > 64 ? launch_many_rows<T, 128>(gpu, p, batch)
                                              : launch_many_rows<T, 64>(gpu, p, batch);
      if (status.code() != StatusCode::limit) return status;  // or not so much shared memory
    }
    return p.value_size > 64 ? launch_attend<T, 128>(gpu, p, batch)
                             : launch_attend<T, 64>(gpu, p, batch);
  });
}

}  // namespace

Outcome run_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                      std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs.first(3))) return not_handled();
  const Result<AttentionSettings> settings = attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const AttentionSettings& s = *settings;
  if (!attends_in_order(s)) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(inputs[0].dtype(), s.output));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(const std::optional<PlacedAttention> placed,
            place_attention(gpu, s, inputs, out.mutable_address()));
  if (!placed) return not_handled();
  VB_TRY(attend_all(gpu, placed->call, inputs[0].dtype(), s.output[0]));
  return done({out});
}

// --- the gradient (docs/numerics.md, Training), of binary32: head by head, the scores of all keys
// and the products of g with all values as ordered products, then each key's weights, then the
// sums.
namespace {

constexpr int64_t kQueryBlock = 128;  // of a key's sums (attention_gradient.cc)

// One head of one batch entry.
struct HeadGradient {
  AttentionCall p;
  int64_t batch, head;
  const float *g, *output;   // output: of attention
  float *scores, *products;  // [queries, keys]; in the end the weights, and the scores' gradients
  float *d, *dq, *dk, *dv;   // d: g . output of each row

  __device__ int64_t kv() const { return head / (p.heads / p.kv_heads); }
  __device__ int64_t row(int64_t query) const {
    return (batch * p.queries + query) * p.heads + head;
  }
  __device__ int64_t key(int64_t i) const { return (batch * p.keys + i) * p.kv_heads + kv(); }
  __device__ Range visible(int64_t query) const {
    const auto [begin, end] = visible_range(p.causal, p.window, query, p.queries,
                                            p.lengths == nullptr ? p.keys : p.lengths[batch]);
    return {begin, end};
  }
  __device__ const float* q(int64_t query) const {
    return static_cast<const float*>(p.q) + row(query) * p.head_size;
  }
};

__global__ void __launch_bounds__(128) multiply_outputs(HeadGradient h) {
  each_element(h.p.queries, [&](int64_t query) {
    const int64_t at = h.row(query) * h.p.value_size;
    float total = 0;
    for (int64_t begin = 0; begin < h.p.value_size; begin += kProductBlock) {
      float acc = 0;
      for (int64_t j = begin; j < least(begin + kProductBlock, h.p.value_size); ++j)
        acc = fma32(h.g[at + j], h.output[at + j], acc);
      total = begin == 0 ? acc : total + acc;
    }
    h.d[query] = total;
  });
}

__global__ void __launch_bounds__(256) weigh_keys(HeadGradient h) {
  each_element(h.p.queries * h.p.keys, [&](int64_t i) {
    const int64_t query = i / h.p.keys, row = h.row(query);
    if (!h.visible(query).has(i % h.p.keys)) return;
    const float score = h.scores[i],
                weight = unary::f32::exp2(h.p.scaled_score(score) - h.p.m[row]) / h.p.l[row];
    const float e = weight * (h.products[i] - h.d[query]);
    float slope = e * h.p.scale;
    if (h.p.softcap != 0) {
      const float t = unary::f32::tanh(score * h.p.scale / h.p.softcap);
      slope = slope * (1.0f - t * t);
    }
    h.scores[i] = weight;
    h.products[i] = slope;
  });
}

// A block of threads for each query: blocks of 128 keys, in each a chain.
__global__ void __launch_bounds__(128) sum_over_keys(HeadGradient h) {
  const auto* keys = static_cast<const float*>(h.p.k);
  for (int64_t query = blockIdx.x; query < h.p.queries; query += gridDim.x) {
    const Range seen = h.visible(query);
    const float* slopes = h.products + query * h.p.keys;
    for (int64_t c = threadIdx.x; c < h.p.head_size; c += blockDim.x) {
      float total = 0;
      bool first = true;
      for (int64_t i = seen.begin; i < seen.end; first = false) {
        const int64_t end = least(seen.end, (i / kKeyBlock + 1) * kKeyBlock);
        float acc = 0;
        for (; i < end; ++i) acc = fma32(slopes[i], keys[h.key(i) * h.p.head_size + c], acc);
        total = first ? acc : total + acc;
      }
      h.dq[h.row(query) * h.p.head_size + c] = canonical(total);
    }
  }
}

// A block of threads for each key: blocks of 128 queries, in each a chain over those that see it.
// The first head of a group starts the sums, the others go on with them.
__global__ void __launch_bounds__(128) sum_over_queries(HeadGradient h) {
  const bool starts = h.head % (h.p.heads / h.p.kv_heads) == 0;
  const auto add = [&](int64_t key, const float* weights, auto&& factor, float* sum) {
    float total = starts ? 0 : *sum;
    bool first = starts;
    for (int64_t begin = 0; begin < h.p.queries; begin += kQueryBlock) {
      float acc = 0;
      bool seen = false;
      for (int64_t query = begin; query < least(begin + kQueryBlock, h.p.queries); ++query) {
        if (!h.visible(query).has(key)) continue;
        seen = true;
        acc = fma32(weights[query * h.p.keys + key], factor(query), acc);
      }
      if (!seen) continue;
      total = first ? acc : total + acc;
      first = false;
    }
    *sum = total;
  };
  for (int64_t key = blockIdx.x; key < h.p.keys; key += gridDim.x) {
    for (int64_t c = threadIdx.x; c < h.p.head_size; c += blockDim.x)
      add(
          key, h.products, [&](int64_t query) { return h.q(query)[c]; },
          h.dk + h.key(key) * h.p.head_size + c);
    for (int64_t c = threadIdx.x; c < h.p.value_size; c += blockDim.x)
      add(
          key, h.scores, [&](int64_t query) { return h.g[h.row(query) * h.p.value_size + c]; },
          h.dv + h.key(key) * h.p.value_size + c);
  }
}

__global__ void __launch_bounds__(256) make_canonical(float* x, int64_t n) {
  each_element(n, [&](int64_t i) { x[i] = canonical(x[i]); });
}

// out [queries, keys] = rows of a, `size` elements each, by rows of b.
Status multiply_rows(Gpu& gpu, const HeadGradient& h, const float* a, const float* b, int64_t size,
                     float* out) {
  const AttentionCall& p = h.p;
  const int64_t kv = h.head / (p.heads / p.kv_heads);
  const MatrixView keys{
      DType::f32,
      reinterpret_cast<const std::byte*>(b + (h.batch * p.keys * p.kv_heads + kv) * size),
      size,
      p.keys,
      1,
      p.kv_heads * size};
  constexpr MatrixPair kPair[] = {{0, 0}};
  return multiply(gpu,
                  {.a = a + (h.batch * p.queries * p.heads + h.head) * size,
                   .a_row = p.heads * size,
                   .out = out},
                  keys, p.queries, kPair);
}

Status differentiate_head(Gpu& gpu, const HeadGradient& h) {
  const AttentionCall& p = h.p;
  const auto blocks = [](int64_t n) {
    return Grid{.blocks = {static_cast<unsigned>(least(n, kMostBlocks)), 1, 1},
                .threads = {128, 1, 1}};
  };
  VB_TRY(multiply_rows(gpu, h, static_cast<const float*>(p.q), static_cast<const float*>(p.k),
                       p.head_size, h.scores));
  VB_TRY(multiply_rows(gpu, h, h.g, static_cast<const float*>(p.v), p.value_size, h.products));
  VB_TRY(launch(gpu, grid_for(p.queries, 128), multiply_outputs, h));
  VB_TRY(launch(gpu, grid_for(p.queries * p.keys), weigh_keys, h));
  VB_TRY(launch(gpu, blocks(p.queries), sum_over_keys, h));
  return launch(gpu, blocks(p.keys), sum_over_queries, h);
}

}  // namespace

Outcome run_attention_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                               std::span<const Tensor> inputs) {
  const std::span<const Tensor> operands = inputs.subspan(1);
  const Tensor &g = inputs[0], &q = inputs[1], &k = inputs[2], &v = inputs[3];
  if (!all_float32(inputs.first(4))) return not_handled();
  const Result<AttentionSettings> settings = attention_settings(node, operands);
  if (!settings.ok() || !(g.shape() == settings->output)) return not_handled();
  const AttentionSettings& s = *settings;
  // Launches are by heads, and chains go through all queries or keys.
  constexpr int64_t kMostHeads = 1 << 13, kMostLength = 1 << 17;
  if (!attends_in_order(s) || g.elements() == 0 || k.elements() == 0 || q.elements() == 0 ||
      s.pages > 0 || s.output[0] * s.heads > kMostHeads || s.output[1] > kMostLength ||
      s.keys > kMostLength)
    return not_handled();
  const auto scratch = [&](std::initializer_list<int64_t> dims) -> Result<Tensor> {
    VB_ASSIGN(const Shape shape, Shape::of({dims.begin(), dims.size()}));
    return backend.allocate(DType::f32, shape, Purpose::scratch);
  };
  const int64_t batch = s.output[0], queries = s.output[1], rows = batch * queries * s.heads;
  VB_ASSIGN(Tensor output, scratch({rows, s.value_size}));
  VB_ASSIGN(Tensor sums, scratch({2, rows}));
  VB_ASSIGN(Tensor of_head, scratch({2 * s.keys + 1, queries}));
  VB_ASSIGN(Tensor dq, backend.allocate(DType::f32, q.shape()));
  VB_ASSIGN(Tensor dk, backend.allocate(DType::f32, k.shape()));
  VB_ASSIGN(Tensor dv, backend.allocate(DType::f32, v.shape()));
  VB_ASSIGN(std::optional<PlacedAttention> placed,
            place_attention(gpu, s, operands, output.mutable_address()));
  if (!placed) return not_handled();
  const auto floats = [](Tensor& t) { return reinterpret_cast<float*>(t.mutable_address()); };
  placed->call.m = floats(sums);
  placed->call.l = floats(sums) + rows;
  VB_TRY(attend_all(gpu, placed->call, DType::f32, batch));
  HeadGradient h{.p = placed->call,
                 .batch = 0,
                 .head = 0,
                 .g = reinterpret_cast<const float*>(g.address()),
                 .output = floats(output),
                 .scores = floats(of_head),
                 .products = floats(of_head) + queries * s.keys,
                 .d = floats(of_head) + 2 * queries * s.keys,
                 .dq = floats(dq),
                 .dk = floats(dk),
                 .dv = floats(dv)};
  for (h.batch = 0; h.batch < batch; ++h.batch)
    for (h.head = 0; h.head < s.heads; ++h.head) VB_TRY(differentiate_head(gpu, h));
  VB_TRY(launch(gpu, grid_for(dk.elements()), make_canonical, floats(dk), dk.elements()));
  VB_TRY(launch(gpu, grid_for(dv.elements()), make_canonical, floats(dv), dv.elements()));
  return done({dq, dk, dv});
}

}  // namespace verbatim::cuda
