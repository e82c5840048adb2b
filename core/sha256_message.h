// What the ways of computing many SHA-256 digests at once share (FIPS 180-4).
#pragma once

#include <algorithm>
#include <cstring>

#include <verbatim/core/hash.h>

namespace verbatim::sha {

inline constexpr size_t kBlock = 64;

inline constexpr uint32_t kInitial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

// 4.2.2.
alignas(16) inline constexpr uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// A message on its way: a prefix byte, data, and the padding (5.1.1). The first and the last blocks
// are put together in `edges`; those between are read where they lie.
class Message {
 public:
  void start(std::byte prefix, ByteView data, Digest& digest) {
    const size_t size = 1 + data.size(), whole = size / kBlock, rest = size % kBlock;
    const size_t first = std::min<size_t>(whole, 1), last = rest + 9 <= kBlock ? 1 : 2;
    std::memset(edges_, 0, sizeof edges_);
    edges_[0] = prefix;
    copy(data.first(first != 0 ? kBlock - 1 : rest - 1), edges_ + 1);
    std::byte* const end = edges_ + kBlock * first;
    if (first != 0) copy(data.last(rest), end);
    end[rest] = std::byte{0x80};
    for (size_t i = 0; i < 8; ++i)
      end[kBlock * last - 1 - i] = static_cast<std::byte>(uint64_t{size} * 8 >> (8 * i));
    if (whole > 1) {
      pieces_[0] = {edges_, 1};
      pieces_[1] = {data.data() + (kBlock - 1), whole - 1};
      pieces_[2] = {end, last};
      piece_ = 0;
    } else {
      pieces_[2] = {edges_, first + last};
      piece_ = 2;
    }
    digest_ = &digest;
  }
  // The blocks that come next and lie together; none once the message is at its end.
  const std::byte* at() const { return pieces_[piece_].at; }
  size_t blocks() const { return piece_ < 3 ? pieces_[piece_].blocks : 0; }
  // True at the message's end.
  bool pass(size_t blocks) {
    Piece& p = pieces_[piece_];
    p.at += kBlock * blocks;
    p.blocks -= blocks;
    return p.blocks == 0 && ++piece_ == 3;
  }
  Digest& digest() const { return *digest_; }

 private:
  struct Piece {
    const std::byte* at = nullptr;
    size_t blocks = 0;
  };
  static void copy(ByteView from, std::byte* to) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }
  std::byte edges_[3 * kBlock];
  Piece pieces_[3];
  int piece_ = 3;
  Digest* digest_ = nullptr;
};

// With AVX-512 alone: sixteen messages, one to each lane of a register.
void sixteen_at_a_time(std::byte prefix, std::span<const ByteView> messages, Digest* digests);

}  // namespace verbatim::sha
