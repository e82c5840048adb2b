// The decoders.
#include <verbatim/repops/models/tokenizer.h>
#include <verbatim/repops/models/tokenizer_decode.h>
#include <verbatim/repops/models/tokenizer_normalize.h>
#include <verbatim/repops/models/tokenizer_split.h>
#include <verbatim/repops/models/unicode_text.h>

#include <optional>
#include <utility>

namespace verbatim::tokenizer {
namespace {

using Tokens = std::vector<std::string>;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::optional<uint8_t> byte_of(char32_t spelling) {
  static const std::vector<std::optional<uint8_t>> bytes = [] {
    std::vector<std::optional<uint8_t>> inverse(0x144);
    for (size_t b = 0; b < 256; ++b) inverse[byte_level_alphabet()[b]] = static_cast<uint8_t>(b);
    return inverse;
  }();
  return spelling < bytes.size() ? bytes[spelling] : std::nullopt;
}

// The bytes that `token` spells; itself where some character spells none (an added token).
std::string bytes_of(const std::string& token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const auto byte = byte_of(unicode::next_code_point(token, at));
    if (!byte) return token;
    bytes.push_back(static_cast<char>(*byte));
  }
  return bytes;
}

Result<Tokens> apply(const ByteLevelDecoder&, Tokens tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes.append(bytes_of(token));
  return Tokens{unicode::replace_invalid_utf8(bytes)};
}

// Hugging Face's clean-up, in its order.
Result<std::string> clean_up(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [pattern, content] : kRules) {
    VB_ASSIGN(text, replace_all(text, pattern, content));
  }
  return text;
}

Result<Tokens> apply(const WordPieceDecoder& step, Tokens tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && tokens[i].starts_with(step.prefix)) {
      tokens[i].erase(0, step.prefix.size());
    } else if (i > 0) {
      tokens[i].insert(0, " ");
    }
    if (step.cleanup) {
      VB_ASSIGN(tokens[i], clean_up(std::move(tokens[i])));
    }
  }
  return tokens;
}

std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const char lower = static_cast<char>(c | 0x20);
    if (c >= '0' && c <= '9') {
      value = value * 16 + (c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value * 16 + (lower - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return static_cast<char>(value);
}

Result<Tokens> apply(const ByteFallbackDecoder&, Tokens tokens) {
  Tokens text;
  std::string bytes;
  auto flush = [&] {
    if (bytes.empty()) return;
    if (unicode::is_valid_utf8(bytes)) {
      text.push_back(bytes);
    } else {
      text.insert(text.end(), bytes.size(), std::string(kReplacement));
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = fallback_byte(token)) {
      bytes.push_back(*byte);
    } else {
      flush();
      text.push_back(std::move(token));
    }
  }
  flush();
  return text;
}

Result<Tokens> apply(const FuseDecoder&, Tokens tokens) {
  std::string all;
  for (const std::string& token : tokens) all.append(token);
  return Tokens{std::move(all)};
}

Result<Tokens> apply(const StripDecoder& step, Tokens tokens) {
  for (std::string& token : tokens) {
    std::string_view rest = token;
    for (size_t i = 0; i < step.start && rest.starts_with(step.content); ++i) {
      rest.remove_prefix(step.content.size());
    }
    for (size_t i = 0; i < step.stop && rest.ends_with(step.content); ++i) {
      rest.remove_suffix(step.content.size());
    }
    token = std::string(rest);
  }
  return tokens;
}

Result<Tokens> apply(const ReplaceDecoder& step, Tokens tokens) {
  for (std::string& token : tokens) {
    VB_ASSIGN(token, replace_all(token, step.pattern, step.content));
  }
  return tokens;
}

Result<Tokens> apply(const MetaspaceDecoder& step, Tokens tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view content = i == 0 && step.drop_first ? "" : " ";
    VB_ASSIGN(tokens[i], replace_all(tokens[i], step.replacement, content));
  }
  return tokens;
}

void describe_settings(const ByteLevelDecoder&, CanonicalWriter& out) { out.put("ByteLevel"); }
void describe_settings(const WordPieceDecoder& step, CanonicalWriter& out) {
  out.put("WordPiece");
  out.put(step.prefix);
  out.put(step.cleanup);
}
void describe_settings(const ByteFallbackDecoder&, CanonicalWriter& out) {
  out.put("ByteFallback");
}
void describe_settings(const FuseDecoder&, CanonicalWriter& out) { out.put("Fuse"); }
void describe_settings(const StripDecoder& step, CanonicalWriter& out) {
  out.put("Strip");
  out.put(step.content);
  out.put(step.start);
  out.put(step.stop);
}
void describe_settings(const ReplaceDecoder& step, CanonicalWriter& out) {
  out.put("Replace");
  out.put(step.pattern);
  out.put(step.content);
}
void describe_settings(const MetaspaceDecoder& step, CanonicalWriter& out) {
  out.put("Metaspace");
  out.put(step.replacement);
  out.put(step.drop_first);
}

Status check_size(const Tokens& tokens) {
  size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  if (bytes <= Tokenizer::kMaxExpandedBytes) return {};
  return over_limit("tokenizer: the text of these ids is longer than " +
                    std::to_string(Tokenizer::kMaxExpandedBytes) + " bytes");
}

}  // namespace

Result<std::vector<std::string>> decode_tokens(std::span<const Decoder> steps, Tokens tokens) {
  VB_TRY(check_size(tokens));
  for (const Decoder& step : steps) {
    VB_ASSIGN(tokens, std::visit([&](const auto& s) { return apply(s, std::move(tokens)); }, step));
    VB_TRY(check_size(tokens));
  }
  return tokens;
}

void describe(const Decoder& step, CanonicalWriter& out) {
  std::visit([&](const auto& s) { describe_settings(s, out); }, step);
}

}  // namespace verbatim::tokenizer
