// The vocabulary and the two models that turn a word into ids: WordPiece and BPE.
//
// Look-ups use sorted tables, not hash maps: a vocabulary comes from outside, and no choice of
// tokens or merges makes a sorted table slow.
#pragma once

#include <verbatim/core/status.h>
#include <verbatim/repops/models/tokenizer_canonical.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace verbatim::tokenizer {

constexpr int64_t kMaxTokenId = (int64_t{1} << 31) - 1;

// Tokens and their ids, both unique; ids need not be contiguous. An entry is a token's place in
// byte order.
class Vocabulary {
 public:
  struct Entry {
    std::string token;
    int64_t id;
  };
  struct Match {
    uint32_t entry;
    size_t length;  // bytes of the text
  };

  // Errors: bad_input for a repeated token or id, or an id outside 0..kMaxTokenId.
  static Result<Vocabulary> create(std::vector<Entry> entries);

  size_t size() const { return entries_.size(); }
  int64_t id(uint32_t entry) const { return entries_[entry].id; }
  const std::string& token(uint32_t entry) const { return entries_[entry].token; }
  int64_t max_id() const { return by_id_.empty() ? -1 : entries_[by_id_.back()].id; }

  std::optional<uint32_t> find(std::string_view token) const;
  std::optional<uint32_t> find_id(int64_t id) const;
  // The longest token that is `prefix` and then one or more bytes at the front of `text`.
  std::optional<Match> longest_match(std::string_view prefix, std::string_view text) const;

  void describe(CanonicalWriter& out) const;

 private:
  // Entries with a common beginning of some length.
  struct Range {
    uint32_t first, last;  // last excluded
  };
  // Those of `range`, which share `depth` bytes, whose next byte is `byte`.
  Range narrow(Range range, size_t depth, uint8_t byte) const;

  std::vector<Entry> entries_;        // by token
  std::vector<uint32_t> by_id_;       // entries, by id
  std::array<Range, 256> by_byte_{};  // entries by their first byte
};

// Greedy longest match from the left (Schuster and Nakajima 2012, as BERT applies it).
class WordPieceModel {
 public:
  struct Settings {
    std::string unk_token, continuing_subword_prefix;
    size_t max_input_chars_per_word;  // a longer word is unknown
  };
  WordPieceModel(Vocabulary vocabulary, Settings settings);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  // Appends the ids of `word`, not empty: its pieces, or the unknown token alone.
  Status encode(std::string_view word, std::vector<int64_t>& ids) const;
  void describe(CanonicalWriter& out) const;

 private:
  Vocabulary vocabulary_;
  Settings settings_;
  std::optional<uint32_t> unk_;
};

// Byte pair encoding (Sennrich et al. 2016): the characters of a word, of which the adjacent pair
// of lowest rank, the leftmost on a tie, is joined until none can be. O(n log n) in the word.
class BpeModel {
 public:
  struct Settings {
    std::optional<std::string> unk_token;
    bool fuse_unk;       // one unknown token for a run of unknown characters
    bool byte_fallback;  // an unknown character is spelt as bytes: <0x00> to <0xFF>
    bool ignore_merges;  // a word that is a token is that token
  };
  using Pair = std::pair<std::string, std::string>;

  // `merges` in order of rank. Errors: bad_input for a merge of, or into, what is not a token.
  static Result<BpeModel> create(Vocabulary vocabulary, std::span<const Pair> merges,
                                 Settings settings);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  // Appends the ids of `word`, not empty. A character that is no token, with neither fallback nor
  // unknown token, leaves none.
  Status encode(std::string_view word, std::vector<int64_t>& ids) const;
  void describe(CanonicalWriter& out) const;

 private:
  struct Merge {
    uint32_t left, right;  // entries
    uint32_t rank, result;
  };
  struct Symbol {
    uint32_t entry;
    int32_t previous, next;  // places in the word, kNone at its ends
    bool joined;             // into the symbol before it
  };

  BpeModel(Vocabulary vocabulary, Settings settings);
  const Merge* find_merge(uint32_t left, uint32_t right) const;
  std::optional<uint32_t> find_character(std::string_view character) const;
  Status split_characters(std::string_view word, std::vector<Symbol>& symbols) const;
  bool append_bytes(std::string_view character, std::vector<Symbol>& symbols) const;
  void join(std::vector<Symbol>& symbols) const;

  Vocabulary vocabulary_;
  Settings settings_;
  std::optional<uint32_t> unk_;
  std::vector<Merge> merges_;          // by (left, right)
  std::vector<uint32_t> merges_from_;  // first merge of each left entry; one more at the end
  std::array<std::optional<uint32_t>, 256> byte_tokens_;  // <0x..>
  std::array<std::optional<uint32_t>, 384>
      single_tokens_;  // U+0000.. (all of ByteLevel's alphabet)
};

using Model = std::variant<WordPieceModel, BpeModel>;

}  // namespace verbatim::tokenizer
