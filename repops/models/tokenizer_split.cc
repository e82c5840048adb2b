// The pre-tokenizers, each one pass over the text.
#include <verbatim/repops/models/tokenizer_split.h>
#include <verbatim/repops/models/unicode_text.h>

namespace verbatim::tokenizer {
namespace {

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// What the patterns tell apart; end is the place after the text.
enum class Class : uint8_t { letter, number, space, other, end };

Class class_of(char32_t code) {
  if (code < 0x80) {
    if ((code | 0x20) >= 'a' && (code | 0x20) <= 'z') return Class::letter;
    if (code >= '0' && code <= '9') return Class::number;
    return code == ' ' || (code >= '\t' && code <= '\r') ? Class::space : Class::other;
  }
  if (unicode::is_letter(code)) return Class::letter;
  if (unicode::is_number(code)) return Class::number;
  return unicode::is_white_space(code) ? Class::space : Class::other;
}

// The class of the character at `at`; `next` is the place after it.
Class class_at(std::string_view text, size_t at, size_t& next) {
  next = at;
  return at >= text.size() ? Class::end : class_of(unicode::next_code_point(text, next));
}

size_t skip_class(std::string_view text, size_t at, Class wanted) {
  for (size_t next; class_at(text, at, next) == wanted;) at = next;
  return at;
}

size_t skip_newlines(std::string_view text, size_t at) {
  while (at < text.size() && (text[at] == '\r' || text[at] == '\n')) ++at;
  return at;
}

// 's|'t|'re|'ve|'m|'ll|'d: the end of the contraction at `at`, or `at`. Without case, U+017F (long
// s) is an s too.
size_t match_contraction(std::string_view text, size_t at, bool any_case) {
  if (text[at] != '\'') return at;
  auto letter = [&](size_t i) -> char {
    if (i >= text.size()) return 0;
    const char c = text[i];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  const char first = letter(at + 1);
  const char second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (any_case && text.substr(at + 1, 2) == "\xC5\xBF") return at + 3;
  return at;
}

// \s+(?!\S)|\s+: all the white space, less its last character where something follows it.
size_t match_spaces(std::string_view text, size_t at) {
  size_t last = at;
  size_t end = at;
  for (size_t next; class_at(text, end, next) == Class::space; end = next) last = end;
  return end == text.size() || last == at ? end : last;
}

// \s*[\r\n]+: through the last line end of the white space at `at`; `at` where it holds none.
size_t match_lines(std::string_view text, size_t at) {
  size_t matched = at;
  for (size_t next; class_at(text, at, next) == Class::space; at = next) {
    if (text[at] == '\r' || text[at] == '\n') matched = next;
  }
  return matched;
}

// The end of the match at `at` of kGpt2Regex.
size_t match_gpt2(std::string_view text, size_t at) {
  if (const size_t end = match_contraction(text, at, false); end != at) return end;
  const size_t begin = text[at] == ' ' ? at + 1 : at;
  size_t next;
  const Class kind = class_at(text, begin, next);
  if (kind == Class::space || kind == Class::end) return match_spaces(text, at);
  return skip_class(text, next, kind);
}

// The end of the match at `at` of kLlama3Regex (max_digits 3) or kQwen2Regex (1).
size_t match_cl100k(std::string_view text, size_t at, int max_digits) {
  if (const size_t end = match_contraction(text, at, true); end != at) return end;
  size_t next;
  const Class kind = class_at(text, at, next);
  if (kind == Class::letter) return skip_class(text, next, Class::letter);
  if (kind == Class::number) {
    at = next;
    for (int i = 1; i < max_digits && class_at(text, at, next) == Class::number; ++i) at = next;
    return at;
  }
  size_t after;
  const Class following = class_at(text, next, after);
  const bool line_end = text[at] == '\r' || text[at] == '\n';
  if (following == Class::letter && !line_end) return skip_class(text, after, Class::letter);
  if (kind == Class::other || (text[at] == ' ' && following == Class::other)) {
    return skip_newlines(text, skip_class(text, next, Class::other));
  }
  if (const size_t end = match_lines(text, at); end != at) return end;
  return match_spaces(text, at);
}

size_t match(SplitPattern pattern, std::string_view text, size_t at) {
  switch (pattern) {
    case SplitPattern::gpt2:
      return match_gpt2(text, at);
    case SplitPattern::llama3:
      return match_cl100k(text, at, 3);
    case SplitPattern::qwen2:
      return match_cl100k(text, at, 1);
  }
  return text.size();
}

Status split(const BertPreTokenizer&, std::string_view text, bool at_start, const WordSink& sink) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    const char32_t code = unicode::next_code_point(text, at);
    const bool space = unicode::is_white_space(code);
    if (!space && !unicode::is_bert_punctuation(code)) continue;
    if (begin < here) VB_TRY(sink(text.substr(begin, here - begin), at_start && begin == 0));
    if (!space) VB_TRY(sink(text.substr(here, at - here), at_start && here == 0));
    begin = at;
  }
  return begin < text.size() ? sink(text.substr(begin), at_start && begin == 0) : Status();
}

Status split(const RegexPreTokenizer& step, std::string_view text, bool at_start,
             const WordSink& sink) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = match(step.pattern, text, at);
    VB_TRY(sink(text.substr(at, end - at), at_start && at == 0));
    at = end;
  }
  return {};
}

