// Walking down a Merkle tree that somebody else holds, sixteen subtrees at a time.
//
// A tree node is named by the range of leaves under it. Its descendants four levels down (a leaf
// that comes earlier stays) hash up to it, so each answer is a child of something the other side is
// committed to already; positions come from the asker.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <verbatim/core/hash.h>

namespace verbatim {

struct LeafRange {
  uint64_t begin = 0, end = 0;
  uint64_t size() const { return end - begin; }
  bool operator==(const LeafRange&) const = default;
};

inline constexpr int kWalkLevels = 4;
inline constexpr uint32_t kMaxWalkWidth = 1 << kWalkLevels;

// In order; at most kMaxWalkWidth. `node` must not be empty.
std::vector<LeafRange> walk_ranges(LeafRange node);
// The hash of `node` from the hashes of walk_ranges(node); hashes.size() must be their number.
Digest walk_fold(LeafRange node, std::span<const Digest> hashes);
// Whether `node` is a node of the tree of `count` leaves.
bool is_tree_node(uint64_t count, LeafRange node);
// The hashes of walk_ranges(node), from all the leaves of the tree.
std::vector<Digest> walk_hashes(std::span<const Digest> leaves, LeafRange node);

}  // namespace verbatim
