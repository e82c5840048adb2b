// Decoders: how tokens become text again. Each kind is a struct of its settings, named as
// tokenizer.json names it; every one maps a list of tokens to a list, whose parts the text joins.
#pragma once

#include <verbatim/core/status.h>
#include <verbatim/repops/models/tokenizer_canonical.h>

#include <span>
#include <string>
#include <variant>
#include <vector>

namespace verbatim::tokenizer {

// Byte-level spelling back to bytes; what is not UTF-8 becomes U+FFFD.
struct ByteLevelDecoder {};
// Joins pieces that begin with the prefix to the one before, others with a space; `cleanup` removes
// spaces before punctuation and English contractions.
struct WordPieceDecoder {
  std::string prefix;
  bool cleanup;
};
// Runs of <0x..> tokens to the text they spell, or to a U+FFFD for each where they spell none.
struct ByteFallbackDecoder {};
struct FuseDecoder {};
// Up to `start` and `stop` times `content` (one character) off the ends of each token.
struct StripDecoder {
  std::string content;
  size_t start, stop;
};
struct ReplaceDecoder {
  std::string pattern, content;
};
struct MetaspaceDecoder {
  std::string replacement;  // becomes a space, in the first token nothing where drop_first
  bool drop_first;
};

using Decoder = std::variant<ByteLevelDecoder, WordPieceDecoder, ByteFallbackDecoder, FuseDecoder,
                             StripDecoder, ReplaceDecoder, MetaspaceDecoder>;

// Error: limit, past Tokenizer::kMaxExpandedBytes.
Result<std::vector<std::string>> decode_tokens(std::span<const Decoder> steps,
                                               std::vector<std::string> tokens);

void describe(const Decoder& step, CanonicalWriter& out);

}  // namespace verbatim::tokenizer
