// SHA-256 itself, by OpenSSL: the one file that a build without it replaces.
#include <openssl/evp.h>

#include <cstdio>
#include <cstdlib>

#include <verbatim/core/hash.h>

namespace verbatim {
namespace {

// One context a thread: EVP_Digest would fetch the algorithm anew for each of millions of leaves.
EVP_MD_CTX* context() {
  struct Owner {
    EVP_MD_CTX* ctx = EVP_MD_CTX_new();
    ~Owner() { EVP_MD_CTX_free(ctx); }
  };
  thread_local Owner owner;
  return owner.ctx;
}

void require(bool done) {
  if (done) return;
  std::fputs("verbatim: SHA-256 is not available from OpenSSL\n", stderr);
  std::abort();
}

const EVP_MD* algorithm() {
  static const EVP_MD* md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  require(md != nullptr);
  return md;
}

EVP_MD_CTX* evp(const std::shared_ptr<void>& context) {
  return static_cast<EVP_MD_CTX*>(context.get());
}

}  // namespace

Digest sha256(ByteView a, ByteView b, ByteView c) {
  Digest digest;
  EVP_MD_CTX* ctx = context();
  require(ctx != nullptr && EVP_DigestInit_ex2(ctx, algorithm(), nullptr) == 1);
  for (const ByteView part : {a, b, c})
    require(part.empty() || EVP_DigestUpdate(ctx, part.data(), part.size()) == 1);
  require(EVP_DigestFinal_ex(ctx, reinterpret_cast<unsigned char*>(digest.bytes.data()), nullptr) ==
          1);
  return digest;
}

Sha256::Sha256()
    : context_(EVP_MD_CTX_new(), [](void* c) { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(c)); }) {
  require(context_ != nullptr && EVP_DigestInit_ex2(evp(context_), algorithm(), nullptr) == 1);
}

void Sha256::update(ByteView piece) {
  require(piece.empty() || EVP_DigestUpdate(evp(context_), piece.data(), piece.size()) == 1);
}

Digest Sha256::finish() {
  Digest digest;
  require(EVP_DigestFinal_ex(evp(context_), reinterpret_cast<unsigned char*>(digest.bytes.data()),
                             nullptr) == 1);
  return digest;
}

}  // namespace verbatim
