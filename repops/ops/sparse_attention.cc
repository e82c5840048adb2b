#include <verbatim/repops/ops/sparse_attention.h>

#include <algorithm>
#include <numeric>
#include <tuple>

#include <verbatim/core/int128.h>
#include <verbatim/repops/ops/attention_row.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sampling.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

int64_t blocks_of(int64_t n, int64_t block) { return n / block + (n % block != 0); }

Result<int64_t> query_block_of(const Node& node) {
  VB_ASSIGN(const int64_t block, node.attributes.get<int64_t>("query_block", kKeyBlock));
  if (block < 1) return bad_input("query_block is " + std::to_string(block) + ", not at least 1");
  return block;
}

// One head of one batch entry: its keys and values, and their means.
struct Head {
  const SparseAttention& s;
  int64_t batch, head, kv;
  const float *k, *v;
  const PooledRows &keys, &values;

  AttentionRow<float> row(const float* q, const float* k_rows, const float* v_rows) const {
    const AttentionSettings& a = s.attention;
    AttentionRow<float> r;
    r.q = q;
    r.keys = {k_rows + kv * a.head_size, a.kv_heads * a.head_size};
    r.values = {v_rows + kv * a.value_size, a.kv_heads * a.value_size};
    return r;
  }
};

// The state of keys [begin, end) of one block. A block that is not seen whole is never pooled, so
// that no row depends on a key that it may not see.
AttentionState sparse_block_state(const Head& h, int64_t query, const float* q, int64_t begin,
                                  int64_t end) {
  const int level = h.s.level(h.batch, h.head, query, begin);
  if (level == 0) return {};
  const int p = level - 1;
  if (p == 0 || end - begin < kKeyBlock)
    return block_state(h.s.attention, h.row(q, h.k, h.v), begin, end);
  AttentionRow<float> r = h.row(q, h.keys.rows(h.batch, p), h.values.rows(h.batch, p));
  r.shift = static_cast<float>(p);
  return block_state(h.s.attention, r, begin >> p, end >> p);
}

// AttentionSparse(q, k, v, levels, lengths?) with Attention's attributes and query_block (128): q,
// k, v float32, levels uint8 [B, heads, ceil(Tq / query_block), ceil(Tk / 128)] of 0 to 4.
Result<Tensors> attention_sparse(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const SparseAttention s, sparse_attention_settings(node, inputs));
  const AttentionSettings& a = s.attention;
  const Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  VB_ASSIGN(const PooledRows keys, PooledRows::create(k, s));
  VB_ASSIGN(const PooledRows values, PooledRows::create(v, s));
  const int64_t tq = q.dim(1), tk = k.dim(1), rows = q.dim(0) * tq * a.heads;
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, a.output));
  float* y = out.mutable_data<float>().data();
  const int64_t scratch = 3 * a.value_size * static_cast<int64_t>(sizeof(float));
  parallel_for(rows, scratch_grain(rows, 4, scratch), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t b = i / (tq * a.heads), query = i / a.heads % tq, head = i % a.heads;
      const Head h{s,
                   b,
                   head,
                   head / (a.heads / a.kv_heads),
                   k.data<float>().data() + b * tk * k.dim(2),
                   v.data<float>().data() + b * tk * v.dim(2),
                   keys,
                   values};
      const float* row = q.data<float>().data() + i * a.head_size;
      const auto state = attend(visible_keys(a, query, tq, a.length(b)), exp2_f32,
                                [&](int64_t begin, int64_t end) {
                                  return sparse_block_state(h, query, row, begin, end);
                                });
      write_row(a, state, y + i * a.value_size);
    }
  });
  return Tensors{out};
}

uint64_t attention_sparse_cost(const Node& node, std::span<const Tensor> inputs,
                               std::span<const Tensor> outputs) {
  const uint64_t means =
      static_cast<uint64_t>(inputs[1].elements()) + static_cast<uint64_t>(inputs[2].elements());
  return saturating_add(attention_cost(node, inputs.first(3), outputs),
                        saturating_multiply(3, means));
}

// sum of rows [from, to) of `width` numbers, ascending, / their count.
std::vector<float> mean_row(const float* rows, int64_t stride, int64_t width, int64_t from,
                            int64_t to) {
  std::vector<float> mean(rows + from * stride, rows + from * stride + width);
  for (int64_t i = from + 1; i < to; ++i)
    for (int64_t j = 0; j < width; ++j) mean[static_cast<size_t>(j)] += rows[i * stride + j];
  for (float& x : mean) x = x / static_cast<float>(to - from);
  return mean;
}

