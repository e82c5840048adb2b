// The bytes by which a tokenizer's parts describe themselves for Tokenizer::canonical_bytes: every
// item with its kind or its length, integers little-endian, so that no two descriptions collide.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace verbatim::tokenizer {

class CanonicalWriter {
 public:
  void put(std::string_view text) {
    put_integer(text.size());
    bytes_.append(text);
  }
  void put(const char* text) { put(std::string_view(text)); }
  void put(int64_t value) { put_integer(static_cast<uint64_t>(value)); }
  void put(size_t value) { put_integer(value); }
  void put(bool value) { bytes_.push_back(value ? 1 : 0); }
  std::string take() { return std::move(bytes_); }

 private:
  void put_integer(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) bytes_.push_back(static_cast<char>(value >> shift));
  }

  std::string bytes_;
};

}  // namespace verbatim::tokenizer
