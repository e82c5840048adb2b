// UTF-8 text, and the character classes, case and normalization forms that tokenizers work by.
// All functions but the first two take valid UTF-8. The data are fixed tables (unicode_tables.h),
// so the same text gives the same answer on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace verbatim::unicode {

// The text with each maximal invalid part replaced by U+FFFD (The Unicode Standard, section 3.9,
// "U+FFFD substitution of maximal subparts"), as Rust's String::from_utf8_lossy does.
std::string replace_invalid_utf8(std::string_view bytes);
bool is_valid_utf8(std::string_view bytes);

// The code point at `at` < text.size(), a character's first byte; moves `at` past it.
char32_t next_code_point(std::string_view text, size_t& at);
// The code point that ends at the end of the text, which is not empty.
char32_t last_code_point(std::string_view text);
// The end of the white space that begins at `at`, and the beginning, but not before `limit`, of
// that which ends at `at`.
size_t skip_white_space(std::string_view text, size_t at);
size_t skip_white_space_back(std::string_view text, size_t at, size_t limit);
void append_utf8(std::string& text, char32_t code);

bool is_letter(char32_t code);
bool is_number(char32_t code);
bool is_white_space(char32_t code);
bool is_word(char32_t code);  // regex \w
bool is_bert_removed(char32_t code);
bool is_bert_mark(char32_t code);
bool is_bert_punctuation(char32_t code);

// Each character's full lower-case mapping, without context (a final sigma is like any other).
std::string to_lower(std::string_view text);
std::string to_nfd(std::string_view text);
std::string to_nfc(std::string_view text);

// Names the tables: a part of the identity of every tokenizer that uses them.
std::string_view tables_digest();

}  // namespace verbatim::unicode
