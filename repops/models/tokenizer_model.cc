// WordPiece and BPE over a sorted vocabulary.
#include <verbatim/repops/models/tokenizer_model.h>
#include <verbatim/repops/models/unicode_text.h>

#include <algorithm>
#include <limits>
#include <queue>
#include <tuple>

namespace verbatim::tokenizer {
namespace {

constexpr int32_t kNone = -1;

Status no_unknown_token(std::string_view wanted) {
  return bad_input("tokenizer: the text needs the unknown token \"" + std::string(wanted) +
                   "\", which is not in the vocabulary");
}

// <0x00> to <0xFF>, as byte_fallback spells bytes.
std::string byte_token(uint8_t byte) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + '>';
}

}  // namespace

Result<Vocabulary> Vocabulary::create(std::vector<Entry> entries) {
  if (entries.size() >= std::numeric_limits<uint32_t>::max()) {
    return over_limit("vocabulary: too many tokens");
  }
  Vocabulary v;
  v.entries_ = std::move(entries);
  auto& sorted = v.entries_;
  std::sort(sorted.begin(), sorted.end(),
            [](const Entry& a, const Entry& b) { return a.token < b.token; });
  v.by_id_.resize(sorted.size());
  for (uint32_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i].id < 0 || sorted[i].id > kMaxTokenId) {
      return bad_input("vocabulary: the id of token \"" + sorted[i].token +
                       "\" is outside 0..2^31-1");
    }
    if (i > 0 && sorted[i - 1].token == sorted[i].token) {
      return bad_input("vocabulary: token \"" + sorted[i].token + "\" occurs twice");
    }
    v.by_id_[i] = i;
  }
  std::sort(v.by_id_.begin(), v.by_id_.end(),
            [&](uint32_t a, uint32_t b) { return sorted[a].id < sorted[b].id; });
  for (size_t i = 1; i < v.by_id_.size(); ++i) {
    if (v.id(v.by_id_[i - 1]) == v.id(v.by_id_[i])) {
      return bad_input("vocabulary: id " + std::to_string(v.id(v.by_id_[i])) + " occurs twice");
    }
  }
  const Range all{0, static_cast<uint32_t>(sorted.size())};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    v.by_byte_[byte] = v.narrow(all, 0, static_cast<uint8_t>(byte));
  }
  return v;
}

std::optional<uint32_t> Vocabulary::find(std::string_view token) const {
  auto at = std::lower_bound(entries_.begin(), entries_.end(), token,
                             [](const Entry& e, std::string_view t) { return e.token < t; });
  if (at == entries_.end() || at->token != token) return std::nullopt;
  return static_cast<uint32_t>(at - entries_.begin());
}

std::optional<uint32_t> Vocabulary::find_id(int64_t id) const {
  auto at = std::lower_bound(by_id_.begin(), by_id_.end(), id,
                             [&](uint32_t e, int64_t wanted) { return entries_[e].id < wanted; });
  if (at == by_id_.end() || entries_[*at].id != id) return std::nullopt;
  return *at;
}

Vocabulary::Range Vocabulary::narrow(Range range, size_t depth, uint8_t byte) const {
  // A token that ends at `depth` comes before all that go on.
  auto next = [&](const Entry& e) -> int {
    return e.token.size() == depth ? -1 : static_cast<uint8_t>(e.token[depth]);
  };
  const auto begin = entries_.begin();
  const auto low = std::lower_bound(begin + range.first, begin + range.last, int{byte},
                                    [&](const Entry& e, int b) { return next(e) < b; });
  const auto high = std::upper_bound(low, begin + range.last, int{byte},
                                     [&](int b, const Entry& e) { return b < next(e); });
  return {static_cast<uint32_t>(low - begin), static_cast<uint32_t>(high - begin)};
}

std::optional<Vocabulary::Match> Vocabulary::longest_match(std::string_view prefix,
                                                           std::string_view text) const {
  Range range{0, static_cast<uint32_t>(entries_.size())};
  std::optional<Match> best;
  const size_t total = prefix.size() + text.size();
  for (size_t depth = 0; depth < total && range.first < range.last; ++depth) {
    const bool in_prefix = depth < prefix.size();
    const auto byte = static_cast<uint8_t>(in_prefix ? prefix[depth] : text[depth - prefix.size()]);
    range = depth == 0 ? by_byte_[byte] : narrow(range, depth, byte);
    const bool is_token =
        range.first < range.last && entries_[range.first].token.size() == depth + 1;
    if (!in_prefix && is_token) best = Match{range.first, depth + 1 - prefix.size()};
  }
  return best;
}

