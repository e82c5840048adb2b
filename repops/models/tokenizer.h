// Text to token ids and back, as a model's Hugging Face folder defines it (tokenizer.json, or the
// older vocab.txt): added tokens, normalizer, pre-tokenizer, WordPiece or BPE model, post-processor
// and decoder. The same ids as Hugging Face's `tokenizers` gives; docs of the parts: tokenizer_*.h.
#pragma once

#include <verbatim/core/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace verbatim {

class Tokenizer {
 public:
  // Longest text that encode() takes, and most bytes that any step may make of it, or decode()
  // make.
  static constexpr size_t kMaxTextBytes = size_t{16} << 20;
  static constexpr size_t kMaxExpandedBytes = size_t{256} << 20;

  virtual ~Tokenizer() = default;

  // UTF-8 text to ids; with the special tokens of the post-processor ([CLS] ... [SEP]; <s>) when
  // `add_special`. Special tokens spelt out in the text are recognised in either case. The
  // result is never truncated or padded, whatever the file's "truncation" and "padding" say: those
  // are settings of a caller, not of the model. Errors: limit (text too long); bad_input (not
  // UTF-8, with the offset, since texts that differ would get the same ids; an unknown token is
  // needed and the model has none).
  virtual Result<std::vector<int64_t>> encode(std::string_view text, bool add_special) const = 0;

  // Ids to UTF-8 text, special tokens left out. Errors: bad_input for an id outside the vocabulary.
  virtual Result<std::string> decode(std::span<const int64_t> ids) const = 0;

  // One more than the largest id. Ids need not be contiguous, so some below it may be unused.
  virtual int64_t vocabulary_size() const = 0;

  // The id of a token as the vocabulary spells it, such as "<s>"; none where there is no such
  // token.
  virtual std::optional<int64_t> token_id(std::string_view token) const = 0;

  // One canonical encoding of all that ids and text depend on (vocabulary, merges, settings of
  // every step, Unicode tables), to be hashed into a model's identity. Platform-independent.
  virtual std::string canonical_bytes() const = 0;
};

// Reads `folder`/tokenizer.json; where there is none, `folder`/vocab.txt as an uncased or cased
// BERT vocabulary, with do_lower_case, tokenize_chinese_chars and strip_accents and the special
// tokens of tokenizer_config.json. Errors: unavailable, and those of parse_tokenizer_json.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& folder);

// The text of a tokenizer.json of at most 64 MiB; `source` is what errors call it. Errors:
// bad_input (malformed, inconsistent), limit, and unsupported for any setting that this library
// does not implement: nothing is ignored but "version", "truncation" and "padding".
Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view json,
                                                        const std::string& source);

}  // namespace verbatim
