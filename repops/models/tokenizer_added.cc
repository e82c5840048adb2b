// A trie over the added tokens' bytes.
#include <verbatim/repops/models/tokenizer_added.h>
#include <verbatim/repops/models/unicode_text.h>

#include <algorithm>

namespace verbatim::tokenizer {
namespace {

bool word_before(std::string_view text, size_t at) {
  return at > 0 && unicode::is_word(unicode::last_code_point(text.substr(0, at)));
}

bool word_after(std::string_view text, size_t at) {
  return at < text.size() && unicode::is_word(unicode::next_code_point(text, at));
}

}  // namespace

void AddedTokenMatcher::add(const AddedToken& token) {
  const std::string_view pattern = token.pattern;
  uint32_t node = kNoNode;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const auto byte = static_cast<uint8_t>(pattern[i]);
    uint32_t& next = i == 0 ? root_[byte] : edges_[{node, byte}];
    if (next == kNoNode) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
    }
    node = next;
  }
  auto& found = nodes_[node].token;
  if (!found) found = Token{token.id, token.single_word, token.lstrip, token.rstrip};
}

uint32_t AddedTokenMatcher::child(uint32_t node, uint8_t byte) const {
  const auto edge = edges_.find({node, byte});
  return edge == edges_.end() ? kNoNode : edge->second;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::match_at(std::string_view text,
                                                                    size_t at) const {
  std::optional<Match> best;
  uint32_t node = root_[static_cast<uint8_t>(text[at])];
  for (size_t length = 1; node != kNoNode; ++length) {
    if (nodes_[node].token) best = Match{&*nodes_[node].token, length};
    if (at + length == text.size()) break;
    node = child(node, static_cast<uint8_t>(text[at + length]));
  }
  return best;
}

std::vector<AddedTokenMatcher::Segment> AddedTokenMatcher::find(std::string_view text) const {
  std::vector<Segment> segments;
  size_t done = 0;  // end of the last segment
  for (size_t at = 0; at < text.size();) {
    const auto match = match_at(text, at);
    if (!match) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + match->length;
    at = end;
    const Token& token = *match->token;
    if (token.single_word && (word_before(text, begin) || word_after(text, end))) continue;
    if (token.lstrip) begin = std::max(done, unicode::skip_white_space_back(text, begin, done));
    if (token.rstrip) end = unicode::skip_white_space(text, end);
    if (done < begin) segments.push_back({done, begin, std::nullopt});
    segments.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) segments.push_back({done, text.size(), std::nullopt});
  return segments;
}

void describe(const AddedToken& token, CanonicalWriter& out) {
  out.put(token.content);
  out.put(token.id);
  for (const bool flag :
       {token.single_word, token.lstrip, token.rstrip, token.normalized, token.special}) {
    out.put(flag);
  }
}

}  // namespace verbatim::tokenizer
