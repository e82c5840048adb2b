#include <verbatim/core/hash.h>

#include <algorithm>
#include <bit>

#include <verbatim/core/parallel.h>

namespace verbatim {
namespace {

size_t left_size(size_t count) { return std::bit_ceil(count) / 2; }  // for count of at least 2

// The root of at least one and at most kMerkleBatch leaves, which are overwritten. A level at a
// time, an odd last one moving up unpaired, is the same tree as RFC 6962's recursion.
Digest small_root(std::span<Digest> level) {
  while (level.size() > 1) {
    const size_t pairs = level.size() / 2, above = pairs + level.size() % 2;
    std::array<ByteView, kMerkleBatch / 2> children;
    std::array<Digest, kMerkleBatch / 2> parents;
    for (size_t i = 0; i < pairs; ++i) children[i] = std::as_bytes(level.subspan(2 * i, 2));
    sha256_many(std::byte{1}, std::span(children).first(pairs), parents.data());
    level[above - 1] = level.back();
    std::copy_n(parents.begin(), pairs, level.begin());
    level = level.first(above);
  }
  return level[0];
}

}  // namespace

Result<Digest> digest_from_hex(std::string_view hex) {
  VB_ASSIGN(const Bytes bytes, from_hex(hex));
  Digest digest;
  if (bytes.size() != digest.bytes.size())
    return bad_input("a digest has 64 hex digits, this has " + std::to_string(hex.size()));
  std::copy(bytes.begin(), bytes.end(), digest.bytes.begin());
  return digest;
}

Result<Digest> read_digest(Reader& reader) {
  Digest digest;
  VB_ASSIGN(const ByteView bytes, reader.raw(digest.bytes.size()));
  std::copy(bytes.begin(), bytes.end(), digest.bytes.begin());
  return digest;
}

Digest tagged_hash(std::string_view tag, ByteView body) {
  const std::byte length{static_cast<uint8_t>(tag.size())};
  return sha256({&length, 1}, as_bytes(tag), body);
}

Digest merkle_leaf(ByteView data) {
  const std::byte prefix{0};
  return sha256({&prefix, 1}, data);
}

Digest merkle_node(const Digest& left, const Digest& right) {
  const std::byte prefix{1};
  return sha256({&prefix, 1}, left.bytes, right.bytes);
}

Digest merkle_root(size_t count, const MakeLeaves& make) {
  if (count == 0) return sha256({});
  // Roots of a power of two of leaves are leaves of the tree above them.
  const size_t batches = (count + kMerkleBatch - 1) / kMerkleBatch;
  const auto root_of = [&](size_t batch) {
    std::array<Digest, kMerkleBatch> leaves;
    const size_t first = batch * kMerkleBatch;
    const auto level = std::span(leaves).first(std::min(kMerkleBatch, count - first));
    make(first, level);
    return small_root(level);
  };
  if (batches == 1) return root_of(0);
  std::vector<Digest> roots(batches);
  parallel_for(static_cast<int64_t>(batches), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) roots[i] = root_of(static_cast<size_t>(i));
  });
  return merkle_root(roots);
}

Digest merkle_root(std::span<const Digest> leaves) {
  return merkle_root(leaves.size(), [&](size_t first, std::span<Digest> out) {
    std::ranges::copy(leaves.subspan(first, out.size()), out.begin());
  });
}

MerkleProof merkle_proof(std::span<const Digest> leaves, size_t index) {
  if (leaves.size() <= 1) return {};
  const size_t left = left_size(leaves.size());
  const bool in_left = index < left;
  MerkleProof proof = in_left ? merkle_proof(leaves.first(left), index)
                              : merkle_proof(leaves.subspan(left), index - left);
  proof.push_back(merkle_root(in_left ? leaves.subspan(left) : leaves.first(left)));
  return proof;
}

size_t merkle_path_length(size_t count, size_t index) {
  size_t length = 0;
  for (; count > 1; ++length) {
    const size_t left = left_size(count);
    if (index < left) {
      count = left;
    } else {
      index -= left;
      count -= left;
    }
  }
  return length;
}

bool merkle_verify(const Digest& root, size_t count, size_t index, const Digest& leaf,
                   std::span<const Digest> proof) {
  if (index >= count || proof.size() != merkle_path_length(count, index)) return false;
  // From the root downwards the side is known; the path is folded back from the leaf.
  std::vector<bool> is_left;
  for (size_t n = count, i = index; n > 1;) {
    const size_t left = left_size(n);
    is_left.push_back(i < left);
    if (i < left) {
      n = left;
    } else {
      i -= left;
      n -= left;
    }
  }
  Digest hash = leaf;
  for (const Digest& sibling : proof) {
    hash = is_left.back() ? merkle_node(hash, sibling) : merkle_node(sibling, hash);
    is_left.pop_back();
  }
  return hash == root;
}

}  // namespace verbatim
