#include <verbatim/core/signature.h>

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include <verbatim/core/file.h>

namespace verbatim {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

const unsigned char* chars(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }
unsigned char* chars(std::byte* p) { return reinterpret_cast<unsigned char*>(p); }

Key private_key(const std::array<std::byte, 32>& seed) {
  return {EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, chars(seed.data()), seed.size()),
          EVP_PKEY_free};
}

// The y coordinates of the eight points whose order divides 8, and what else decodes to them (y + p
// where it fits in 255 bits): 0, 1, the two of order 8, p - 1, p, p + 1, p being 2^255 - 19. The
// sign bit of x does not matter: with either, these are all the encodings there are.
constexpr std::string_view kSmallOrder[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"};

bool has_small_order(PublicKey key) {
  key.bytes.back() &= std::byte{0x7f};
  return std::ranges::find(kSmallOrder, to_hex(key.bytes)) != std::end(kSmallOrder);
}

}  // namespace

Result<Bytes> random_bytes(size_t n) {
  Bytes bytes(n);
  if (RAND_bytes(chars(bytes.data()), static_cast<int>(n)) != 1)
    return unavailable("the system's random generator failed");
  return bytes;
}

Result<SigningKey> SigningKey::from_seed(const std::array<std::byte, 32>& seed) {
  SigningKey key;
  key.seed_ = seed;
  const Key pkey = private_key(seed);
  size_t size = key.public_key_.bytes.size();
  if (!pkey ||
      EVP_PKEY_get_raw_public_key(pkey.get(), chars(key.public_key_.bytes.data()), &size) != 1)
    return unavailable("OpenSSL has no Ed25519");
  return key;
}

Result<SigningKey> SigningKey::generate() {
  VB_ASSIGN(const Bytes bytes, random_bytes(32));
  std::array<std::byte, 32> seed{};
  std::copy(bytes.begin(), bytes.end(), seed.begin());
  return from_seed(seed);
}

Result<SigningKey> SigningKey::load_or_create(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) {
    VB_ASSIGN(SigningKey key, generate());
    const std::string hex = to_hex(key.seed_) + "\n";
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return unavailable(path + ": cannot create: " + std::strerror(errno));
    const ssize_t n = ::write(fd, hex.data(), hex.size());
    ::close(fd);
    if (n != static_cast<ssize_t>(hex.size())) return unavailable(path + ": cannot write the key");
    return key;
  }
  VB_ASSIGN(const Bytes text, read_file(path, 128));
  std::string_view hex = as_chars(text);
  while (!hex.empty() && hex.back() == '\n') hex.remove_suffix(1);
  const Result<Bytes> bytes = from_hex(hex);
  if (!bytes.ok() || bytes->size() != 32)
    return bad_input(path + ": a key file holds 64 hex digits");
  std::array<std::byte, 32> seed{};
  std::copy(bytes->begin(), bytes->end(), seed.begin());
  return from_seed(seed);
}

Result<Signature> SigningKey::sign(ByteView message) const {
  const Key pkey = private_key(seed_);
  const Context ctx(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  Signature signature;
  size_t size = signature.bytes.size();
  if (!pkey || !ctx || EVP_DigestSignInit(ctx.get(), nullptr, nullptr, nullptr, pkey.get()) != 1 ||
      EVP_DigestSign(ctx.get(), chars(signature.bytes.data()), &size, chars(message.data()),
                     message.size()) != 1)
    return unavailable("Ed25519 signing failed");
  return signature;
}

bool verify_signature(const PublicKey& key, ByteView message, const Signature& signature) {
  if (has_small_order(key)) return false;
  const Key pkey(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, chars(key.bytes.data()),
                                             key.bytes.size()),
                 EVP_PKEY_free);
  const Context ctx(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  return pkey && ctx &&
         EVP_DigestVerifyInit(ctx.get(), nullptr, nullptr, nullptr, pkey.get()) == 1 &&
         EVP_DigestVerify(ctx.get(), chars(signature.bytes.data()), signature.bytes.size(),
                          chars(message.data()), message.size()) == 1;
}

}  // namespace verbatim
