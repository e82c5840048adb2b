// The pipeline: added tokens, normalizer, added tokens again, pre-tokenizer, model, special tokens.
#include <verbatim/core/codec.h>
#include <verbatim/repops/models/tokenizer.h>
#include <verbatim/repops/models/tokenizer_parts.h>
#include <verbatim/repops/models/unicode_text.h>

#include <algorithm>
#include <map>
#include <utility>

namespace verbatim {
namespace tokenizer {
namespace {

// Bounds the time of AddedTokenMatcher::find.
constexpr size_t kMaxAddedTokenBytes = 512;

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(Parts parts) : parts_(std::move(parts)) {}

  // Checks the parts against each other and prepares the search for added tokens.
  Status prepare();

  Result<std::vector<int64_t>> encode(std::string_view text, bool add_special) const override;
  Result<std::string> decode(std::span<const int64_t> ids) const override;
  int64_t vocabulary_size() const override { return max_id_ + 1; }
  std::optional<int64_t> token_id(std::string_view token) const override;
  std::string canonical_bytes() const override;

 private:
  using Ids = std::vector<int64_t>;

  const Vocabulary& vocabulary() const {
    return std::visit([](const auto& m) -> const Vocabulary& { return m.vocabulary(); },
                      parts_.model);
  }
  Status add(const AddedToken& token);
  Status encode_raw(std::string_view text, bool at_start, Ids& ids) const;
  Status encode_words(std::string_view text, bool at_start, Ids& ids) const;

