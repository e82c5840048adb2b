#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <vector>

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

// Every length around the blocks' ends, at an odd address, in one call and thus beside each other.
TEST(Hash, ManyEqualOneByOneAtEveryLength) {
  std::vector<std::byte> bytes(300);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37 + i / 256);
  std::vector<ByteView> messages;
  for (size_t n = 0; n < bytes.size(); ++n) messages.push_back(ByteView(bytes).last(n));
  std::vector<Digest> digests(messages.size());
  const std::byte prefix{7};
  sha256_many(prefix, messages, digests.data());
  for (size_t i = 0; i < messages.size(); ++i)
    EXPECT_EQ(digests[i], sha256({&prefix, 1}, messages[i])) << i;
}

RC_GTEST_PROP(Hash, ManyEqualOneByOne, ()) {
  const auto bytes = *rc::gen::container<std::vector<uint8_t>>(5000, rc::gen::arbitrary<uint8_t>());
  const auto count = *rc::gen::inRange<size_t>(0, 40);
  std::vector<ByteView> messages;
  for (size_t i = 0; i < count; ++i) {
    const auto begin = *rc::gen::inRange<size_t>(0, bytes.size());
    const auto size = *rc::gen::inRange<size_t>(0, bytes.size() - begin + 1);
    messages.push_back(std::as_bytes(std::span(bytes)).subspan(begin, size));
  }
  const auto prefix = std::byte{*rc::gen::arbitrary<uint8_t>()};
  std::vector<Digest> digests(count);
  sha256_many(prefix, messages, digests.data());
  for (size_t i = 0; i < count; ++i) RC_ASSERT(digests[i] == sha256({&prefix, 1}, messages[i]));
}

// Up to three levels of batches.
TEST(Hash, RootEqualsTheRecursiveDefinition) {
  const std::vector<Digest> leaves = leaves_of(3 * kMerkleBatch * kMerkleBatch);
  const auto check = [&](size_t n) {
    const auto some = std::span(leaves).first(n);
    EXPECT_EQ(merkle_root(some), recursive_root(some)) << n;
  };
  for (size_t n = 1; n <= 200; ++n) check(n);
  for (const size_t batches : {size_t{3}, kMerkleBatch - 1, kMerkleBatch, 2 * kMerkleBatch})
    for (size_t n = batches * kMerkleBatch - 2; n <= batches * kMerkleBatch + 2; ++n) check(n);
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
