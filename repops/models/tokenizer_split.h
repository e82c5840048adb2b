// Pre-tokenizers: how a normalized text is cut into the words that a model's merges cannot cross.
// Each kind is a struct of its settings, named as tokenizer.json names it.
#pragma once

#include <verbatim/core/status.h>
#include <verbatim/repops/models/tokenizer_canonical.h>

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace verbatim::tokenizer {

// The regular expressions of known models, matched by hand: a general engine's meaning of \p{L} and
// of case changes with its version, and its running time with the text.
enum class SplitPattern : uint8_t {
  gpt2,    // GPT-2's own, also ByteLevel's
  llama3,  // cl100k style, digits in threes
  qwen2,   // cl100k style, single digits
};
std::optional<SplitPattern> find_split_pattern(std::string_view regex);

// White space separates words, each punctuation mark is one.
struct BertPreTokenizer {};
// Every match of the pattern is a word.
struct RegexPreTokenizer {
  SplitPattern pattern;
};
// GPT-2's pattern where use_regex; then every byte is spelt as one printable character.
struct ByteLevelPreTokenizer {
  bool add_prefix_space, use_regex;
};
// Numbers apart from the rest, digit by digit or run by run.
struct DigitsPreTokenizer {
  bool individual_digits;
};
// SentencePiece's: spaces become `replacement`, and each opens a word where `split`.
struct MetaspacePreTokenizer {
  enum class Prepend : uint8_t { never, first, always };
  std::string replacement;  // one character
  Prepend prepend;
  bool split;
};

using PreTokenizer = std::variant<BertPreTokenizer, RegexPreTokenizer, ByteLevelPreTokenizer,
                                  DigitsPreTokenizer, MetaspacePreTokenizer>;

// Takes a word, not empty; at_start: it begins the whole text.
using WordSink = std::function<Status(std::string_view word, bool at_start)>;

// Passes `text` through all the steps and each word that comes out to `sink`, in order. Linear in
// the text. Errors: the sink's.
Status split_words(std::span<const PreTokenizer> steps, std::string_view text, bool at_start,
                   const WordSink& sink);

void describe(const PreTokenizer& step, CanonicalWriter& out);

// The character by which ByteLevel spells each byte: itself where printable, else one from U+0100
// on.
const std::array<char32_t, 256>& byte_level_alphabet();

}  // namespace verbatim::tokenizer
