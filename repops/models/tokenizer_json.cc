// Reads tokenizer.json and vocab.txt into Parts. Every key of every object is either used or an
// `unsupported` error that names its path, so that no setting is ever dropped in silence.
#include <verbatim/core/file.h>
#include <verbatim/repops/models/json.h>
#include <verbatim/repops/models/tokenizer.h>
#include <verbatim/repops/models/tokenizer_parts.h>
#include <verbatim/repops/models/unicode_text.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace verbatim {
namespace tokenizer {
namespace {

using nlohmann::json;

constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr size_t kMaxSteps = 64;
constexpr size_t kMaxTemplate = 1024;

// A value with its path, for errors: "tokenizer.json: model.vocab: is not an object".
class Node {
 public:
  Node(const json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const json& value() const { return *value_; }
  Status malformed(const std::string& reason) const { return bad_input(path_ + ": " + reason); }
  Status not_supported(const std::string& reason) const {
    return unsupported(path_ + ": " + reason + " is not supported");
  }

  bool has(const char* key) const {
    const auto at = value_->is_object() ? value_->find(key) : value_->end();
    return at != value_->end() && !at->is_null();
  }
  // A missing member is as null.
  Node member(const char* key) const {
    static const json kNull;
    const auto at = value_->is_object() ? value_->find(key) : value_->end();
    const bool root = path_.ends_with(": ");
    return Node(at == value_->end() ? kNull : *at, path_ + (root ? "" : ".") + key);
  }
  // That this is an object which has no other keys than these.
  Status only(std::initializer_list<std::string_view> keys) const {
    if (!value_->is_object()) return malformed("is not an object");
    for (const auto& item : value_->items()) {
      if (std::find(keys.begin(), keys.end(), item.key()) != keys.end()) continue;
      return not_supported("the setting \"" + item.key() + "\"");
    }
    return {};
  }
  Result<std::vector<Node>> items() const {
    if (!value_->is_array()) return malformed("is not a list");
    std::vector<Node> nodes;
    nodes.reserve(value_->size());
    for (const json& item : *value_) {
      nodes.emplace_back(item, path_ + "[" + std::to_string(nodes.size()) + "]");
    }
    return nodes;
  }

  Result<std::string> text() const {
    const auto* text = value_->get_ptr<const json::string_t*>();
    if (text == nullptr) return malformed("is not a string");
    return *text;
  }
  Result<bool> boolean() const {
    const auto* flag = value_->get_ptr<const json::boolean_t*>();
    if (flag == nullptr) return malformed("is not true or false");
    return *flag;
  }
  Result<int64_t> integer() const {
    // An unsigned number past int64 converts to a negative one.
    const int64_t number = value_->is_number_integer() ? value_->get<int64_t>() : -1;
    if (number < 0 || number > kMaxTokenId) {
      return malformed("is not a whole number in 0..2^31-1");
    }
    return number;
  }

  Result<std::string> text(const char* key) const { return member(key).text(); }
  Result<bool> boolean(const char* key) const { return member(key).boolean(); }
  Result<bool> boolean(const char* key, bool otherwise) const {
    return has(key) ? member(key).boolean() : Result<bool>(otherwise);
  }
  Result<int64_t> integer(const char* key) const { return member(key).integer(); }
  // A string of one character.
  Result<std::string> character(const char* key) const {
    VB_ASSIGN(std::string text, member(key).text());
    size_t at = 0;
    if (!text.empty()) unicode::next_code_point(text, at);
    if (text.empty() || at != text.size()) return member(key).malformed("is not one character");
    return text;
  }

 private:
  const json* value_;
  std::string path_;
};

template <class Step>
Status add_step(const Node& node, std::vector<Step>& steps, Step step) {
  if (steps.size() == kMaxSteps) return node.malformed("more than 64 steps in all");
  steps.push_back(std::move(step));
  return {};
}

// {"String": "..."}, not empty.
Result<std::string> read_literal(const Node& pattern) {
  if (pattern.has("Regex")) return pattern.not_supported("a regular expression");
  VB_TRY(pattern.only({"String"}));
  VB_ASSIGN(std::string text, pattern.text("String"));
  if (text.empty()) return pattern.malformed("is empty");
  return text;
}

Result<Normalizer> read_bert_normalizer(const Node& node) {
  VB_TRY(node.only({"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"}));
  BertNormalizer bert{};
  VB_ASSIGN(bert.clean_text, node.boolean("clean_text"));
  VB_ASSIGN(bert.handle_chinese_chars, node.boolean("handle_chinese_chars"));
  VB_ASSIGN(bert.lowercase, node.boolean("lowercase"));
  VB_ASSIGN(bert.strip_accents, node.boolean("strip_accents", bert.lowercase));
  return Normalizer(bert);
}

Result<Normalizer> read_normalizer(const Node& node, const std::string& type) {
  if (type == "BertNormalizer") return read_bert_normalizer(node);
  if (type == "Strip") {
    VB_TRY(node.only({"type", "strip_left", "strip_right"}));
    VB_ASSIGN(const bool left, node.boolean("strip_left"));
    VB_ASSIGN(const bool right, node.boolean("strip_right"));
    return Normalizer(StripNormalizer{left, right});
  }
  if (type == "Replace") {
    VB_TRY(node.only({"type", "pattern", "content"}));
    VB_ASSIGN(std::string pattern, read_literal(node.member("pattern")));
    VB_ASSIGN(std::string content, node.text("content"));
    return Normalizer(ReplaceNormalizer{std::move(pattern), std::move(content)});
  }
  if (type == "Prepend") {
    VB_TRY(node.only({"type", "prepend"}));
    VB_ASSIGN(std::string content, node.text("prepend"));
    return Normalizer(PrependNormalizer{std::move(content)});
  }
  VB_TRY(node.only({"type"}));
  if (type == "Lowercase") return Normalizer(LowercaseNormalizer{});
  if (type == "NFC") return Normalizer(NfcNormalizer{});
  if (type == "NFD") return Normalizer(NfdNormalizer{});
  return node.not_supported("the normalizer " + type);
}

Result<PreTokenizer> read_split(const Node& node) {
  VB_TRY(node.only({"type", "pattern", "behavior", "invert"}));
  const Node pattern = node.member("pattern");
  VB_TRY(pattern.only({"Regex", "String"}));
  if (!pattern.has("Regex")) return pattern.not_supported("a literal");
  VB_ASSIGN(const std::string regex, pattern.text("Regex"));
  VB_ASSIGN(const std::string behavior, node.text("behavior"));
  VB_ASSIGN(const bool invert, node.boolean("invert", false));
  // The known patterns match all of any text, so keeping every match apart and removing what lies
  // between the matches are the same.
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
    return node.not_supported("the behavior " + behavior + (invert ? " with invert" : ""));
  }
  const auto known = find_split_pattern(regex);
  if (!known) return pattern.not_supported("the regular expression " + regex);
  return PreTokenizer(RegexPreTokenizer{*known});
}

Result<MetaspacePreTokenizer::Prepend> read_prepend_scheme(const Node& node) {
  using Prepend = MetaspacePreTokenizer::Prepend;
  // Older files have add_prefix_space in its place.
  VB_ASSIGN(const bool add_prefix_space, node.boolean("add_prefix_space", true));
  if (!node.has("prepend_scheme")) return add_prefix_space ? Prepend::always : Prepend::never;
  VB_ASSIGN(const std::string scheme, node.text("prepend_scheme"));
  if (scheme == "never") return Prepend::never;
  if (!add_prefix_space) return node.malformed("add_prefix_space contradicts prepend_scheme");
  if (scheme == "always") return Prepend::always;
  if (scheme == "first") return Prepend::first;
  return node.not_supported("the prepend_scheme " + scheme);
}

// The settings of Metaspace, as a pre-tokenizer or a decoder.
Result<MetaspacePreTokenizer> read_metaspace(const Node& node) {
  VB_TRY(
      node.only({"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"}));
  MetaspacePreTokenizer step{};
  VB_ASSIGN(step.replacement, node.character("replacement"));
  VB_ASSIGN(step.prepend, read_prepend_scheme(node));
  VB_ASSIGN(step.split, node.boolean("split", true));
  return step;
}

Status check_byte_level(const Node& node) {
  return node.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
}

Result<PreTokenizer> read_pre_tokenizer(const Node& node, const std::string& type) {
  if (type == "Split") return read_split(node);
  if (type == "ByteLevel") {
    VB_TRY(check_byte_level(node));
    VB_ASSIGN(const bool prefix, node.boolean("add_prefix_space"));
    VB_ASSIGN(const bool use_regex, node.boolean("use_regex", true));
    return PreTokenizer(ByteLevelPreTokenizer{prefix, use_regex});
  }
  if (type == "Digits") {
    VB_TRY(node.only({"type", "individual_digits"}));
    VB_ASSIGN(const bool individual, node.boolean("individual_digits"));
    return PreTokenizer(DigitsPreTokenizer{individual});
  }
  if (type == "Metaspace") {
    VB_ASSIGN(MetaspacePreTokenizer step, read_metaspace(node));
    return PreTokenizer(std::move(step));
  }
  VB_TRY(node.only({"type"}));
  if (type == "BertPreTokenizer") return PreTokenizer(BertPreTokenizer{});
  return node.not_supported("the pre-tokenizer " + type);
}

Result<Decoder> read_decoder(const Node& node, const std::string& type) {
  if (type == "ByteLevel") {
    VB_TRY(check_byte_level(node));
    return Decoder(ByteLevelDecoder{});
  }
  if (type == "WordPiece") {
    VB_TRY(node.only({"type", "prefix", "cleanup"}));
    VB_ASSIGN(std::string prefix, node.text("prefix"));
    VB_ASSIGN(const bool cleanup, node.boolean("cleanup"));
    return Decoder(WordPieceDecoder{std::move(prefix), cleanup});
  }
  if (type == "Strip") {
    VB_TRY(node.only({"type", "content", "start", "stop"}));
    VB_ASSIGN(std::string content, node.character("content"));
    VB_ASSIGN(const int64_t start, node.integer("start"));
    VB_ASSIGN(const int64_t stop, node.integer("stop"));
    return Decoder(
        StripDecoder{std::move(content), static_cast<size_t>(start), static_cast<size_t>(stop)});
  }
  if (type == "Replace") {
    VB_TRY(node.only({"type", "pattern", "content"}));
    VB_ASSIGN(std::string pattern, read_literal(node.member("pattern")));
    VB_ASSIGN(std::string content, node.text("content"));
    return Decoder(ReplaceDecoder{std::move(pattern), std::move(content)});
  }
  if (type == "Metaspace") {
    VB_ASSIGN(MetaspacePreTokenizer step, read_metaspace(node));
    const bool drop_first = step.prepend != MetaspacePreTokenizer::Prepend::never;
    return Decoder(MetaspaceDecoder{std::move(step.replacement), drop_first});
  }
  VB_TRY(node.only({"type"}));
  if (type == "ByteFallback") return Decoder(ByteFallbackDecoder{});
  if (type == "Fuse") return Decoder(FuseDecoder{});
  return node.not_supported("the decoder " + type);
}

// Appends the steps of `node`, which is null, a step or a Sequence of steps under the key `list`.
// Recursion is bounded by the depth of the JSON.
template <class Step>
Status read_steps(const Node& node, const char* list,
                  Result<Step> (*read)(const Node&, const std::string&), std::vector<Step>& steps) {
  if (node.value().is_null()) return {};
  VB_ASSIGN(const std::string type, node.text("type"));
  if (type != "Sequence") {
    VB_ASSIGN(Step step, read(node, type));
    return add_step(node, steps, std::move(step));
  }
  VB_TRY(node.only({"type", list}));
  VB_ASSIGN(const std::vector<Node> items, node.member(list).items());
  for (const Node& item : items) VB_TRY(read_steps(item, list, read, steps));
  return {};
}

Result<AddedToken> read_added_token(const Node& node) {
  VB_TRY(node.only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  AddedToken token{};
  VB_ASSIGN(token.id, node.integer("id"));
  VB_ASSIGN(token.content, node.text("content"));
  VB_ASSIGN(token.single_word, node.boolean("single_word"));
  VB_ASSIGN(token.lstrip, node.boolean("lstrip"));
  VB_ASSIGN(token.rstrip, node.boolean("rstrip"));
  VB_ASSIGN(token.special, node.boolean("special"));
  VB_ASSIGN(token.normalized, node.boolean("normalized", !token.special));
  return token;
}

Result<Vocabulary> read_vocabulary(const Node& node) {
  if (!node.value().is_object()) return node.malformed("is not an object");
  std::vector<Vocabulary::Entry> entries;
  entries.reserve(node.value().size());
  for (const auto& item : node.value().items()) {
    const Node id(item.value(), "the id of token \"" + item.key() + "\"");
    auto value = id.integer();
    if (!value.ok()) return node.malformed(value.status().message());
    entries.push_back({item.key(), *value});
  }
  auto vocabulary = Vocabulary::create(std::move(entries));
  if (!vocabulary.ok()) return node.malformed(vocabulary.status().message());
  return vocabulary;
}

// "left right", or ["left", "right"].
Result<BpeModel::Pair> read_merge(const Node& node) {
  if (node.value().is_array()) {
    VB_ASSIGN(const std::vector<Node> parts, node.items());
    if (parts.size() != 2) return node.malformed("is not a pair");
    VB_ASSIGN(std::string left, parts[0].text());
    VB_ASSIGN(std::string right, parts[1].text());
    return BpeModel::Pair(std::move(left), std::move(right));
  }
  VB_ASSIGN(const std::string text, node.text());
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    return node.malformed("is not two tokens with a space between them");
  }
  return BpeModel::Pair(text.substr(0, space), text.substr(space + 1));
}

Status check_bpe_settings(const Node& node) {
  VB_TRY(
      node.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                 "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!node.has(affix)) continue;
    VB_ASSIGN(const std::string text, node.text(affix));
    if (!text.empty()) return node.member(affix).not_supported("\"" + text + "\"");
  }
  const auto dropout = node.member("dropout");
  if (node.has("dropout") && dropout.value() != json(0)) {
    return dropout.not_supported("dropout, which is random,");
  }
  return {};
}

Result<Model> read_bpe(const Node& node) {
  VB_TRY(check_bpe_settings(node));
  BpeModel::Settings settings{};
  if (node.has("unk_token")) {
    VB_ASSIGN(settings.unk_token, node.text("unk_token"));
  }
  VB_ASSIGN(settings.fuse_unk, node.boolean("fuse_unk", false));
  VB_ASSIGN(settings.byte_fallback, node.boolean("byte_fallback", false));
  VB_ASSIGN(settings.ignore_merges, node.boolean("ignore_merges", false));
  VB_ASSIGN(Vocabulary vocabulary, read_vocabulary(node.member("vocab")));
  VB_ASSIGN(const std::vector<Node> items, node.member("merges").items());
  std::vector<BpeModel::Pair> merges;
  merges.reserve(items.size());
  for (const Node& item : items) {
    VB_ASSIGN(BpeModel::Pair merge, read_merge(item));
    merges.push_back(std::move(merge));
  }
  auto model = BpeModel::create(std::move(vocabulary), merges, std::move(settings));
  if (!model.ok()) return node.malformed(model.status().message());
  return Model(*std::move(model));
}

Result<Model> read_word_piece(const Node& node) {
  VB_TRY(node.only(
      {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}));
  WordPieceModel::Settings settings{};
  VB_ASSIGN(settings.unk_token, node.text("unk_token"));
  VB_ASSIGN(settings.continuing_subword_prefix, node.text("continuing_subword_prefix"));
  VB_ASSIGN(const int64_t longest, node.integer("max_input_chars_per_word"));
  settings.max_input_chars_per_word = static_cast<size_t>(longest);
  VB_ASSIGN(Vocabulary vocabulary, read_vocabulary(node.member("vocab")));
  return Model(WordPieceModel(std::move(vocabulary), std::move(settings)));
}

Result<Model> read_model(const Node& node) {
  if (!node.value().is_object()) return node.malformed("is not an object");
  // Files of 2020 do not name the type.
  const char* guess = node.has("merges") ? "BPE" : "WordPiece";
  VB_ASSIGN(const std::string type,
            node.has("type") ? node.text("type") : Result<std::string>(guess));
  if (type == "BPE") return read_bpe(node);
  if (type == "WordPiece") return read_word_piece(node);
  return node.not_supported("the model " + type);
}

// What one post-processor puts around a text.
struct Affixes {
  std::vector<int64_t> prefix, suffix;
};

// {"id": "[CLS]", "type_id": 0}: the ids that special_tokens gives for it.
Result<std::vector<int64_t>> read_special_token(const Node& piece, const Node& special_tokens) {
  VB_TRY(piece.only({"id", "type_id"}));
  VB_ASSIGN(const std::string name, piece.text("id"));
  if (!special_tokens.has(name.c_str())) return piece.malformed("is not in special_tokens");
  const Node token = special_tokens.member(name.c_str());
  VB_TRY(token.only({"id", "ids", "tokens"}));
  VB_ASSIGN(const std::vector<Node> items, token.member("ids").items());
  std::vector<int64_t> ids;
  for (const Node& item : items) {
    VB_ASSIGN(const int64_t id, item.integer());
    ids.push_back(id);
  }
  return ids;
}

// The template for one text. That for a pair is not used: encode() takes one text.
Result<Affixes> read_template(const Node& node) {
  VB_TRY(node.only({"type", "single", "pair", "special_tokens"}));
  VB_ASSIGN(const std::vector<Node> pieces, node.member("single").items());
  Affixes affixes;
  bool seen_text = false;
  for (const Node& piece : pieces) {
    VB_TRY(piece.only({"SpecialToken", "Sequence"}));
    if (piece.has("SpecialToken")) {
      VB_ASSIGN(const std::vector<int64_t> ids,
                read_special_token(piece.member("SpecialToken"), node.member("special_tokens")));
      auto& side = seen_text ? affixes.suffix : affixes.prefix;
      if (side.size() + ids.size() > kMaxTemplate) return node.malformed("is too long");
      side.insert(side.end(), ids.begin(), ids.end());
      continue;
    }
    VB_TRY(piece.member("Sequence").only({"id", "type_id"}));
    VB_ASSIGN(const std::string id, piece.member("Sequence").text("id"));
    if (id != "A" || seen_text) return piece.not_supported("a text other than one \"A\"");
    seen_text = true;
  }
  if (!seen_text) return node.not_supported("a template without the text");
  return affixes;
}

// ["[SEP]", 102]
Result<int64_t> read_token_pair(const Node& node) {
  VB_ASSIGN(const std::vector<Node> parts, node.items());
  if (parts.size() != 2) return node.malformed("is not a token and its id");
  VB_TRY(parts[0].text().status());
  return parts[1].integer();
}

Result<Affixes> read_post_processor(const Node& node, const std::string& type) {
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "ByteLevel") {  // moves offsets only
    VB_TRY(check_byte_level(node));
    return Affixes{};
  }
  if (type != "BertProcessing" && type != "RobertaProcessing") {
    return node.not_supported("the post-processor " + type);
  }
  VB_TRY(node.only({"type", "sep", "cls", "trim_offsets", "add_prefix_space"}));
  VB_ASSIGN(const int64_t cls, read_token_pair(node.member("cls")));
  VB_ASSIGN(const int64_t sep, read_token_pair(node.member("sep")));
  return Affixes{{cls}, {sep}};
}

Status read_post_processors(const Node& node, Parts& parts) {
  std::vector<Affixes> steps;
  VB_TRY(read_steps(node, "processors", read_post_processor, steps));
  for (const Affixes& step : steps) {
    parts.prefix.insert(parts.prefix.begin(), step.prefix.begin(), step.prefix.end());
    parts.suffix.insert(parts.suffix.end(), step.suffix.begin(), step.suffix.end());
  }
  return {};
}

Result<std::unique_ptr<Tokenizer>> read_tokenizer(const json& value, const std::string& source) {
  const Node root(value, source + ": ");
  VB_TRY(root.only({"version", "truncation", "padding", "added_tokens", "normalizer",
                    "pre_tokenizer", "post_processor", "decoder", "model"}));
  VB_ASSIGN(Model model, read_model(root.member("model")));
  Parts parts{{}, {}, {}, std::move(model), {}, {}, std::nullopt};
  if (root.has("added_tokens")) {
    VB_ASSIGN(const std::vector<Node> items, root.member("added_tokens").items());
    for (const Node& item : items) {
      VB_ASSIGN(AddedToken token, read_added_token(item));
      parts.added_tokens.push_back(std::move(token));
    }
  }
  VB_TRY(read_steps(root.member("normalizer"), "normalizers", read_normalizer, parts.normalizers));
  VB_TRY(read_steps(root.member("pre_tokenizer"), "pretokenizers", read_pre_tokenizer,
                    parts.pre_tokenizers));
  VB_TRY(read_post_processors(root.member("post_processor"), parts));
  if (root.has("decoder")) {
    parts.decoders.emplace();
    VB_TRY(read_steps(root.member("decoder"), "decoders", read_decoder, *parts.decoders));
  }
  auto tokenizer = assemble(std::move(parts));
  if (!tokenizer.ok()) return tokenizer.status().with_context(source);
  return tokenizer;
}

// One token a line, its id the line's number.
Result<json> read_vocab_txt(const std::string& path) {
  VB_ASSIGN(const Bytes bytes, read_file(path, kMaxFileBytes));
  const std::string_view text = as_chars(bytes);
  if (!unicode::is_valid_utf8(text)) return bad_input(path + ": is not UTF-8");
  json vocabulary = json::object();
  int64_t line = 0;
  for (size_t at = 0; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view whole = text.substr(at, end - at);
    const std::string token(
        whole.substr(0, unicode::skip_white_space_back(whole, whole.size(), 0)));
    if (!vocabulary.emplace(token, line).second) {
      return bad_input_at(path, at, "the token \"" + token + "\" occurs twice");
    }
    at = end + 1;
  }
  return vocabulary;
}

// The value of `key`, "[CLS]" or {"content": "[CLS]", ...}.
Result<std::string> read_special(const Node& config, const char* key, const char* otherwise) {
  if (!config.has(key)) return std::string(otherwise);
  const Node token = config.member(key);
  return token.value().is_object() ? token.text("content") : token.text();
}

// What is needed of tokenizer_config.json, whose other keys concern callers of Python classes.
Status check_bert_config(const Node& config) {
  constexpr std::string_view kClasses[] = {
      "BertTokenizer",    "BertTokenizerFast",       "DistilBertTokenizer",
      "ElectraTokenizer", "DistilBertTokenizerFast", "ElectraTokenizerFast",
  };
  if (config.has("tokenizer_class")) {
    VB_ASSIGN(const std::string name, config.text("tokenizer_class"));
    if (std::find(std::begin(kClasses), std::end(kClasses), name) == std::end(kClasses)) {
      return config.member("tokenizer_class").not_supported(name + " with vocab.txt");
    }
  }
  if (config.has("never_split")) return config.member("never_split").not_supported("never_split");
  VB_ASSIGN(const bool basic, config.boolean("do_basic_tokenize", true));
  return basic ? Status() : config.member("do_basic_tokenize").not_supported("false");
}

// The tokenizer.json that a BERT vocabulary and its configuration stand for.
Result<json> make_bert_json(const json& vocabulary, const Node& config) {
  VB_TRY(check_bert_config(config));
  VB_ASSIGN(const bool lowercase, config.boolean("do_lower_case", true));
  VB_ASSIGN(const bool chinese, config.boolean("tokenize_chinese_chars", true));
  VB_ASSIGN(const bool strip, config.boolean("strip_accents", lowercase));
  constexpr std::pair<const char*, const char*> kSpecial[] = {{"pad_token", "[PAD]"},
                                                              {"unk_token", "[UNK]"},
                                                              {"cls_token", "[CLS]"},
                                                              {"sep_token", "[SEP]"},
                                                              {"mask_token", "[MASK]"}};
  json added = json::array();
  json special = json::object();
  for (const auto& [key, otherwise] : kSpecial) {
    VB_ASSIGN(const std::string content, read_special(config, key, otherwise));
    const auto id = vocabulary.find(content);
    if (id == vocabulary.end()) {
      return bad_input("vocab.txt: the " + std::string(key) + " \"" + content + "\" is missing");
    }
    special[key] = json::array({content, *id});
    added.push_back({{"id", *id},
                     {"content", content},
                     {"special", true},
                     {"normalized", false},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false}});
  }
  return json{
      {"added_tokens", std::move(added)},
      {"normalizer",
       {{"type", "BertNormalizer"},
        {"clean_text", true},
        {"handle_chinese_chars", chinese},
        {"strip_accents", strip},
        {"lowercase", lowercase}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor",
       {{"type", "BertProcessing"}, {"cls", special["cls_token"]}, {"sep", special["sep_token"]}}},
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", special["unk_token"][0]},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", 100},
        {"vocab", vocabulary}}},
  };
}

}  // namespace
}  // namespace tokenizer

Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view text,
                                                        const std::string& source) {
  VB_ASSIGN(const Json root, parse_json(text, source));
  return tokenizer::read_tokenizer(root, source);
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& folder) {
  namespace fs = std::filesystem;
  auto exists = [](const std::string& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
  };
  const std::string json_path = folder + "/tokenizer.json";
  const std::string vocab_path = folder + "/vocab.txt";
  const std::string config_path = folder + "/tokenizer_config.json";
  if (exists(json_path)) {
    VB_ASSIGN(const Bytes bytes, read_file(json_path, tokenizer::kMaxFileBytes));
    return parse_tokenizer_json(as_chars(bytes), json_path);
  }
  if (!exists(vocab_path)) {
    return unavailable(folder + ": has neither tokenizer.json nor vocab.txt");
  }
  VB_ASSIGN(const Json vocabulary, tokenizer::read_vocab_txt(vocab_path));
  Json config = Json::object();
  if (exists(config_path)) {
    VB_ASSIGN(config, read_json_object(config_path, tokenizer::kMaxFileBytes));
  }
  VB_ASSIGN(const Json root,
            tokenizer::make_bert_json(vocabulary, tokenizer::Node(config, config_path + ": ")));
  return tokenizer::read_tokenizer(root, vocab_path);
}

}  // namespace verbatim