  Parts parts_;
  int64_t max_id_ = -1;
  std::map<std::string, const AddedToken*, std::less<>> added_by_content_;
  std::map<int64_t, const AddedToken*> added_by_id_;
  AddedTokenMatcher raw_matcher_;         // in the text as it came
  AddedTokenMatcher normalized_matcher_;  // in the normalized text between those
};

// Enters a token of the file into the tables.
Status PipelineTokenizer::add(const AddedToken& token) {
  const std::string name = "added token \"" + token.content + "\"";
  if (token.content.empty()) return bad_input("an added token is empty");
  if (token.id < 0 || token.id > kMaxTokenId) return bad_input(name + ": id outside 0..2^31-1");
  const auto known = vocabulary().find(token.content);
  const auto same_id = vocabulary().find_id(token.id);
  if (known ? vocabulary().id(*known) != token.id : same_id.has_value()) {
    return bad_input(name + ": its id is not the one in the vocabulary");
  }
  if (!added_by_content_.emplace(token.content, &token).second ||
      !added_by_id_.emplace(token.id, &token).second) {
    return bad_input(name + ": it or its id occurs twice");
  }
  max_id_ = std::max(max_id_, token.id);
  return {};
}

// BertNormalizer does not say whether it kept the front of its text.
Status check_steps(const Parts& parts) {
  bool bert = false;
  for (const Normalizer& step : parts.normalizers) {
    bert = bert || std::holds_alternative<BertNormalizer>(step);
  }
  for (const PreTokenizer& step : parts.pre_tokenizers) {
    const auto* metaspace = std::get_if<MetaspacePreTokenizer>(&step);
    if (!bert || metaspace == nullptr) continue;
    if (metaspace->prepend == MetaspacePreTokenizer::Prepend::first) {
      return unsupported("pre_tokenizer: Metaspace with prepend_scheme first after BertNormalizer");
    }
  }
  return {};
}

Status PipelineTokenizer::prepare() {
  VB_TRY(check_steps(parts_));
  max_id_ = vocabulary().max_id();
  for (const AddedToken& token : parts_.added_tokens) VB_TRY(add(token));
  // Where two tokens normalize to the same text, a special one comes first.
  for (const bool special : {true, false}) {
    for (AddedToken& token : parts_.added_tokens) {
      if (token.special != special) continue;
      token.pattern = token.content;
      if (token.normalized) {
        VB_ASSIGN(Normalized normalized, normalize(parts_.normalizers, token.content));
        token.pattern = std::move(normalized.text);
      }
      const std::string name = "added token \"" + token.content + "\"";
      if (token.pattern.empty()) return unsupported(name + ": the normalizer leaves nothing of it");
      if (token.pattern.size() > kMaxAddedTokenBytes) {
        return over_limit(name + ": longer than " + std::to_string(kMaxAddedTokenBytes) + " bytes");
      }
      (token.normalized ? normalized_matcher_ : raw_matcher_).add(token);
    }
  }
  for (const Ids* ids : {&parts_.prefix, &parts_.suffix}) {
    for (const int64_t id : *ids) {
      if (added_by_id_.contains(id) || vocabulary().find_id(id)) continue;
      return bad_input("post_processor: id " + std::to_string(id) + " is not in the vocabulary");
    }
  }
  return {};
}

// Of text that is neither an added token nor normalized.
Status PipelineTokenizer::encode_raw(std::string_view text, bool at_start, Ids& ids) const {
  VB_ASSIGN(const Normalized normalized, normalize(parts_.normalizers, std::string(text)));
  at_start = at_start && normalized.keeps_front;
  const std::string_view whole = normalized.text;
  for (const auto& segment : normalized_matcher_.find(whole)) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    const auto piece = whole.substr(segment.begin, segment.end - segment.begin);
    VB_TRY(encode_words(piece, at_start && segment.begin == 0, ids));
  }
  return {};
}

Status PipelineTokenizer::encode_words(std::string_view text, bool at_start, Ids& ids) const {
  return split_words(parts_.pre_tokenizers, text, at_start, [&](std::string_view word, bool) {
    return std::visit([&](const auto& model) { return model.encode(word, ids); }, parts_.model);
  });
}

Result<std::vector<int64_t>> PipelineTokenizer::encode(std::string_view text,
                                                       bool add_special) const {
  if (text.size() > kMaxTextBytes) {
    return over_limit("the text has " + std::to_string(text.size()) +
                      " bytes; a tokenizer takes " + std::to_string(kMaxTextBytes));
  }
  if (const size_t valid = valid_utf8_prefix(text); valid < text.size())
    return bad_input_at("text", valid, "not UTF-8");
  Ids ids;
  if (add_special) ids = parts_.prefix;
  for (const auto& segment : raw_matcher_.find(text)) {
    if (segment.id) {
      ids.push_back(*segment.id);
    } else {
      const auto piece = text.substr(segment.begin, segment.end - segment.begin);
      VB_TRY(encode_raw(piece, segment.begin == 0, ids));
    }
  }
  if (add_special) ids.insert(ids.end(), parts_.suffix.begin(), parts_.suffix.end());
  return ids;
}

Result<std::string> PipelineTokenizer::decode(std::span<const int64_t> ids) const {
  std::vector<std::string> tokens;
  size_t bytes = 0;
  for (const int64_t id : ids) {
    const auto added = added_by_id_.find(id);
    if (added != added_by_id_.end() && added->second->special) continue;
    if (added != added_by_id_.end()) {
      tokens.push_back(added->second->pattern);
    } else if (const auto entry = vocabulary().find_id(id)) {
      tokens.push_back(vocabulary().token(*entry));
    } else {
      return bad_input("token id " + std::to_string(id) + " is not in the vocabulary");
    }
    bytes += tokens.back().size();
    if (bytes > kMaxExpandedBytes) return over_limit("the text of these ids is too long");
  }
  if (parts_.decoders) {
    VB_ASSIGN(tokens, decode_tokens(*parts_.decoders, std::move(tokens)));
  }
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !parts_.decoders) text.push_back(' ');
    text.append(tokens[i]);
  }
  return text;
}

std::optional<int64_t> PipelineTokenizer::token_id(std::string_view token) const {
  if (const auto added = added_by_content_.find(token); added != added_by_content_.end()) {
    return added->second->id;
  }
  const auto entry = vocabulary().find(token);
  return entry ? std::optional(vocabulary().id(*entry)) : std::nullopt;
}

std::string PipelineTokenizer::canonical_bytes() const {
  CanonicalWriter out;
  out.put("verbatim tokenizer 1");
  out.put(unicode::tables_digest());
  out.put(added_by_id_.size());
  for (const auto& [id, token] : added_by_id_) describe(*token, out);
  auto describe_all = [&](const auto& steps) {
    out.put(steps.size());
    for (const auto& step : steps) describe(step, out);
  };
  describe_all(parts_.normalizers);
  describe_all(parts_.pre_tokenizers);
  std::visit([&](const auto& model) { model.describe(out); }, parts_.model);
  for (const Ids* ids : {&parts_.prefix, &parts_.suffix}) {
    out.put(ids->size());
    for (const int64_t id : *ids) out.put(id);
  }
  out.put(parts_.decoders.has_value());
  if (parts_.decoders) describe_all(*parts_.decoders);
  return out.take();
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> assemble(Parts parts) {
  auto tokenizer = std::make_unique<PipelineTokenizer>(std::move(parts));
  VB_TRY(tokenizer->prepare());
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace tokenizer
}  // namespace verbatim
