// Added tokens: those that are found in the text before anything else is done to it, such as [MASK]
// or <|endoftext|>.
#pragma once

#include <verbatim/repops/models/tokenizer_canonical.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace verbatim::tokenizer {

struct AddedToken {
  std::string content;
  int64_t id;
  bool single_word;     // only where no word character touches it
  bool lstrip, rstrip;  // takes in the white space on that side
  bool normalized;      // looked for in the normalized text
  bool special;         // left out of decoded text
  // What is looked for, and what the id decodes to: the content, normalized where `normalized`.
  std::string pattern;
};

// Finds a set of tokens in a text: the leftmost, of those the longest, without overlap.
class AddedTokenMatcher {
 public:
  struct Segment {
    size_t begin, end;
    std::optional<int64_t> id;  // none: text between tokens
  };

  // Looks for the token's pattern, not empty. Where two patterns are equal the first one counts.
  void add(const AddedToken& token);

  // Covers the text from the left; the time is at most the text's length times the longest
  // pattern's.
  std::vector<Segment> find(std::string_view text) const;

 private:
  static constexpr uint32_t kNoNode = 0;  // the root is nobody's child

  struct Token {
    int64_t id;
    bool single_word, lstrip, rstrip;
  };
  struct Node {
    std::optional<Token> token;
  };
  struct Match {
    const Token* token;
    size_t length;
  };
  uint32_t child(uint32_t node, uint8_t byte) const;
  std::optional<Match> match_at(std::string_view text, size_t at) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<uint32_t, 256> root_{};                        // the root's children
  std::map<std::pair<uint32_t, uint8_t>, uint32_t> edges_;  // all others'
};

void describe(const AddedToken& token, CanonicalWriter& out);

}  // namespace verbatim::tokenizer
