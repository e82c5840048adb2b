#include <verbatim/verify/merkle_walk.h>

#include <bit>

namespace verbatim {
namespace {

// RFC 6962: the left subtree has the largest power of two below the size. For nodes of at least two
// leaves.
uint64_t middle(LeafRange node) { return node.begin + std::bit_ceil(node.size()) / 2; }

void collect(LeafRange node, int levels, std::vector<LeafRange>& ranges) {
  if (levels == 0 || node.size() == 1) {
    ranges.push_back(node);
    return;
  }
  collect({node.begin, middle(node)}, levels - 1, ranges);
  collect({middle(node), node.end}, levels - 1, ranges);
}

// Consumes the hashes that belong to `node` from the front.
Digest fold(LeafRange node, int levels, std::span<const Digest>& hashes) {
  if (levels == 0 || node.size() == 1) {
    const Digest hash = hashes.front();
    hashes = hashes.subspan(1);
    return hash;
  }
  const Digest left = fold({node.begin, middle(node)}, levels - 1, hashes);
  const Digest right = fold({middle(node), node.end}, levels - 1, hashes);
  return merkle_node(left, right);
}

}  // namespace

std::vector<LeafRange> walk_ranges(LeafRange node) {
  std::vector<LeafRange> ranges;
  collect(node, kWalkLevels, ranges);
  return ranges;
}

Digest walk_fold(LeafRange node, std::span<const Digest> hashes) {
  return fold(node, kWalkLevels, hashes);
}

bool is_tree_node(uint64_t count, LeafRange node) {
  if (node.begin >= node.end || node.end > count) return false;
  LeafRange at{0, count};
  while (at.size() > node.size()) {
    const uint64_t m = middle(at);
    if (node.begin < m)
      at.end = m;
    else
      at.begin = m;
  }
  return at == node;
}

std::vector<Digest> walk_hashes(std::span<const Digest> leaves, LeafRange node) {
  std::vector<Digest> hashes;
  for (const LeafRange& r : walk_ranges(node))
    hashes.push_back(merkle_root(leaves.subspan(r.begin, r.size())));
  return hashes;
}

}  // namespace verbatim
