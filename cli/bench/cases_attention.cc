// Attention: attention_f32 beside what libraries' products and a softmax make of it,
// attention_s8_own, attention_bf16 and attention_f16 beside our own binary32, attention_paged
// beside the same without pages, attention_sparse, its choice of levels included, beside the dense.
#include <cmath>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/peers.h>

namespace verbatim::bench {
namespace {

using Size = AttentionSize;
using Operands = AttentionOperands;
// A sentence encoder's layer, a decoder's prefill, and one of its steps.
constexpr Size kSizes[] = {
    {12, 12, 512, 512, 64, false}, {8, 8, 2048, 2048, 128, true}, {32, 8, 1, 4096, 128, false}};

Result<std::shared_ptr<Operator>> attention(Backend& backend, std::string_view op, const Size& s,
                                            std::vector<Tensor> inputs) {
  return Operator::create(backend, op, kVerbatimDomain, std::move(inputs), {}, s.attributes());
}

// Query heads that share keys are rows of one product where there is one query.
struct PeerOperands {
  Tensor q, k, v;
  int64_t queries = 0;  // of one head of keys
};
Result<PeerOperands> peer_operands(const Size& s, const Operands& o) {
  const int64_t group = s.heads / s.kv_heads;
  if (group > 1 && s.queries > 1) return unsupported("peers' attention of grouped heads");
  PeerOperands p;
  p.queries = s.queries * group;
  VB_ASSIGN(p.q, by_head(o.q, s.queries, s.heads));
  VB_ASSIGN(p.k, by_head(o.k, s.keys, s.kv_heads));
  VB_ASSIGN(p.v, by_head(o.v, s.keys, s.kv_heads));
  return p;
}

struct Peers {
  std::vector<Contender> peers;
  std::vector<Tensor> results;  // by head
};
Result<Peers> peers_of(const Size& s, const PeerOperands& o) {
  Peers f;
  for (size_t i = 0, count = float_attention_peers({}).size(); i < count; ++i) {
    VB_ASSIGN(Tensor out, Tensor::zeros(DType::f32, o.q.shape()));
    std::vector<Contender> all = float_attention_peers(
        {s.kv_heads, o.queries, s.keys, s.head_size, s.causal, s.scale(), o.q.data<float>().data(),
         o.k.data<float>().data(), o.v.data<float>().data(), out.mutable_data<float>().data()});
    f.peers.push_back(std::move(all[i]));
    f.results.push_back(std::move(out));
  }
  return f;
}

// One query reads all keys and values for few operations each: its rate is that of reading them.
Match measured_in_its_unit(const Size& s) {
  Match match;
  match.work = s.operations();
  match.unit = "GFLOP/s";
  match.limit = Limit::float_operations;
  if (s.queries > 1) return match;
  match.work = 8e-9 * static_cast<double>(s.keys * s.kv_heads * s.head_size);
  match.unit = "GB/s";
  match.limit = Limit::read_bandwidth;
  return match;
}

Result<Match> against_compositions(Backend& backend, const Size& s) {
  VB_ASSIGN(const Operands o, attention_operands(s));
  VB_ASSIGN(const PeerOperands p, peer_operands(s, o));
  auto peers = std::make_shared<Peers>();
  VB_ASSIGN(*peers, peers_of(s, p));
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            attention(backend, "Attention", s, {o.q, o.k, o.v}));
  Match match = measured_in_its_unit(s);
  match.ours = ours->contender();
  match.peers = peers->peers;
  match.check = [s, ours, peers, p]() -> Status {
    VB_ASSIGN(const Tensor y, by_head(ours->output(), s.queries, s.heads));
    for (size_t i = 0; i < peers->peers.size(); ++i)
      VB_TRY(close(y.data<float>(), peers->results[i].data<float>(), 1e-4, peers->peers[i].name));
    return {};
  };
  return match;
}

Result<Match> against_ordered(Backend& backend, const Size& s, std::string_view op, DType type,
                              double tolerance) {
  VB_ASSIGN(const Operands o, attention_operands(s));
  Operands rounded;
  VB_ASSIGN(rounded.q, rounded_to(type, o.q));
  VB_ASSIGN(rounded.k, rounded_to(type, o.k));
  VB_ASSIGN(rounded.v, rounded_to(type, o.v));
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            attention(backend, op, s, {rounded.q, rounded.k, rounded.v}));
  VB_ASSIGN(const std::shared_ptr<Operator> own,
            attention(backend, "Attention", s, {o.q, o.k, o.v}));
  Contender peer = own->contender();
  peer.name = "own ordered fp32";
  Match match{ours->contender(), {peer}, s.operations(), "GFLOP/s"};
  match.check = [=] {
    return close(ours->output().data<float>(), own->output().data<float>(), tolerance,
                 "ordered binary32");
  };
  return match;
}

