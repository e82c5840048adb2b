// Many SHA-256 digests at once. With x86's SHA extensions a round waits for the one before it, and
// on many processors half of the unit idles: two messages whose rounds alternate take little longer
// than one. With AVX-512, sixteen take half as long as that. Elsewhere OpenSSL hashes one after
// another.
#include <verbatim/core/hash.h>

#if defined(__x86_64__)
#include <immintrin.h>

#include <array>

#include <verbatim/core/cpu.h>
#include <verbatim/core/sha256_message.h>
#endif

namespace verbatim {
namespace {

#if defined(__x86_64__)

#define VB_SHA gnu::target("sha,sse4.1")

using sha::kBlock;
using sha::kRound;

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

struct Lane {
  sha::Message message;
  State state;

  void start(std::byte prefix, ByteView data, Digest& digest) {
    message.start(prefix, data, digest);
    state = {_mm_set_epi64x(0x6a09e667bb67ae85, 0x510e527f9b05688c),
             _mm_set_epi64x(0x3c6ef372a54ff53a, 0x1f83d9ab5be0cd19)};
  }
  const std::byte* at() const { return message.at(); }
  size_t blocks() const { return message.blocks(); }
  void pass(size_t blocks) {
    if (message.pass(blocks)) message.digest() = digest_of(state);
  }
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
  constexpr size_t kWorthSixteen = 8;
  if (cpu_features().avx512 && messages.size() >= kWorthSixteen)
    return sha::sixteen_at_a_time(prefix, messages, digests);
  if (cpu_features().sha) return two_at_a_time(prefix, messages, digests);
#endif
  for (size_t i = 0; i < messages.size(); ++i) digests[i] = sha256({&prefix, 1}, messages[i]);
}

}  // namespace verbatim
