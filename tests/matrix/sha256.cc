// SHA-256 (FIPS 180-4) without a library, in place of core/sha256.cc.
#include <bit>
#include <cstring>

#include <verbatim/core/hash.h>

namespace verbatim {
namespace {

constexpr uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t load_be(const std::byte* p) {
  uint32_t v = 0;
  for (int i = 0; i < 4; ++i) v = v << 8 | std::to_integer<uint32_t>(p[i]);
  return v;
}

struct State {
  std::array<uint32_t, 8> h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> block;
  uint64_t bytes = 0;

  void compress() {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i) w[i] = load_be(block.data() + 4 * i);
    for (int i = 16; i < 64; ++i) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ (a >> 3)) + w[i - 7] +
             (std::rotr(b, 17) ^ std::rotr(b, 19) ^ (b >> 10));
    }
    std::array<uint32_t, 8> s = h;
    for (int i = 0; i < 64; ++i) {
      const uint32_t e = s[4], a = s[0];
      const uint32_t t1 = s[7] + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                          ((e & s[5]) ^ (~e & s[6])) + kRound[i] + w[i];
      const uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) +
                          ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
      s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
    }
    for (int i = 0; i < 8; ++i) h[i] += s[i];
  }
  void update(ByteView piece) {
    for (const std::byte b : piece) {
      block[bytes++ % 64] = b;
      if (bytes % 64 == 0) compress();
    }
  }
  Digest finish() {
    const uint64_t bits = bytes * 8;
    const std::byte one{0x80}, zero{0};
    update({&one, 1});
    while (bytes % 64 != 56) update({&zero, 1});
    for (int i = 0; i < 8; ++i) {
      const auto b = static_cast<std::byte>(bits >> (56 - 8 * i));
      update({&b, 1});
    }
    Digest digest;
    for (size_t i = 0; i < 32; ++i)
      digest.bytes[i] = static_cast<std::byte>(h[i / 4] >> (24 - 8 * (i % 4)));
    return digest;
  }
};

}  // namespace

Digest sha256(ByteView a, ByteView b, ByteView c) {
  State state;
  for (const ByteView part : {a, b, c}) state.update(part);
  return state.finish();
}

Sha256::Sha256() : context_(std::make_shared<State>()) {}
void Sha256::update(ByteView piece) { static_cast<State*>(context_.get())->update(piece); }
Digest Sha256::finish() { return static_cast<State*>(context_.get())->finish(); }

}  // namespace verbatim