// Keys or values [1, keys, width] in a pool of pages: page i of the sequence is page[i] of it.
Result<Tensor> in_pages(const Tensor& x, std::span<const int64_t> page) {
  const auto pages = static_cast<int64_t>(page.size()), size = x.dim(1) / pages * x.dim(2);
  VB_ASSIGN(Tensor pool, Tensor::allocate(DType::f32, Shape{pages, x.dim(1) / pages, x.dim(2)}));
  for (size_t i = 0; i < page.size(); ++i)
    std::copy_n(x.data<float>().data() + static_cast<int64_t>(i) * size, size,
                pool.mutable_data<float>().data() + page[i] * size);
  return pool;
}

Result<Match> against_contiguous(Backend& backend, const Size& s) {
  constexpr int64_t kPageSize = 16;  // vLLM's
  VB_ASSIGN(const Operands o, attention_operands(s));
  std::vector<int64_t> page(static_cast<size_t>(s.keys / kPageSize));
  for (size_t i = 0; i < page.size(); ++i)  // an odd factor: their number is a power of two
    page[i] = static_cast<int64_t>(i * 37 % page.size());
  VB_ASSIGN(const Tensor k, in_pages(o.k, page));
  VB_ASSIGN(const Tensor v, in_pages(o.v, page));
  VB_ASSIGN(const Tensor lengths, Tensor::from<int64_t>(Shape{1}, std::vector<int64_t>{s.keys}));
  VB_ASSIGN(const Tensor table,
            Tensor::from<int64_t>(Shape{1, static_cast<int64_t>(page.size())}, page));
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            attention(backend, "Attention", s, {o.q, k, v, lengths, table}));
  VB_ASSIGN(const std::shared_ptr<Operator> own,
            attention(backend, "Attention", s, {o.q, o.k, o.v}));
  Match match = measured_in_its_unit(s);
  match.ours = ours->contender();
  match.peers = {own->contender()};
  match.peers[0].name = "own without pages";
  match.check = [=] {
    return close(ours->output().data<float>(), own->output().data<float>(), 0, "without pages");
  };
  return match;
}

// Of the attention weight, as block means tell it, a quarter each is seen as it is, in means of two
// and of four keys, and not at all. Both count the dense one's operations.
Result<Match> against_dense(Backend& backend, const Size& s) {
  VB_ASSIGN(const Operands o, attention_operands(s));
  Attributes shares = s.attributes();
  shares.set("shares", std::vector<float>{0.25f, 0.5f, 0.75f});
  VB_ASSIGN(const std::shared_ptr<Operator> levels,
            Operator::create(backend, "AttentionLevels", kVerbatimDomain, {o.q, o.k}, {}, shares));
  levels->run();
  VB_ASSIGN(const std::shared_ptr<Operator> sparse,
            attention(backend, "AttentionSparse", s, {o.q, o.k, o.v, levels->output()}));
  VB_ASSIGN(const std::shared_ptr<Operator> dense,
            attention(backend, "Attention", s, {o.q, o.k, o.v}));
  Match match{sparse->contender(), {dense->contender()}, s.operations(), "GFLOP/s"};
  match.peers[0].run = [dense] { dense->run(); };
  match.ours.run = [levels, sparse] {
    levels->run();
    sparse->run();
  };
  match.peers[0].name = "own dense";
  return match;
}

}  // namespace

void add_attention_cases(std::vector<Case>& cases) {
  for (const Size& s : kSizes)
    cases.push_back({"attention_f32", s.text(),
                     [=](Backend& backend) { return against_compositions(backend, s); }});
  for (const Size& s : kSizes)
    cases.push_back({"attention_paged", s.text() + " page 16",
                     [=](Backend& backend) { return against_contiguous(backend, s); }});
  for (const Size& s : kSizes)
    if (s.queries > 1)
      cases.push_back({"attention_sparse", s.text(),
                       [=](Backend& backend) { return against_dense(backend, s); }});
  struct Form {
    const char *name, *op;
    DType type;
    double tolerance;
  };
  for (const Form& f : {Form{"attention_s8_own", "AttentionInt8", DType::f32, 0.75},
                        Form{"attention_bf16", "AttentionTensorCore", DType::bf16, 0.3},
                        Form{"attention_f16", "AttentionTensorCore", DType::f16, 0.02}})
    for (const Size& s : kSizes)
      cases.push_back({f.name, s.text(), [=](Backend& backend) {
                         return against_ordered(backend, s, f.op, f.type, f.tolerance);
                       }});
}

}  // namespace verbatim::bench
