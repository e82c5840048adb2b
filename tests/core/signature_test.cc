#include <gtest/gtest.h>

#include <filesystem>

#include <verbatim/core/signature.h>

namespace verbatim {
namespace {

// RFC 8032, section 7.1, test 2.
TEST(Signature, KnownAnswer) {
  std::array<std::byte, 32> seed{};
  const Bytes bytes = *from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
  std::copy(bytes.begin(), bytes.end(), seed.begin());
  const SigningKey key = *SigningKey::from_seed(seed);
  EXPECT_EQ(to_hex(key.public_key().bytes),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  const Bytes message = *from_hex("72");
  Signature s = *key.sign(message);
  EXPECT_EQ(to_hex(s.bytes),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f36"
            "13d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
  EXPECT_TRUE(verify_signature(key.public_key(), message, s));
  EXPECT_FALSE(verify_signature(key.public_key(), *from_hex("73"), s));
  s.bytes[5] ^= std::byte{1};
  EXPECT_FALSE(verify_signature(key.public_key(), message, s));
}

// For such a key, one signature without any secret fits every message, or every eighth.
TEST(Signature, KeysOfSmallOrderSignNothing) {
  const char* const encodings[] = {
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
      "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"};
  Signature identity;  // R is the neutral point, S is 0
  identity.bytes[0] = std::byte{1};
  for (const char* const hex : encodings)
    for (const uint8_t sign : {0x00, 0x80}) {
      PublicKey key;
      const Bytes bytes = *from_hex(hex);
      std::copy(bytes.begin(), bytes.end(), key.bytes.begin());
      key.bytes.back() |= std::byte{sign};
      for (uint8_t i = 0; i < 64; ++i) {
        const std::byte message[] = {std::byte{i}};
        EXPECT_FALSE(verify_signature(key, message, identity)) << to_hex(key.bytes);
      }
    }
}

TEST(Signature, KeysPersistAndBadKeyFilesAreRefused) {
  const std::string path = testing::TempDir() + "/verbatim_key_test";
  std::filesystem::remove(path);
  const SigningKey made = *SigningKey::load_or_create(path);
  EXPECT_EQ(SigningKey::load_or_create(path)->public_key(), made.public_key());
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::resize_file(path, 20);
  EXPECT_FALSE(SigningKey::load_or_create(path).ok());
}

}  // namespace
}  // namespace verbatim