Status split(const ByteLevelPreTokenizer& step, std::string_view text, bool at_start,
             const WordSink& sink) {
  std::string prefixed;
  if (step.add_prefix_space && !text.starts_with(' ')) {
    prefixed.append(" ").append(text);
    text = prefixed;
  }
  const auto& alphabet = byte_level_alphabet();
  std::string spelt;
  const WordSink spell = [&](std::string_view word, bool first) {
    spelt.clear();
    for (const char c : word) unicode::append_utf8(spelt, alphabet[static_cast<uint8_t>(c)]);
    return sink(spelt, first);
  };
  if (!step.use_regex) return spell(text, at_start);
  return split(RegexPreTokenizer{SplitPattern::gpt2}, text, at_start, spell);
}

Status split(const DigitsPreTokenizer& step, std::string_view text, bool at_start,
             const WordSink& sink) {
  size_t begin = 0;
  bool in_number = false;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    const bool number = unicode::is_number(unicode::next_code_point(text, at));
    const bool cut = number != in_number || (number && step.individual_digits);
    if (cut && begin < here) {
      VB_TRY(sink(text.substr(begin, here - begin), at_start && begin == 0));
      begin = here;
    }
    in_number = number;
  }
  return begin < text.size() ? sink(text.substr(begin), at_start && begin == 0) : Status();
}

Status split(const MetaspacePreTokenizer& step, std::string_view text, bool at_start,
             const WordSink& sink) {
  using Prepend = MetaspacePreTokenizer::Prepend;
  std::string marked;
  marked.reserve(text.size() + step.replacement.size());
  const bool open = text.starts_with(' ') || text.starts_with(step.replacement);
  if (!open && (step.prepend == Prepend::always || (step.prepend == Prepend::first && at_start))) {
    marked = step.replacement;
  }
  for (const char c : text) {
    if (c == ' ') {
      marked.append(step.replacement);
    } else {
      marked.push_back(c);
    }
  }
  if (!step.split) return sink(marked, at_start);
  const std::string_view all = marked;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find(step.replacement, begin + 1), all.size());
    VB_TRY(sink(all.substr(begin, end - begin), at_start && begin == 0));
    begin = end;
  }
  return {};
}

void describe_settings(const BertPreTokenizer&, CanonicalWriter& out) { out.put("Bert"); }
void describe_settings(const RegexPreTokenizer& step, CanonicalWriter& out) {
  out.put("Split");
  out.put(int64_t{static_cast<uint8_t>(step.pattern)});
}
void describe_settings(const ByteLevelPreTokenizer& step, CanonicalWriter& out) {
  out.put("ByteLevel");
  out.put(step.add_prefix_space);
  out.put(step.use_regex);
}
void describe_settings(const DigitsPreTokenizer& step, CanonicalWriter& out) {
  out.put("Digits");
  out.put(step.individual_digits);
}
void describe_settings(const MetaspacePreTokenizer& step, CanonicalWriter& out) {
  out.put("Metaspace");
  out.put(step.replacement);
  out.put(int64_t{static_cast<uint8_t>(step.prepend)});
  out.put(step.split);
}

}  // namespace

std::optional<SplitPattern> find_split_pattern(std::string_view regex) {
  if (regex == kGpt2Regex) return SplitPattern::gpt2;
  if (regex == kLlama3Regex) return SplitPattern::llama3;
  if (regex == kQwen2Regex) return SplitPattern::qwen2;
  return std::nullopt;
}

Status split_words(std::span<const PreTokenizer> steps, std::string_view text, bool at_start,
                   const WordSink& sink) {
  if (text.empty()) return {};
  if (steps.empty()) return sink(text, at_start);
  const WordSink rest = [&](std::string_view word, bool first) {
    return split_words(steps.subspan(1), word, first, sink);
  };
  return std::visit([&](const auto& step) { return split(step, text, at_start, rest); },
                    steps.front());
}

void describe(const PreTokenizer& step, CanonicalWriter& out) {
  std::visit([&](const auto& s) { describe_settings(s, out); }, step);
}

const std::array<char32_t, 256>& byte_level_alphabet() {
  static const std::array<char32_t, 256> alphabet = [] {
    std::array<char32_t, 256> spelling{};
    char32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      spelling[byte] = printable ? byte : next++;
    }
    return spelling;
  }();
  return alphabet;
}

}  // namespace verbatim::tokenizer
