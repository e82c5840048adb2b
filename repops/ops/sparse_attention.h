// Attention that leaves out, or takes in summary, blocks of keys (docs/numerics.md, Sparse
// attention). A level for each block of queries and block of keys says which: 0 leaves the block
// out, and 1 + p takes means of 2^p successive keys and values, each counting for 2^p of them.
//
// Levels 0 and 1 alone are tile-sparse attention (FPSAttention, arXiv 2506.04648); with the others
// it is pyramid sparse attention (arXiv 2512.04025).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <verbatim/repops/ops/attention.h>

namespace verbatim {

inline constexpr int kSparseLevels = 4;  // beside 0: means of 1, 2, 4 and 8 keys

struct SparseAttention {
  AttentionSettings attention;
  int64_t query_block = 0;  // rows of queries that share levels
  int64_t query_blocks = 0, key_blocks = 0;
  const uint8_t* levels = nullptr;         // [B, heads, query_blocks, key_blocks]
  std::array<bool, kSparseLevels> uses{};  // [p]: whether a level is 1 + p

  int level(int64_t batch, int64_t head, int64_t query, int64_t key) const {
    const int64_t row = (batch * attention.heads + head) * query_blocks + query / query_block;
    return levels[row * key_blocks + key / kKeyBlock];
  }
};
// AttentionSparse's inputs and attributes, checked.
Result<SparseAttention> sparse_attention_settings(const Node& node, std::span<const Tensor> inputs);

// AttentionLevels' inputs and attributes, checked.
struct LevelSettings {
  AttentionSettings attention;
  int64_t query_block = 0, query_blocks = 0, key_blocks = 0;
  std::vector<float> shares;
  Shape output;  // [B, heads, query_blocks, key_blocks]
};
Result<LevelSettings> attention_levels_settings(const Node& node, std::span<const Tensor> inputs);

// What a block of queries sees of a block of keys: `whole` if all of them see all of it.
enum class Sight : uint8_t { nothing, part, whole };
// Of queries [from, to) of batch entry b.
void see_blocks(const LevelSettings& s, int64_t b, int64_t from, int64_t to,
                std::span<Sight> blocks);
// Levels of blocks that are seen so; for one that is seen whole, scores has q . k of the means.
void set_levels(const LevelSettings& s, std::span<const Sight> blocks,
                std::span<const float> scores, std::span<uint8_t> levels);

// The means of 2^p successive rows of each whole block of x float32 [B, T, width], for those of p =
// 1 to 3 that are used: the sum in ascending order, times 2^-p.
class PooledRows {
 public:
  static Result<PooledRows> create(const Tensor& x, const SparseAttention& s);
  // Of batch entry b: row i is the mean of rows i * 2^p and on.
  const float* rows(int64_t b, int p) const {
    return means_[static_cast<size_t>(p)].data<float>().data() +
           b * (blocks_ * kKeyBlock >> p) * width_;
  }

 private:
  int64_t blocks_ = 0, width_ = 0;
  std::array<Tensor, kSparseLevels> means_;  // [0] is undefined
};

// Levels of blocks by weight. Blocks are taken by descending weight, then ascending index: the
// least prefix that holds shares[0] of the total gets level 1, what goes on to shares[1] level 2,
// and so on; the others get 0. A share of 1 takes all that are left. Totals stay below 2^64.
void choose_levels(std::span<const uint64_t> weights, std::span<const float> shares,
                   std::span<uint8_t> levels);

}  // namespace verbatim
