// The canonical byte form of everything that is hashed, signed or sent: little-endian fixed-width
// integers, byte strings with a 32-bit length. There is one encoding of each value, and a Reader
// refuses anything else, bytes left over included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <verbatim/core/status.h>

namespace verbatim {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

inline ByteView as_bytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}
inline std::string_view as_chars(ByteView b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

// Unaligned little-endian loads and stores, the same on every machine.
template <class T>
T load_le(const std::byte* p) {
  uint64_t v = 0;
  for (size_t i = 0; i < sizeof(T); ++i) v |= static_cast<uint64_t>(p[i]) << (8 * i);
  return static_cast<T>(v);
}
template <class T>
void store_le(std::byte* p, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    p[i] = static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i));
}

class Writer {
 public:
  void u8(uint8_t v) { fixed(v); }
  void u32(uint32_t v) { fixed(v); }
  void u64(uint64_t v) { fixed(v); }
  void i64(int64_t v) { fixed(static_cast<uint64_t>(v)); }
  void raw(ByteView b) {
    bytes_.insert(bytes_.end(), b.begin(), b.end());
  }  // no length: for fixed-size fields
  void blob(ByteView b) {
    u32(static_cast<uint32_t>(b.size()));
    raw(b);
  }
  void text(std::string_view s) { blob(as_bytes(s)); }

  const Bytes& bytes() const { return bytes_; }
  Bytes take() { return std::move(bytes_); }

 private:
  template <class T>
  void fixed(T v) {
    std::byte b[sizeof(T)];
    store_le(b, v);
    raw(b);
  }
  Bytes bytes_;
};

// Reads what a Writer wrote. Each call checks bounds; errors name the source and the offset.
class Reader {
 public:
  // `base`: where `bytes` begin within the source, for messages.
  Reader(ByteView bytes, std::string source, size_t base = 0)
      : bytes_(bytes), source_(std::move(source)), base_(base) {}

  Result<uint8_t> u8() { return fixed<uint8_t>(); }
  Result<uint32_t> u32() { return fixed<uint32_t>(); }
  Result<uint64_t> u64() { return fixed<uint64_t>(); }
  Result<int64_t> i64() { return fixed<int64_t>(); }
  Result<ByteView> raw(size_t n);
  Result<ByteView> blob(size_t max_size);
  // Valid UTF-8 without control characters: it may be shown on a terminal.
  Result<std::string> text(size_t max_size);
  // A count of items that each take at least `item_size` bytes, so that a length cannot promise
  // more than is there.
  Result<uint32_t> count(size_t item_size, uint32_t max_count);

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }
  const std::string& source() const { return source_; }
  Status fail(const std::string& reason) const { return bad_input_at(source_, base_ + offset_, reason); }
  Status finish() const;  // an error if bytes are left

 private:
  template <class T>
  Result<T> fixed() {
    VB_ASSIGN(const ByteView b, raw(sizeof(T)));
    return load_le<T>(b.data());
  }
  ByteView bytes_;
  size_t offset_ = 0;
  std::string source_;
  size_t base_ = 0;
};

bool is_valid_utf8(std::string_view s);
// The offset of the first byte that is not UTF-8; s.size() where all are.
size_t valid_utf8_prefix(std::string_view s);
// Text from outside made safe to print: control characters and invalid UTF-8 become '?'.
std::string printable(std::string_view s);
// The same, cut to `max_bytes` at most, the end of what was cut being "...": for names and reasons
// within a sentence.
std::string shortened(std::string_view s, size_t max_bytes = 200);

std::string to_hex(ByteView b);
Result<Bytes> from_hex(std::string_view hex);

}  // namespace verbatim
