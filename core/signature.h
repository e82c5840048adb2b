// Ed25519 keys and signatures (RFC 8032), through OpenSSL.
#pragma once

#include <array>
#include <string>

#include <verbatim/core/codec.h>
#include <verbatim/core/status.h>

namespace verbatim {

struct PublicKey {
  std::array<std::byte, 32> bytes{};
  auto operator<=>(const PublicKey&) const = default;
};
struct Signature {
  std::array<std::byte, 64> bytes{};
};

class SigningKey {
 public:
  static Result<SigningKey> generate();
  static Result<SigningKey> from_seed(const std::array<std::byte, 32>& seed);
  // A file of 64 hex digits; made with mode 0600 where it is missing.
  static Result<SigningKey> load_or_create(const std::string& path);

  const PublicKey& public_key() const { return public_key_; }
  Result<Signature> sign(ByteView message) const;

 private:
  std::array<std::byte, 32> seed_{};
  PublicKey public_key_;
};

// False for every signature by a key of small order: such a key fits signatures that nobody made.
bool verify_signature(const PublicKey& key, ByteView message, const Signature& signature);

// Bytes from the system's generator: nonces and keys.
Result<Bytes> random_bytes(size_t n);

}  // namespace verbatim
