#include <verbatim/core/codec.h>

namespace verbatim {
namespace {

// Length of the UTF-8 sequence at the start of s and its code point; 0 where it is invalid.
size_t decode_utf8(std::string_view s, uint32_t& code) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t b = byte(0);
  if (b < 0x80) {
    code = b;
    return 1;
  }
  const size_t length = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : b >= 0xC2 ? 2 : 0;
  if (length == 0 || b > 0xF4 || s.size() < length) return 0;
  code = b & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3F);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0;
  return length;
}

// Bidirectional overrides reorder what a person reads; the C0 and C1 controls move the cursor.
bool is_control(uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

size_t valid_utf8_prefix(std::string_view s) {
  uint32_t code = 0;
  size_t at = 0;
  while (at < s.size()) {
    const size_t n = decode_utf8(s.substr(at), code);
    if (n == 0) break;
    at += n;
  }
  return at;
}

bool is_valid_utf8(std::string_view s) { return valid_utf8_prefix(s) == s.size(); }

std::string printable(std::string_view s) {
  std::string out;
  uint32_t code = 0;
  while (!s.empty()) {
    const size_t n = decode_utf8(s, code);
    if (n == 0 || is_control(code))
      out += '?';
    else
      out.append(s.substr(0, n));
    s.remove_prefix(n == 0 ? 1 : n);
  }
  return out;
}

std::string shortened(std::string_view s, size_t max_bytes) {
  constexpr std::string_view kDots = "...";
  // Whatever is cut off needs no look; a character has at most 4 bytes.
  std::string out = printable(s.substr(0, max_bytes + 4));
  if (out.size() <= max_bytes) return out;
  size_t end = max_bytes - kDots.size();
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80) --end;
  return out.substr(0, end).append(kDots);
}

Result<ByteView> Reader::raw(size_t n) {
  if (n > remaining())
    return fail("truncated: " + std::to_string(n) + " bytes wanted, " +
                std::to_string(remaining()) + " left");
  const ByteView b = bytes_.subspan(offset_, n);
  offset_ += n;
  return b;
}

Result<ByteView> Reader::blob(size_t max_size) {
  VB_ASSIGN(const uint32_t n, u32());
  if (n > max_size)
    return fail("length " + std::to_string(n) + " is above the limit of " +
                std::to_string(max_size));
  return raw(n);
}

Result<std::string> Reader::text(size_t max_size) {
  VB_ASSIGN(const ByteView b, blob(max_size));
  const std::string_view s = as_chars(b);
  if (printable(s) != s) return fail("text holds control characters or invalid UTF-8");
  return std::string(s);
}

Result<uint32_t> Reader::count(size_t item_size, uint32_t max_count) {
  VB_ASSIGN(const uint32_t n, u32());
  if (n > max_count)
    return fail("count " + std::to_string(n) + " is above the limit of " +
                std::to_string(max_count));
  if (item_size != 0 && n > remaining() / item_size)
    return fail("count " + std::to_string(n) + " promises more than the bytes left");
  return n;
}

Status Reader::finish() const {
  return remaining() == 0 ? Status() : fail(std::to_string(remaining()) + " bytes too many");
}

std::string to_hex(ByteView b) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string s;
  s.reserve(2 * b.size());
  for (std::byte x : b) {
    s += kDigits[static_cast<uint8_t>(x) >> 4];
    s += kDigits[static_cast<uint8_t>(x) & 15];
  }
  return s;
}

Result<Bytes> from_hex(std::string_view hex) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (hex.size() % 2 != 0) return bad_input("hex string of odd length");
  Bytes out;
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = digit(hex[i]), low = digit(hex[i + 1]);
    if (high < 0 || low < 0) return bad_input("not a lowercase hex digit at " + std::to_string(i));
    out.push_back(static_cast<std::byte>(high * 16 + low));
  }
  return out;
}

}  // namespace verbatim
