// libFuzzer target for tokenizer.json files and for texts. The input is a text, a NUL byte and a
// tokenizer.json; an input without a NUL byte is a text for a fixed small tokenizer of each kind.
#include <verbatim/repops/models/tokenizer.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

using verbatim::Tokenizer;

constexpr std::string_view kFixed[] = {
    R"({"added_tokens": [{"id": 5, "content": "<a>", "single_word": true, "lstrip": true,
         "rstrip": true, "normalized": true, "special": false}],
       "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
         "strip_accents": true, "lowercase": true},
       "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece",
         "prefix": "##", "cleanup": true},
       "model": {"type": "WordPiece", "unk_token": "u", "continuing_subword_prefix": "##",
         "max_input_chars_per_word": 10,
         "vocab": {"u": 0, "a": 1, "##a": 2, "##aa": 3, "ab": 4}}})",
    R"({"normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
         {"type": "Digits", "individual_digits": false},
         {"type": "ByteLevel", "add_prefix_space": true}]},
       "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "ignore_merges": true,
         "vocab": {"a": 0, "b": 1, "aa": 2, "aab": 3, "aaaa": 4},
         "merges": ["a a", "aa b", "aa aa"]}})",
    R"({"pre_tokenizer": {"type": "Split", "invert": false, "behavior": "Isolated", "pattern": {
         "Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
       "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"},
         {"type": "Strip", "content": "a", "start": 1, "stop": 2}]},
       "model": {"type": "BPE", "unk_token": "u", "fuse_unk": true, "byte_fallback": true,
         "vocab": {"u": 0, "a": 1, "aa": 2, "<0xC3>": 3, "<0xA9>": 4}, "merges": ["a a"]}})",
};

// Everything that a caller may do with a tokenizer; what it gives out must hold together.
void use(const Tokenizer& tokenizer, std::string_view text) {
  tokenizer.canonical_bytes();
  const auto ids = tokenizer.encode(text, true);
  if (!ids.ok()) return;
  for (const int64_t id : *ids) {
    if (id < 0 || id >= tokenizer.vocabulary_size()) std::abort();
  }
  const auto decoded = tokenizer.decode(*ids);
  if (!decoded.ok() && decoded.status().code() != verbatim::StatusCode::limit) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  if (nul != std::string_view::npos) {
    const auto tokenizer = verbatim::parse_tokenizer_json(input.substr(nul + 1), "fuzz.json");
    if (tokenizer.ok()) use(**tokenizer, input.substr(0, nul));
    return 0;
  }
  static const auto* fixed = [] {
    auto* all = new std::vector<std::unique_ptr<Tokenizer>>;  // lives as long as the process
    for (const std::string_view json : kFixed) {
      auto tokenizer = verbatim::parse_tokenizer_json(json, "fixed.json");
      if (!tokenizer.ok()) {
        std::fprintf(stderr, "%s\n", tokenizer.status().message().c_str());
        std::abort();
      }
      all->push_back(*std::move(tokenizer));
    }
    return all;
  }();
  for (const auto& tokenizer : *fixed) use(*tokenizer, input);
  return 0;
}
