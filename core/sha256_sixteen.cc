// Sixteen SHA-256 digests at once: every register holds one word of sixteen messages.
#include <verbatim/core/sha256_message.h>

#if defined(__x86_64__)
// GCC 12 takes the deliberately undefined operands of its own intrinsics for mistakes (PR 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

namespace verbatim::sha {
namespace {

#define VB_AVX512 gnu::target("avx512f,avx512bw")
#define VB_AVX512_INLINE VB_AVX512, gnu::always_inline

constexpr int kLanes = 16;

struct Words {
  __m512i w[16];
};

[[VB_AVX512_INLINE]] inline __m512i add(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
[[VB_AVX512_INLINE]] inline __m512i exclusive_or(__m512i a, __m512i b, __m512i c) {
  return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

// Rows of sixteen words become columns.
[[VB_AVX512_INLINE]] inline void transpose(Words& x) {
  Words y;
  for (int i = 0; i < 16; i += 2) {
    y.w[i] = _mm512_unpacklo_epi32(x.w[i], x.w[i + 1]);
    y.w[i + 1] = _mm512_unpackhi_epi32(x.w[i], x.w[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // x.w[i + c]: column c of each quarter, of rows i to i + 3
    x.w[i] = _mm512_unpacklo_epi64(y.w[i], y.w[i + 2]);
    x.w[i + 1] = _mm512_unpackhi_epi64(y.w[i], y.w[i + 2]);
    x.w[i + 2] = _mm512_unpacklo_epi64(y.w[i + 1], y.w[i + 3]);
    x.w[i + 3] = _mm512_unpackhi_epi64(y.w[i + 1], y.w[i + 3]);
  }
  for (int c = 0; c < 4; ++c) {
    const __m512i even0 = _mm512_shuffle_i32x4(x.w[c], x.w[4 + c], 0x88),
                  odd0 = _mm512_shuffle_i32x4(x.w[c], x.w[4 + c], 0xDD),
                  even1 = _mm512_shuffle_i32x4(x.w[8 + c], x.w[12 + c], 0x88),
                  odd1 = _mm512_shuffle_i32x4(x.w[8 + c], x.w[12 + c], 0xDD);
    y.w[c] = _mm512_shuffle_i32x4(even0, even1, 0x88);
    y.w[4 + c] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
    y.w[8 + c] = _mm512_shuffle_i32x4(even0, even1, 0xDD);
    y.w[12 + c] = _mm512_shuffle_i32x4(odd0, odd1, 0xDD);
  }
  x = y;
}

// The words of one block of each message.
[[VB_AVX512_INLINE]] inline Words load(const std::byte* const (&at)[kLanes], size_t block) {
  const __m512i big_endian =
      _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
  Words x;
  for (int l = 0; l < kLanes; ++l)
    x.w[l] = _mm512_shuffle_epi8(_mm512_loadu_si512(at[l] + kBlock * block), big_endian);
  transpose(x);
  return x;
}

// Word 16 after w[j], in its place (6.2.2, step 1).
[[VB_AVX512_INLINE]] inline void schedule(Words& w, int j) {
  const __m512i a = w.w[(j + 1) % 16], b = w.w[(j + 14) % 16];
  const __m512i s0 = exclusive_or(_mm512_ror_epi32(a, 7), _mm512_ror_epi32(a, 18),
                                  _mm512_srli_epi32(a, 3)),
                s1 = exclusive_or(_mm512_ror_epi32(b, 17), _mm512_ror_epi32(b, 19),
                                  _mm512_srli_epi32(b, 10));
  w.w[j] = add(add(w.w[j], s0), add(w.w[(j + 9) % 16], s1));
}

// Step 3 with `word` = K + W. The variable that is a after `j` rounds is s[-j mod 8].
[[VB_AVX512_INLINE]] inline void round(__m512i (&s)[8], __m512i word, int j) {
  const auto at = [j](int i) { return (i - j) & 7; };
  const __m512i a = s[at(8)], b = s[at(9)], c = s[at(10)], e = s[at(12)], f = s[at(13)],
                g = s[at(14)];
  const __m512i sum1 = exclusive_or(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11),
                                    _mm512_ror_epi32(e, 25)),
                choice = _mm512_ternarylogic_epi32(e, f, g, 0xCA),
                sum0 = exclusive_or(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13),
                                    _mm512_ror_epi32(a, 22)),
                majority = _mm512_ternarylogic_epi32(a, b, c, 0xE8);
  const __m512i t1 = add(add(add(s[at(15)], word), choice), sum1);
  s[at(11)] = add(s[at(11)], t1);
  s[at(15)] = add(t1, add(sum0, majority));
}

template <bool kSchedule>
[[VB_AVX512_INLINE]] inline void sixteen_rounds(__m512i (&s)[8], Words& w, const uint32_t* k) {
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) {
    if constexpr (kSchedule) schedule(w, j);
    round(s, add(w.w[j], _mm512_set1_epi32(static_cast<int>(k[j]))), j);
  }
}

[[VB_AVX512]] void compress(uint32_t (&state)[8][kLanes], const std::byte* const (&at)[kLanes],
                            size_t blocks) {
  __m512i s[8];
  for (int i = 0; i < 8; ++i) s[i] = _mm512_load_si512(state[i]);
  for (size_t block = 0; block < blocks; ++block) {
    Words w = load(at, block);
    sixteen_rounds<false>(s, w, kRound);
    for (int t = 16; t < 64; t += 16) sixteen_rounds<true>(s, w, kRound + t);
    for (int i = 0; i < 8; ++i) {
      s[i] = add(s[i], _mm512_load_si512(state[i]));
      _mm512_store_si512(state[i], s[i]);
    }
  }
}

}  // namespace

// A lane takes the next message when its own is done, so lengths may differ; one that has none
// computes what another does.
void sixteen_at_a_time(std::byte prefix, std::span<const ByteView> messages, Digest* digests) {
  Message lanes[kLanes];
  alignas(64) uint32_t state[8][kLanes] = {};
  for (size_t next = 0;;) {
    const Message* busy = nullptr;
    for (int l = 0; l < kLanes; ++l) {
      if (lanes[l].blocks() == 0 && next < messages.size()) {
        lanes[l].start(prefix, messages[next], digests[next]);
        ++next;
        for (int i = 0; i < 8; ++i) state[i][l] = kInitial[i];
      }
      if (lanes[l].blocks() > 0 && (busy == nullptr || lanes[l].blocks() < busy->blocks()))
        busy = &lanes[l];
    }
    if (busy == nullptr) return;
    const size_t blocks = busy->blocks();
    const std::byte* at[kLanes];
    for (int l = 0; l < kLanes; ++l) at[l] = lanes[l].blocks() > 0 ? lanes[l].at() : busy->at();
    compress(state, at, blocks);
    for (int l = 0; l < kLanes; ++l) {
      if (lanes[l].blocks() == 0 || !lanes[l].pass(blocks)) continue;
      for (int i = 0; i < 8; ++i) {
        const uint32_t big_endian = __builtin_bswap32(state[i][l]);
        std::memcpy(lanes[l].digest().bytes.data() + 4 * i, &big_endian, sizeof big_endian);
      }
    }
  }
}

}  // namespace verbatim::sha

#endif
