// UTF-8 decoding, table lookups, and canonical normalization (The Unicode Standard, section 3.11).
#include <verbatim/repops/models/unicode_tables.h>
#include <verbatim/repops/models/unicode_text.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace verbatim::unicode {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

bool is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Where the character begins that ends at `end` > 0.
size_t last_character(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (is_continuation(static_cast<uint8_t>(text[at]))) --at;
  return at;
}

// How many bytes from `at` make one character; when they do not, the negated length of the maximal
// invalid part there.
int character_length(std::string_view text, size_t at) {
  auto byte = [&](size_t i) -> uint8_t {
    return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : 0;
  };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return -1;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte excludes overlong forms, surrogates and code points above U+10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return -1;
  for (int i = 2; i < length; ++i) {
    if (!is_continuation(byte(static_cast<size_t>(i)))) return -i;
  }
  return length;
}

template <class Range>
const Range* find_range(std::span<const Range> table, uint32_t code) {
  auto after = std::upper_bound(table.begin(), table.end(), code,
                                [](uint32_t c, const Range& range) { return c < range.first; });
  if (after == table.begin()) return nullptr;
  const Range* range = &*std::prev(after);
  return code <= range->last ? range : nullptr;
}

bool in_class(std::span<const CodeRange> table, char32_t code) {
  return find_range(table, code) != nullptr;
}

std::span<const char32_t> find_mapping(std::span<const CodeMapping> table,
                                       std::span<const char32_t> pool, uint32_t code) {
  auto at = std::lower_bound(table.begin(), table.end(), code,
                             [](const CodeMapping& m, uint32_t c) { return m.code < c; });
  if (at == table.end() || at->code != code) return {};
  return pool.subspan(at->offset, at->length);
}

uint32_t combining_class(char32_t code) {
  if (code < 0x300) return 0;
  const CombiningRange* range = find_range(kCombiningClass, code);
  return range == nullptr ? 0 : range->combining_class;
}

// Hangul syllables are composed by arithmetic: section 3.12.
constexpr uint32_t kHangulFirst = 0xAC00, kLeadFirst = 0x1100, kVowelFirst = 0x1161,
                   kTrailFirst = 0x11A7;  // one before the first trailing consonant
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTrailCount = 28;
constexpr uint32_t kHangulCount = kLeadCount * kVowelCount * kTrailCount;

// Whether `code` is in first..first+count-1; wraps to a large number below first.
bool within(uint32_t code, uint32_t first, uint32_t count) { return code - first < count; }

void append_decomposition(std::vector<char32_t>& out, char32_t code) {
  if (within(code, kHangulFirst, kHangulCount)) {
    const uint32_t index = code - kHangulFirst;
    out.push_back(kLeadFirst + index / (kVowelCount * kTrailCount));
    out.push_back(kVowelFirst + index % (kVowelCount * kTrailCount) / kTrailCount);
    if (index % kTrailCount != 0) out.push_back(kTrailFirst + index % kTrailCount);
    return;
  }
  const auto text = find_mapping(kDecomposition, kDecompositionText, code);
  if (text.empty()) {
    out.push_back(code);
  } else {
    out.insert(out.end(), text.begin(), text.end());
  }
}

// Decomposed, with each run of combining marks in the order of their classes. Sorting whole runs
// keeps a long one from taking quadratic time.
std::vector<char32_t> decompose(std::string_view text) {
  std::vector<char32_t> codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_decomposition(codes, next_code_point(text, at));

  std::vector<std::pair<uint32_t, char32_t>> run;
  for (size_t begin = 0; begin < codes.size();) {
    run.clear();
    size_t end = begin;
    for (; end < codes.size(); ++end) {
      const uint32_t mark = combining_class(codes[end]);
      if (mark == 0) break;
      run.emplace_back(mark, codes[end]);
    }
    std::stable_sort(run.begin(), run.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 0; i < run.size(); ++i) codes[begin + i] = run[i].second;
    begin = end + 1;
  }
  return codes;
}