// AttentionLevels(q, k, lengths?) with Attention's attributes, query_block and shares: levels for
// AttentionSparse. A block of queries is represented by its mean, and so is a block of keys; what a
// block of keys weighs is 2^x of their scaled score.
Result<Tensors> attention_levels(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const LevelSettings l, attention_levels_settings(node, inputs));
  const AttentionSettings& s = l.attention;
  const Tensor &q = inputs[0], &k = inputs[1];
  const int64_t tq = q.dim(1), tk = k.dim(1);
  VB_ASSIGN(Tensor out, Tensor::zeros(DType::u8, l.output));
  const std::span<uint8_t> levels = out.mutable_data<uint8_t>();
  parallel_for(q.dim(0) * s.heads * l.query_blocks, 1, [&](int64_t first, int64_t last) {
    std::vector<Sight> sights(static_cast<size_t>(l.key_blocks));
    std::vector<float> scores(sights.size());
    for (int64_t i = first; i < last; ++i) {
      const int64_t block = i % l.query_blocks, head = i / l.query_blocks % s.heads,
                    b = i / l.query_blocks / s.heads, kv = head / (s.heads / s.kv_heads),
                    from = block * l.query_block, to = std::min(tq, (block + 1) * l.query_block);
      see_blocks(l, b, from, to, sights);
      const std::vector<float> query =
          mean_row(q.data<float>().data() + b * tq * q.dim(2) + head * s.head_size, q.dim(2),
                   s.head_size, from, to);
      const float* rows = k.data<float>().data() + b * tk * k.dim(2) + kv * s.head_size;
      for (int64_t j = 0; j < l.key_blocks; ++j) {
        if (sights[static_cast<size_t>(j)] != Sight::whole) continue;
        const std::vector<float> key =
            mean_row(rows, k.dim(2), s.head_size, j * kKeyBlock, (j + 1) * kKeyBlock);
        scores[static_cast<size_t>(j)] = ordered_dot(query.data(), key.data(), s.head_size);
      }
      set_levels(
          l, sights, scores,
          levels.subspan(static_cast<size_t>(i * l.key_blocks), static_cast<size_t>(l.key_blocks)));
    }
  });
  return Tensors{out};
}

uint64_t attention_levels_cost(const Node& node, std::span<const Tensor> inputs,
                               std::span<const Tensor>) {
  const Result<int64_t> query_block = query_block_of(node);
  if (!query_block.ok()) return 0;
  // Each block of queries takes means of its rows and of all keys, and looks at what each row sees.
  const auto rows = static_cast<uint64_t>(inputs[0].elements()),
             blocks = static_cast<uint64_t>(blocks_of(inputs[0].dim(1), *query_block));
  return saturating_add(
      saturating_multiply(
          saturating_multiply(blocks, static_cast<uint64_t>(inputs[1].elements()) + 1),
          static_cast<uint64_t>(std::max<int64_t>(1, inputs[0].dim(2)))),
      saturating_multiply(rows, static_cast<uint64_t>(blocks_of(inputs[1].dim(1), kKeyBlock)) + 2));
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "AttentionSparse", 4, 5, 1, attention_sparse, attention_sparse_cost},
    {kVerbatimDomain, "AttentionLevels", 2, 3, 1, attention_levels, attention_levels_cost},
};

}  // namespace

Result<SparseAttention> sparse_attention_settings(const Node& node,
                                                  std::span<const Tensor> inputs) {
  const Tensor operands[] = {inputs[0], inputs[1], inputs[2],
                             inputs.size() > 4 ? inputs[4] : Tensor()};
  SparseAttention s;
  VB_ASSIGN(s.attention, attention_settings(node, operands));
  VB_ASSIGN(s.query_block, query_block_of(node));
  if (inputs[0].dtype() != DType::f32)
    return unsupported("sparse attention of " + inputs[0].describe());
  s.query_blocks = blocks_of(inputs[0].dim(1), s.query_block);
  s.key_blocks = blocks_of(inputs[1].dim(1), kKeyBlock);
  const Tensor& levels = inputs[3];
  const int64_t dims[] = {inputs[0].dim(0), s.attention.heads, s.query_blocks, s.key_blocks};
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  if (levels.dtype() != DType::u8 || !(levels.shape() == shape))
    return bad_input("levels " + levels.describe() + " where uint8 " + shape.to_string() +
                     " is needed");
  for (const uint8_t level : levels.data<uint8_t>()) {
    if (level > kSparseLevels)
      return bad_input("level " + std::to_string(level) + " is above " +
                       std::to_string(kSparseLevels));
    if (level > 0) s.uses[level - 1u] = true;
  }
  s.levels = levels.data<uint8_t>().data();
  return s;
}

