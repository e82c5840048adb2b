// Many SHA-256 digests at once. With x86's SHA extensions a round waits for the one before it, and
// half of the processor idles: two messages whose rounds alternate take little longer than one.
// Elsewhere OpenSSL hashes one after another.
#include <verbatim/core/hash.h>

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <verbatim/core/cpu.h>
#endif

namespace verbatim {
namespace {

#if defined(__x86_64__)

#define VB_SHA gnu::target("sha,sse4.1")

constexpr size_t kBlock = 64;

// FIPS 180-4, 4.2.2.
alignas(16) constexpr uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// The working variables, each word above the next, as the instructions want them.
struct State {
  __m128i abef, cdgh;
};

// Of both messages: four words of the message schedule; the working variables.
struct Words {
  __m128i of[2];
};
struct States {
  State of[2];
};

[[VB_SHA, gnu::always_inline]] inline Words load(const std::array<const std::byte*, 2>& at,
                                                 size_t block, int i) {
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  Words w;
  for (int m = 0; m < 2; ++m)
    w.of[m] = _mm_shuffle_epi8(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(at[m] + kBlock * block + 16 * i)),
        big_endian);
  return w;
}

// The words 16 to 19 after those of `a`; a, b, c, d follow each other.
[[VB_SHA, gnu::always_inline]] inline Words schedule(const Words& a, const Words& b, const Words& c,
                                                     const Words& d) {
  Words w;
  for (int m = 0; m < 2; ++m)
    w.of[m] = _mm_sha256msg2_epu32(
        _mm_add_epi32(_mm_sha256msg1_epu32(a.of[m], b.of[m]), _mm_alignr_epi8(d.of[m], c.of[m], 4)),
        d.of[m]);
  return w;
}

// Rounds 4 i to 4 i + 3.
[[VB_SHA, gnu::always_inline]] inline void rounds(States& states, const Words& w, int i) {
  const __m128i k = _mm_load_si128(reinterpret_cast<const __m128i*>(kRound + 4 * i));
  Words sum;
  for (int m = 0; m < 2; ++m) sum.of[m] = _mm_add_epi32(w.of[m], k);
  for (int m = 0; m < 2; ++m) {
    State& s = states.of[m];
    s.cdgh = _mm_sha256rnds2_epu32(s.cdgh, s.abef, sum.of[m]);
  }
  for (int m = 0; m < 2; ++m) {
    State& s = states.of[m];
    s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32(sum.of[m], 0x0e));
  }
}

// The next `blocks` blocks of each of two messages.
[[VB_SHA]] void compress(std::array<State*, 2> both, std::array<const std::byte*, 2> at,
                         size_t blocks) {
  States s = {{*both[0], *both[1]}};
  for (size_t block = 0; block < blocks; ++block) {
    const States before = s;
    Words a = load(at, block, 0), b = load(at, block, 1), c = load(at, block, 2),
          d = load(at, block, 3);
    rounds(s, a, 0);
    rounds(s, b, 1);
    rounds(s, c, 2);
    rounds(s, d, 3);
    for (int i = 4; i < 16; i += 4) {
      a = schedule(a, b, c, d);
      rounds(s, a, i);
      b = schedule(b, c, d, a);
      rounds(s, b, i + 1);
      c = schedule(c, d, a, b);
      rounds(s, c, i + 2);
      d = schedule(d, a, b, c);
      rounds(s, d, i + 3);
    }
    for (int m = 0; m < 2; ++m) {
      s.of[m].abef = _mm_add_epi32(s.of[m].abef, before.of[m].abef);
      s.of[m].cdgh = _mm_add_epi32(s.of[m].cdgh, before.of[m].cdgh);
    }
  }
  for (int m = 0; m < 2; ++m) *both[m] = s.of[m];
}

[[VB_SHA]] Digest digest_of(const State& s) {
  const __m128i reversed = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  Digest d;
  auto* out = reinterpret_cast<__m128i*>(d.bytes.data());
  _mm_storeu_si128(out, _mm_shuffle_epi8(_mm_unpackhi_epi64(s.cdgh, s.abef), reversed));
  _mm_storeu_si128(out + 1, _mm_shuffle_epi8(_mm_unpacklo_epi64(s.cdgh, s.abef), reversed));
  return d;
}

// A message on its way: a prefix byte, data, and FIPS 180-4's padding (5.1.1). The first and the
// last blocks are put together in `edges`; those between are read where they lie.
class Lane {
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
    state = {_mm_set_epi64x(0x6a09e667bb67ae85, 0x510e527f9b05688c),
             _mm_set_epi64x(0x3c6ef372a54ff53a, 0x1f83d9ab5be0cd19)};
    digest_ = &digest;
  }
  // The blocks that come next and lie together; none once the message is at its end.
  const std::byte* at() const { return pieces_[piece_].at; }
  size_t blocks() const { return piece_ < 3 ? pieces_[piece_].blocks : 0; }
  void pass(size_t blocks) {
    Piece& p = pieces_[piece_];
    p.at += kBlock * blocks;
    p.blocks -= blocks;
    if (p.blocks == 0 && ++piece_ == 3) *digest_ = digest_of(state);
  }
  State state;

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

// A lane takes the next message when its own is done, so lengths may differ.
void two_at_a_time(std::byte prefix, std::span<const ByteView> messages, Digest* digests) {
  Lane lanes[2];
  for (size_t next = 0;;) {
    for (Lane& lane : lanes) {
      if (lane.blocks() > 0 || next == messages.size()) continue;
      lane.start(prefix, messages[next], digests[next]);
      ++next;
    }
    Lane &a = lanes[lanes[0].blocks() > 0 ? 0 : 1], &b = lanes[&a == &lanes[0] ? 1 : 0];
    if (a.blocks() == 0) return;
    if (b.blocks() > 0) {
      const size_t blocks = std::min(a.blocks(), b.blocks());
      compress({&a.state, &b.state}, {a.at(), b.at()}, blocks);
      a.pass(blocks);
      b.pass(blocks);
    } else {
      State idle = a.state;
      compress({&a.state, &idle}, {a.at(), a.at()}, a.blocks());
      a.pass(a.blocks());
    }
  }
}

#endif

}  // namespace

void sha256_many(std::byte prefix, std::span<const ByteView> messages, Digest* digests) {
#if defined(__x86_64__)
  if (cpu_features().sha) return two_at_a_time(prefix, messages, digests);
#endif
  for (size_t i = 0; i < messages.size(); ++i) digests[i] = sha256({&prefix, 1}, messages[i]);
}

}  // namespace verbatim