void Vocabulary::describe(CanonicalWriter& out) const {
  out.put(entries_.size());
  for (const uint32_t entry : by_id_) {
    out.put(entries_[entry].id);
    out.put(entries_[entry].token);
  }
}

WordPieceModel::WordPieceModel(Vocabulary vocabulary, Settings settings)
    : vocabulary_(std::move(vocabulary)), settings_(std::move(settings)) {
  unk_ = vocabulary_.find(settings_.unk_token);
}

Status WordPieceModel::encode(std::string_view word, std::vector<int64_t>& ids) const {
  const size_t start = ids.size();
  size_t characters = 0;
  for (const char c : word) characters += (c & 0xC0) != 0x80;
  bool known = characters <= settings_.max_input_chars_per_word;
  for (size_t at = 0; known && at < word.size();) {
    const std::string_view prefix =
        at == 0 ? std::string_view() : settings_.continuing_subword_prefix;
    const auto match = vocabulary_.longest_match(prefix, word.substr(at));
    known = match.has_value();
    if (!known) break;
    ids.push_back(vocabulary_.id(match->entry));
    at += match->length;
  }
  if (known) return {};
  if (!unk_) return no_unknown_token(settings_.unk_token);
  ids.resize(start);
  ids.push_back(vocabulary_.id(*unk_));
  return {};
}

void WordPieceModel::describe(CanonicalWriter& out) const {
  out.put("WordPiece");
  vocabulary_.describe(out);
  out.put(settings_.unk_token);
  out.put(settings_.continuing_subword_prefix);
  out.put(settings_.max_input_chars_per_word);
}

BpeModel::BpeModel(Vocabulary vocabulary, Settings settings)
    : vocabulary_(std::move(vocabulary)), settings_(std::move(settings)) {
  if (settings_.unk_token) unk_ = vocabulary_.find(*settings_.unk_token);
  for (uint32_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    byte_tokens_[byte] = vocabulary_.find(byte_token(static_cast<uint8_t>(byte)));
  }
  for (uint32_t code = 0; code < single_tokens_.size(); ++code) {
    std::string character;
    unicode::append_utf8(character, code);
    single_tokens_[code] = vocabulary_.find(character);
  }
}

Result<BpeModel> BpeModel::create(Vocabulary vocabulary, std::span<const Pair> merges,
                                  Settings settings) {
  BpeModel model(std::move(vocabulary), std::move(settings));
  auto& sorted = model.merges_;
  sorted.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const auto left_entry = model.vocabulary_.find(left);
    const auto right_entry = model.vocabulary_.find(right);
    const auto result = model.vocabulary_.find(left + right);
    if (!left_entry || !right_entry || !result) {
      return bad_input("merge " + std::to_string(rank) + " (\"" + left + "\" \"" + right +
                       "\"): not a pair of tokens that make a token");
    }
    sorted.push_back({*left_entry, *right_entry, static_cast<uint32_t>(rank), *result});
  }
  // Of a pair that occurs twice the last counts, as in Hugging Face's map.
  std::sort(sorted.begin(), sorted.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(a.left, a.right, b.rank) < std::tuple(b.left, b.right, a.rank);
  });
  auto same_pair = [](const Merge& a, const Merge& b) {
    return a.left == b.left && a.right == b.right;
  };
  sorted.erase(std::unique(sorted.begin(), sorted.end(), same_pair), sorted.end());

  model.merges_from_.assign(model.vocabulary_.size() + 1, 0);
  for (const Merge& merge : sorted) ++model.merges_from_[merge.left + 1];
  for (size_t i = 1; i < model.merges_from_.size(); ++i) {
    model.merges_from_[i] += model.merges_from_[i - 1];
  }
  return model;
}

const BpeModel::Merge* BpeModel::find_merge(uint32_t left, uint32_t right) const {
  const auto first = merges_.begin() + merges_from_[left];
  const auto last = merges_.begin() + merges_from_[left + 1];
  const auto at =
      std::lower_bound(first, last, right, [](const Merge& m, uint32_t r) { return m.right < r; });
  return at == last || at->right != right ? nullptr : &*at;
}

