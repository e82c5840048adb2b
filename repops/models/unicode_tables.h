// The Unicode data behind unicode_text.h, as sorted tables: what unicode_tables.py wrote into
// unicode_tables.cc. Nothing depends on the locale or on an installed Unicode library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace verbatim::unicode {

// The code points first..last, both included.
struct CodeRange {
  uint32_t first, last;
};

struct CombiningRange {
  uint32_t first, last, combining_class;
};

// `code` becomes the `length` code points from `offset` in the table's text.
struct CodeMapping {
  uint32_t code;
  uint16_t offset;
  uint16_t length;
};

// `first` followed by `second` composes to `composite`.
struct Composition {
  uint32_t first, second, composite;
};

extern const std::span<const CodeRange> kLetter;           // regex \p{L}
extern const std::span<const CodeRange> kNumber;           // regex \p{N}
extern const std::span<const CodeRange> kWhiteSpace;       // regex \s
extern const std::span<const CodeRange> kWord;             // regex \w
extern const std::span<const CodeRange> kBertRemoved;      // dropped by BERT's clean_text
extern const std::span<const CodeRange> kBertMark;         // dropped by BERT's strip_accents
extern const std::span<const CodeRange> kBertPunctuation;  // a word of its own to BERT
extern const std::span<const CombiningRange> kCombiningClass;
extern const std::span<const CodeMapping> kDecomposition;  // canonical and complete, without Hangul
extern const std::span<const char32_t> kDecompositionText;
extern const std::span<const CodeMapping> kLowerCase;
extern const std::span<const char32_t> kLowerCaseText;
extern const std::span<const Composition> kComposition;  // by (first, second), without Hangul
extern const char kTablesDigest[];  // SHA-256 of the tables' text, part of a tokenizer's identity

}  // namespace verbatim::unicode
