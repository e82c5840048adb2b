// The normalizers; BertNormalizer is that of the original BERT code (tokenization.py,
// BasicTokenizer).
#include <verbatim/repops/models/tokenizer.h>
#include <verbatim/repops/models/tokenizer_normalize.h>
#include <verbatim/repops/models/unicode_text.h>

namespace verbatim::tokenizer {
namespace {

Status check_size(size_t bytes) {
  if (bytes <= Tokenizer::kMaxExpandedBytes) return {};
  return over_limit("tokenizer: a step makes more than " +
                    std::to_string(Tokenizer::kMaxExpandedBytes) + " bytes of the text");
}

// CJK ideographs. U+2B820..U+2B91F (extension E's first 256) are missing as they are in Hugging
// Face's code, by which models were trained and are run.
bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
         (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string clean_text(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t code = unicode::next_code_point(text, at);
    if (unicode::is_bert_removed(code)) continue;
    unicode::append_utf8(clean, unicode::is_white_space(code) ? U' ' : code);
  }
  return clean;
}

std::string space_chinese(std::string_view text) {
  std::string spaced;
  spaced.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const bool chinese = is_chinese(unicode::next_code_point(text, at));
    if (chinese) spaced.push_back(' ');
    spaced.append(text.substr(begin, at - begin));
    if (chinese) spaced.push_back(' ');
  }
  return spaced;
}

std::string strip_accents(std::string_view text) {
  const std::string decomposed = unicode::to_nfd(text);
  std::string plain;
  plain.reserve(decomposed.size());
  for (size_t at = 0; at < decomposed.size();) {
    const char32_t code = unicode::next_code_point(decomposed, at);
    if (!unicode::is_bert_mark(code)) unicode::append_utf8(plain, code);
  }
  return plain;
}

Status apply(const BertNormalizer& bert, Normalized& out) {
  if (bert.clean_text) out.text = clean_text(out.text);
  if (bert.handle_chinese_chars) out.text = space_chinese(out.text);
  if (bert.strip_accents) out.text = strip_accents(out.text);
  if (bert.lowercase) out.text = unicode::to_lower(out.text);
  return {};
}

Status apply(const LowercaseNormalizer&, Normalized& out) {
  out.text = unicode::to_lower(out.text);
  return {};
}

Status apply(const NfcNormalizer&, Normalized& out) {
  out.text = unicode::to_nfc(out.text);
  return {};
}

Status apply(const NfdNormalizer&, Normalized& out) {
  out.text = unicode::to_nfd(out.text);
  return {};
}

Status apply(const StripNormalizer& strip, Normalized& out) {
  const size_t begin = strip.left ? unicode::skip_white_space(out.text, 0) : 0;
  const size_t end = strip.right ? unicode::skip_white_space_back(out.text, out.text.size(), begin)
                                 : out.text.size();
  if (begin > 0) out.keeps_front = false;
  out.text = out.text.substr(begin, end - begin);
  return {};
}

Status apply(const ReplaceNormalizer& replace, Normalized& out) {
  if (replace.content.empty() && out.text.starts_with(replace.pattern)) out.keeps_front = false;
  VB_ASSIGN(out.text, replace_all(out.text, replace.pattern, replace.content));
  return {};
}

Status apply(const PrependNormalizer& prepend, Normalized& out) {
  if (!out.text.empty()) out.text.insert(0, prepend.content);
  return {};
}

void describe_settings(const BertNormalizer& bert, CanonicalWriter& out) {
  out.put("BertNormalizer");
  out.put(bert.clean_text);
  out.put(bert.handle_chinese_chars);
  out.put(bert.strip_accents);
  out.put(bert.lowercase);
}
void describe_settings(const LowercaseNormalizer&, CanonicalWriter& out) { out.put("Lowercase"); }
void describe_settings(const NfcNormalizer&, CanonicalWriter& out) { out.put("NFC"); }
void describe_settings(const NfdNormalizer&, CanonicalWriter& out) { out.put("NFD"); }
void describe_settings(const StripNormalizer& strip, CanonicalWriter& out) {
  out.put("Strip");
  out.put(strip.left);
  out.put(strip.right);
}
void describe_settings(const ReplaceNormalizer& replace, CanonicalWriter& out) {
  out.put("Replace");
  out.put(replace.pattern);
  out.put(replace.content);
}
void describe_settings(const PrependNormalizer& prepend, CanonicalWriter& out) {
  out.put("Prepend");
  out.put(prepend.content);
}

}  // namespace

Result<std::string> replace_all(std::string_view text, std::string_view pattern,
                                std::string_view content) {
  std::string replaced;
  replaced.reserve(text.size());
  size_t done = 0;
  for (size_t at; (at = text.find(pattern, done)) != std::string_view::npos;) {
    replaced.append(text.substr(done, at - done)).append(content);
    VB_TRY(check_size(replaced.size()));
    done = at + pattern.size();
  }
  replaced.append(text.substr(done));
  return replaced;
}

Result<Normalized> normalize(std::span<const Normalizer> steps, std::string text) {
  Normalized out{std::move(text)};
  for (const Normalizer& step : steps) {
    VB_TRY(std::visit([&](const auto& s) { return apply(s, out); }, step));
    VB_TRY(check_size(out.text.size()));
  }
  return out;
}

void describe(const Normalizer& step, CanonicalWriter& out) {
  std::visit([&](const auto& s) { describe_settings(s, out); }, step);
}

}  // namespace verbatim::tokenizer
