// Normalizers: what is done to a text before it is cut into words. Each kind is a struct of its
// settings, named as tokenizer.json names it; a sequence of them is a vector.
#pragma once

#include <verbatim/core/status.h>
#include <verbatim/repops/models/tokenizer_canonical.h>

#include <span>
#include <string>
#include <variant>

namespace verbatim::tokenizer {

struct BertNormalizer {
  bool clean_text, handle_chinese_chars, strip_accents, lowercase;
};
struct LowercaseNormalizer {};
struct NfcNormalizer {};
struct NfdNormalizer {};
struct StripNormalizer {
  bool left, right;  // white space
};
struct ReplaceNormalizer {
  std::string pattern, content;  // every occurrence of a literal, not empty
};
struct PrependNormalizer {
  std::string content;  // in front of a text that is not empty
};

using Normalizer = std::variant<BertNormalizer, LowercaseNormalizer, NfcNormalizer, NfdNormalizer,
                                StripNormalizer, ReplaceNormalizer, PrependNormalizer>;

struct Normalized {
  std::string text;
  // Whether nothing was taken off the front: Metaspace asks whether its text begins the original.
  bool keeps_front = true;
};

// Valid UTF-8 to valid UTF-8. Error: limit, past Tokenizer::kMaxExpandedBytes.
Result<Normalized> normalize(std::span<const Normalizer> steps, std::string text);

void describe(const Normalizer& step, CanonicalWriter& out);

// `text` with each occurrence of `pattern` (not empty) replaced, from the left.
Result<std::string> replace_all(std::string_view text, std::string_view pattern,
                                std::string_view content);

}  // namespace verbatim::tokenizer
