#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>

#include <verbatim/core/hash.h>

namespace verbatim {
namespace {

std::vector<Digest> leaves_of(size_t n) {
  std::vector<Digest> leaves;
  for (size_t i = 0; i < n; ++i) leaves.push_back(merkle_leaf(as_bytes(std::to_string(i))));
  return leaves;
}

// RFC 6962, section 2.1, as recursion: the specification that the level-wise code must equal.
Digest recursive_root(std::span<const Digest> d) {
  if (d.size() == 1) return d[0];
  const size_t k = std::bit_ceil(d.size()) / 2;
  return merkle_node(recursive_root(d.first(k)), recursive_root(d.subspan(k)));
}

TEST(Hash, KnownDigests) {
  EXPECT_EQ(sha256(as_bytes("abc")).hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2
  EXPECT_EQ(merkle_root({}).hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  // Certificate Transparency's test tree: the leaf of the empty string.
  EXPECT_EQ(merkle_leaf({}).hex(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
}

TEST(Hash, RootEqualsTheRecursiveDefinition) {
  for (size_t n = 1; n <= 130; ++n)
    EXPECT_EQ(merkle_root(leaves_of(n)), recursive_root(leaves_of(n))) << n;
}

TEST(Hash, TagsSeparate) {
  EXPECT_NE(tagged_hash("a", as_bytes("bc")), tagged_hash("ab", as_bytes("c")));
}

RC_GTEST_PROP(Hash, ProofsVerifyAndNothingElseDoes, ()) {
  const auto n = *rc::gen::inRange<size_t>(1, 100);
  const auto i = *rc::gen::inRange<size_t>(0, n);
  const std::vector<Digest> leaves = leaves_of(n);
  const Digest root = merkle_root(leaves);
  MerkleProof proof = merkle_proof(leaves, i);
  RC_ASSERT(merkle_verify(root, n, i, leaves[i], proof));
  const auto other = *rc::gen::inRange<size_t>(0, n);
  if (other != i) {
    RC_ASSERT(!merkle_verify(root, n, other, leaves[i], proof));
    RC_ASSERT(!merkle_verify(root, n, i, leaves[other], proof));
  }
  RC_ASSERT(!merkle_verify(root, n, n, leaves[i], proof));
  proof.push_back(root);
  RC_ASSERT(!merkle_verify(root, n, i, leaves[i], proof));
}

TEST(Hash, AnOddLeafIsNotDuplicated) {
  std::vector<Digest> three = leaves_of(3), four = three;
  four.push_back(three[2]);
  EXPECT_NE(merkle_root(three), merkle_root(four));
}

}  // namespace
}  // namespace verbatim