std::optional<uint32_t> BpeModel::find_character(std::string_view character) const {
  size_t at = 0;
  const char32_t code = unicode::next_code_point(character, at);
  return code < single_tokens_.size() ? single_tokens_[code] : vocabulary_.find(character);
}

// Whether the whole character could be spelt as bytes.
bool BpeModel::append_bytes(std::string_view character, std::vector<Symbol>& symbols) const {
  for (const char c : character) {
    if (!byte_tokens_[static_cast<uint8_t>(c)]) return false;
  }
  for (const char c : character) {
    symbols.push_back({*byte_tokens_[static_cast<uint8_t>(c)], kNone, kNone, false});
  }
  return true;
}

Status BpeModel::split_characters(std::string_view word, std::vector<Symbol>& symbols) const {
  // An unknown token waits until a known character or the end; bytes overtake it (as in Hugging
  // Face's code, where it makes a difference only if some of the byte tokens are missing).
  bool unknown_waits = false;
  auto flush_unknown = [&] {
    if (unknown_waits) symbols.push_back({*unk_, kNone, kNone, false});
    unknown_waits = false;
  };
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    unicode::next_code_point(word, at);
    const std::string_view character = word.substr(begin, at - begin);
    if (const auto entry = find_character(character)) {
      flush_unknown();
      symbols.push_back({*entry, kNone, kNone, false});
      continue;
    }
    if (settings_.byte_fallback && append_bytes(character, symbols)) continue;
    if (!settings_.unk_token) continue;
    if (!unk_) return no_unknown_token(*settings_.unk_token);
    if (!settings_.fuse_unk) flush_unknown();
    unknown_waits = true;
  }
  flush_unknown();
  return {};
}

void BpeModel::join(std::vector<Symbol>& symbols) const {
  struct Candidate {
    uint32_t rank;
    int32_t at;  // of the left symbol
    uint32_t result;
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return std::pair(a.rank, a.at) > std::pair(b.rank, b.at);
  };
  std::vector<Candidate> candidates;
  auto candidate_at = [&](int32_t at) -> std::optional<Candidate> {
    if (at == kNone || symbols[at].next == kNone) return std::nullopt;
    const Merge* merge = find_merge(symbols[at].entry, symbols[symbols[at].next].entry);
    if (merge == nullptr) return std::nullopt;
    return Candidate{merge->rank, at, merge->result};
  };
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : kNone;
  }
  for (size_t i = 0; i < symbols.size(); ++i) {
    if (const auto c = candidate_at(static_cast<int32_t>(i))) candidates.push_back(*c);
  }
  std::priority_queue queue(later, std::move(candidates));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    // The pair may have changed since it was queued; what counts is what it would make now.
    if (symbols[top.at].joined) continue;
    const auto now = candidate_at(top.at);
    if (!now || now->result != top.result) continue;
    Symbol& left = symbols[top.at];
    Symbol& right = symbols[left.next];
    left.entry = top.result;
    right.joined = true;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = top.at;
    for (const int32_t at : {left.previous, top.at}) {
      if (const auto c = candidate_at(at)) queue.push(*c);
    }
  }
}

Status BpeModel::encode(std::string_view word, std::vector<int64_t>& ids) const {
  if (settings_.ignore_merges) {
    if (const auto entry = vocabulary_.find(word)) {
      ids.push_back(vocabulary_.id(*entry));
      return {};
    }
  }
  if (word.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return over_limit("tokenizer: a word is too long");
  }
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  VB_TRY(split_characters(word, symbols));
  join(symbols);
  for (const Symbol& symbol : symbols) {
    if (!symbol.joined) ids.push_back(vocabulary_.id(symbol.entry));
  }
  return {};
}

void BpeModel::describe(CanonicalWriter& out) const {
  out.put("BPE");
  vocabulary_.describe(out);
  out.put(merges_.size());
  for (const Merge& merge : merges_) {
    for (const uint32_t entry : {merge.left, merge.right}) out.put(vocabulary_.id(entry));
    out.put(size_t{merge.rank});
  }
  out.put(settings_.unk_token.has_value());
  out.put(settings_.unk_token.value_or(""));
  out.put(settings_.fuse_unk);
  out.put(settings_.byte_fallback);
  out.put(settings_.ignore_merges);
}

}  // namespace verbatim::tokenizer
