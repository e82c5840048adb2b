#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <verbatim/core/codec.h>

namespace verbatim {
namespace {

TEST(Codec, IntegersAreLittleEndian) {
  Writer w;
  w.u32(0x01020304);
  w.u64(0x0102030405060708);
  EXPECT_EQ(to_hex(w.bytes()), "040302010807060504030201");
}

RC_GTEST_PROP(Codec, ReadsBackWhatWasWritten,
              (uint8_t a, uint32_t b, uint64_t c, int64_t d, const std::vector<uint8_t>& e)) {
  Writer w;
  w.u8(a), w.u32(b), w.u64(c), w.i64(d);
  w.blob(as_bytes({reinterpret_cast<const char*>(e.data()), e.size()}));
  Reader r(w.bytes(), "x");
  RC_ASSERT(*r.u8() == a);
  RC_ASSERT(*r.u32() == b);
  RC_ASSERT(*r.u64() == c);
  RC_ASSERT(*r.i64() == d);
  RC_ASSERT(r.blob(1 << 20)->size() == e.size());
  RC_ASSERT(r.finish().ok());
}

TEST(Codec, ErrorsNameSourceOffsetAndReason) {
  const Bytes bytes(5);
  Reader r(bytes, "file.bin");
  ASSERT_TRUE(r.u32().ok());
  const Status s = r.u32().status();
  EXPECT_EQ(s.code(), StatusCode::bad_input);
  EXPECT_EQ(s.message(), "file.bin: byte 4: truncated: 4 bytes wanted, 1 left");
  EXPECT_EQ(r.finish().message(), "file.bin: byte 4: 1 bytes too many");
}

TEST(Codec, CountsCannotPromiseMoreThanIsThere) {
  Writer w;
  w.u32(1000);
  Reader r(w.bytes(), "x");
  EXPECT_FALSE(r.count(8, 1 << 20).ok());
}

TEST(Codec, TextRefusesTerminalEscapesAndInvalidUtf8) {
  for (const char* bad : {"\x1b[2J", "a\nb", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                          "\xe2\x80\xae", "\x7f", "\xc2\x9b"}) {
    Writer w;
    w.text(bad);
    Reader r(w.bytes(), "x");
    EXPECT_FALSE(r.text(100).ok()) << to_hex(as_bytes(bad));
  }
  Writer w;
  w.text("grüße 你好 😀");
  Reader r(w.bytes(), "x");
  EXPECT_EQ(*r.text(100), "grüße 你好 😀");
}

TEST(Codec, HexRoundTripAndRefusals) {
  EXPECT_EQ(to_hex(*from_hex("00ff10")), "00ff10");
  EXPECT_FALSE(from_hex("0").ok());
  EXPECT_FALSE(from_hex("0G").ok());
  EXPECT_FALSE(from_hex("FF").ok());  // one canonical form: lowercase
}

// At any length, in characters of any size, or none: it can be read back as text.
TEST(Codec, ShortenedTextIsTextAndNotLonger) {
  EXPECT_EQ(shortened("abc", 3), "abc");
  EXPECT_EQ(shortened("abcdef", 5), "ab...");
  EXPECT_EQ(shortened("\u00e9\u00e9\u00e9", 5), "\u00e9...");
  EXPECT_EQ(shortened("a\x1b", 5), "a?");
  for (const std::string_view unit : {"a", "\u00e9", "\u20ac", "\U0001f600", "\xff", "\x1b"}) {
    std::string s;
    for (int i = 0; i < 400; ++i) {
      for (size_t max = 3; max < 40; ++max) {
        const std::string text = shortened(s, max);
        EXPECT_LE(text.size(), max);
        Writer w;
        w.text(text);
        EXPECT_TRUE(Reader(w.bytes(), "t").text(max).ok()) << to_hex(as_bytes(text));
        if (printable(s).size() <= max) {
          EXPECT_EQ(text, printable(s));
        }
      }
      s += unit;
    }
  }
}

}  // namespace
}  // namespace verbatim
