// SHA-256, and Merkle trees over it.
//
// The tree is RFC 6962's (section 2.1): leaf = H(0x00, data), node = H(0x01, left, right), the left
// subtree of n leaves has the largest power of two below n; nothing is duplicated. What a root
// stands for is said by a tag: tagged_hash() below.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <verbatim/core/codec.h>
#include <verbatim/core/status.h>

namespace verbatim {

struct Digest {
  std::array<std::byte, 32> bytes{};
  auto operator<=>(const Digest&) const = default;
  std::string hex() const { return to_hex(bytes); }
};
Result<Digest> digest_from_hex(std::string_view hex);
Result<Digest> read_digest(Reader& reader);

Digest sha256(ByteView a, ByteView b = {}, ByteView c = {});

// digests[i] = sha256(prefix, messages[i]): together they take less time than one after another.
void sha256_many(std::byte prefix, std::span<const ByteView> messages, Digest* digests);

// sha256() over bytes that come piece by piece.
class Sha256 {
 public:
  Sha256();
  void update(ByteView piece);
  Digest finish();  // once, at the end

 private:
  std::shared_ptr<void> context_;
};

// H(len(tag) as one byte, tag, body): no two kinds of object share a preimage.
Digest tagged_hash(std::string_view tag, ByteView body);

Digest merkle_leaf(ByteView data);
Digest merkle_node(const Digest& left, const Digest& right);
Digest merkle_root(std::span<const Digest> leaves);  // no leaves: SHA-256 of nothing

// The same of `count` leaves that are made when they are needed, by several threads: make(first,
// leaves) sets leaves[i] to the leaf first + i, of which it is asked for kMerkleBatch at most.
inline constexpr size_t kMerkleBatch = 64;
using MakeLeaves = std::function<void(size_t first, std::span<Digest> leaves)>;
Digest merkle_root(size_t count, const MakeLeaves& make);

// Siblings from the leaf upwards.
using MerkleProof = std::vector<Digest>;
MerkleProof merkle_proof(std::span<const Digest> leaves, size_t index);
// The index and count are the verifier's own knowledge; a proof of another length than the path's
// is refused.
bool merkle_verify(const Digest& root, size_t count, size_t index, const Digest& leaf,
                   std::span<const Digest> proof);
size_t merkle_path_length(size_t count, size_t index);

}  // namespace verbatim