// The composite of two code points, or 0.
char32_t compose_pair(char32_t first, char32_t second) {
  if (within(first, kLeadFirst, kLeadCount) && within(second, kVowelFirst, kVowelCount)) {
    const uint32_t pair = (first - kLeadFirst) * kVowelCount + (second - kVowelFirst);
    return kHangulFirst + pair * kTrailCount;
  }
  if (within(first, kHangulFirst, kHangulCount) && (first - kHangulFirst) % kTrailCount == 0 &&
      within(second, kTrailFirst + 1, kTrailCount - 1)) {
    return first + (second - kTrailFirst);
  }
  const auto key = std::pair<uint32_t, uint32_t>(first, second);
  auto at = std::lower_bound(
      kComposition.begin(), kComposition.end(), key,
      [](const Composition& c, const auto& k) { return std::pair(c.first, c.second) < k; });
  if (at == kComposition.end() || std::pair(at->first, at->second) != key) return 0;
  return at->composite;
}

// Joins each character to the last starter before it unless a character between them blocks it.
void compose(std::vector<char32_t>& codes) {
  size_t out = 0;
  size_t starter = 0;
  bool have_starter = false;
  uint32_t last_class = 0;  // of the last character kept since the starter; 0: none
  for (const char32_t code : codes) {
    const uint32_t mark = combining_class(code);
    const bool adjacent = have_starter && out == starter + 1;
    if (have_starter && (adjacent || last_class < mark)) {
      if (const char32_t composite = compose_pair(codes[starter], code); composite != 0) {
        codes[starter] = composite;
        continue;
      }
    }
    if (mark == 0) {
      starter = out;
      have_starter = true;
    }
    last_class = mark;
    codes[out++] = code;
  }
  codes.resize(out);
}

std::string encode(const std::vector<char32_t>& codes) {
  std::string text;
  text.reserve(codes.size());
  for (const char32_t code : codes) append_utf8(text, code);
  return text;
}

}  // namespace

bool is_valid_utf8(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const int length = character_length(bytes, at);
    if (length < 0) return false;
    at += static_cast<size_t>(length);
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const int length = character_length(bytes, at);
    if (length > 0) {
      text.append(bytes.substr(at, static_cast<size_t>(length)));
    } else {
      text.append(kReplacement);
    }
    at += static_cast<size_t>(length > 0 ? length : -length);
  }
  return text;
}

char32_t next_code_point(std::string_view text, size_t& at) {
  const auto lead = static_cast<uint8_t>(text[at++]);
  if (lead < 0x80) return lead;
  const int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  char32_t code = lead & (0x3Fu >> more);
  for (int i = 0; i < more; ++i) code = code << 6 | (static_cast<uint8_t>(text[at++]) & 0x3F);
  return code;
}

char32_t last_code_point(std::string_view text) {
  size_t at = last_character(text, text.size());
  return next_code_point(text, at);
}

size_t skip_white_space(std::string_view text, size_t at) {
  for (size_t next = at; next < text.size(); at = next) {
    if (!is_white_space(next_code_point(text, next))) break;
  }
  return at;
}

size_t skip_white_space_back(std::string_view text, size_t at, size_t limit) {
  while (at > limit) {
    size_t begin = last_character(text, at);
    const size_t before = begin;
    if (!is_white_space(next_code_point(text, begin))) break;
    at = before;
  }
  return at;
}

void append_utf8(std::string& text, char32_t code) {
  auto put = [&](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
    return;
  }
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

bool is_letter(char32_t code) { return in_class(kLetter, code); }
bool is_number(char32_t code) { return in_class(kNumber, code); }
bool is_white_space(char32_t code) { return in_class(kWhiteSpace, code); }
bool is_word(char32_t code) { return in_class(kWord, code); }
bool is_bert_removed(char32_t code) { return in_class(kBertRemoved, code); }
bool is_bert_mark(char32_t code) { return code >= 0x300 && in_class(kBertMark, code); }
bool is_bert_punctuation(char32_t code) { return in_class(kBertPunctuation, code); }

std::string to_lower(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    if (code < 0x80) {
      lower.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code));
      continue;
    }
    const auto mapped = find_mapping(kLowerCase, kLowerCaseText, code);
    if (mapped.empty()) append_utf8(lower, code);
    for (const char32_t c : mapped) append_utf8(lower, c);
  }
  return lower;
}

std::string to_nfd(std::string_view text) {
  return is_ascii(text) ? std::string(text) : encode(decompose(text));
}

std::string to_nfc(std::string_view text) {
  if (is_ascii(text)) return std::string(text);
  std::vector<char32_t> codes = decompose(text);
  compose(codes);
  return encode(codes);
}

std::string_view tables_digest() { return kTablesDigest; }

}  // namespace verbatim::unicode