Result<LevelSettings> attention_levels_settings(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &q = inputs[0], &k = inputs[1];
  const Tensor operands[] = {q, k, k, input_or_none(inputs, 2)};
  LevelSettings l;
  VB_ASSIGN(l.attention, attention_settings(node, operands));
  VB_ASSIGN(l.query_block, query_block_of(node));
  VB_ASSIGN(l.shares, node.attributes.require<std::vector<float>>("shares"));
  if (q.dtype() != DType::f32) return unsupported("levels of " + q.describe());
  const auto is_share = [](float s) { return s >= 0 && s <= 1; };  // NaN is none
  if (l.shares.empty() || l.shares.size() > kSparseLevels ||
      !std::ranges::all_of(l.shares, is_share) || !std::ranges::is_sorted(l.shares))
    return bad_input("shares are 1 to 4 ascending numbers of [0, 1]");
  l.query_blocks = blocks_of(q.dim(1), l.query_block);
  l.key_blocks = blocks_of(k.dim(1), kKeyBlock);
  const int64_t dims[] = {q.dim(0), l.attention.heads, l.query_blocks, l.key_blocks};
  VB_ASSIGN(l.output, Shape::of(dims));
  return l;
}

void see_blocks(const LevelSettings& l, int64_t b, int64_t from, int64_t to,
                std::span<Sight> blocks) {
  const AttentionSettings& s = l.attention;
  for (size_t block = 0; block < blocks.size(); ++block) {
    const int64_t begin = static_cast<int64_t>(block) * kKeyBlock, end = begin + kKeyBlock;
    bool some = false, all = true;
    for (int64_t t = from; t < to; ++t) {
      const auto [first, last] = visible_keys(s, t, s.output[1], s.length(b));
      some = some || (first < std::min(end, last) && begin < last);
      all = all && first <= begin && end <= last;
    }
    blocks[block] = all ? Sight::whole : some ? Sight::part : Sight::nothing;
  }
}

void set_levels(const LevelSettings& s, std::span<const Sight> blocks,
                std::span<const float> scores, std::span<uint8_t> levels) {
  std::vector<size_t> ranked;
  std::vector<float> x;
  float greatest = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < blocks.size(); ++i) {
    levels[i] = blocks[i] == Sight::nothing ? 0 : 1;
    if (blocks[i] != Sight::whole) continue;
    ranked.push_back(i);
    x.push_back(scaled_score(s.attention, scores[i]));
    if (x.back() > greatest) greatest = x.back();
  }
  std::vector<uint64_t> weights(x.size());
  for (size_t i = 0; i < x.size(); ++i) weights[i] = to_fixed32(exp2_f32(x[i] - greatest));
  std::vector<uint8_t> chosen(x.size());
  choose_levels(weights, s.shares, chosen);
  for (size_t i = 0; i < x.size(); ++i) levels[ranked[i]] = chosen[i];
}

Result<PooledRows> PooledRows::create(const Tensor& x, const SparseAttention& s) {
  PooledRows pooled;
  pooled.blocks_ = x.dim(1) / kKeyBlock;
  const int64_t batches = x.dim(0), width = pooled.width_ = x.dim(2);
  for (int p = 1; p < kSparseLevels; ++p) {
    if (!s.uses[static_cast<size_t>(p)]) continue;
    const int64_t count = pooled.blocks_ * kKeyBlock >> p, size = int64_t{1} << p;
    Tensor& tensor = pooled.means_[static_cast<size_t>(p)];
    VB_ASSIGN(tensor, Tensor::allocate(DType::f32, {batches, count, width}, Purpose::scratch));
    float* means = tensor.mutable_data<float>().data();
    parallel_for(batches * count, 64, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        const float* rows =
            x.data<float>().data() + (i / count * x.dim(1) + i % count * size) * width;
        for (int64_t j = 0; j < width; ++j) {
          float sum = rows[j];
          for (int64_t r = 1; r < size; ++r) sum = sum + rows[r * width + j];
          means[i * width + j] = canonical(sum * (1.0f / static_cast<float>(size)));
        }
      }
    });
  }
  return pooled;
}

void choose_levels(std::span<const uint64_t> weights, std::span<const float> shares,
                   std::span<uint8_t> levels) {
  const uint64_t total = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  uint64_t before = 0;
  for (const int64_t i : by_weight(weights)) {
    const auto at = static_cast<size_t>(i);
    levels[at] = 0;
    for (size_t level = shares.size(); level-- > 0;)
      if (shares[level] >= 1 || uint128{before} << 32 < uint128{to_fixed32(shares[level])} * total)
        levels[at] = static_cast<uint8_t>(level + 1);
    before += weights[at];
  }
}

std::span<const OpDef> sparse_attention_ops() { return kOps; }

}  // namespace verbatim
