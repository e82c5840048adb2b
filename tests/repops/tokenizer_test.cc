// Tokenizers against vectors from Hugging Face's `tokenizers` (tests/oracle/tokenizer_oracle.py),
// real models where they are at hand, and files and texts that must be refused.
//   VERBATIM_MINILM, VERBATIM_STORIES: folders of the models all-MiniLM-L6-v2 and stories260K
//   VERBATIM_TOKENIZER_VECTORS: a folder of more vectors
#include <gtest/gtest.h>
#include <support/paths.h>
#include <verbatim/repops/models/tokenizer.h>
#include <verbatim/repops/models/unicode_text.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

namespace verbatim {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using Ids = std::vector<int64_t>;
using TokenizerPtr = std::unique_ptr<Tokenizer>;

fs::path data_folder() { return fs::path(test::kTestsDir) / "data" / "tokenizer"; }

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TokenizerPtr must_parse(std::string_view text) {
  auto tokenizer = parse_tokenizer_json(text, "test.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

TokenizerPtr must_load(const fs::path& folder) {
  auto tokenizer = load_tokenizer(folder.string());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

Ids must_encode(const Tokenizer& tokenizer, std::string_view text, bool special) {
  auto ids = tokenizer.encode(text, special);
  EXPECT_TRUE(ids.ok()) << ids.status().message();
  return ids.ok() ? *std::move(ids) : Ids{};
}

Status parse_status(const json& root) {
  return parse_tokenizer_json(root.dump(), "test.json").status();
}

void expect_error(const Status& status, StatusCode code, const std::string& part) {
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_NE(status.message().find(part), std::string::npos)
      << "\"" << status.message() << "\" does not say \"" << part << "\"";
}

// Runs every case of a folder's vectors.jsonl; returns how many there were.
size_t check_vectors(const fs::path& folder) {
  std::map<std::string, TokenizerPtr> tokenizers;
  std::ifstream lines(folder / "vectors.jsonl");
  size_t cases = 0;
  size_t wrong = 0;
  for (std::string line; std::getline(lines, line) && wrong < 20; ++cases) {
    const json vector = json::parse(line);
    const std::string name = vector["t"];
    auto& tokenizer = tokenizers[name];
    if (!tokenizer) tokenizer = must_parse(read_text(folder / (name + ".json")));
    if (!tokenizer) return 0;
    const auto ids = vector["i"].get<Ids>();
    if (vector.contains("x")) {
      // The oracle decodes bytes with replacement; this library leaves that to its caller.
      const std::string bytes = from_hex(vector["x"]), text = unicode::replace_invalid_utf8(bytes);
      EXPECT_TRUE(text == bytes || !tokenizer->encode(bytes, false).ok()) << vector["x"];
      const Ids got = must_encode(*tokenizer, text, vector["s"].get<bool>());
      EXPECT_EQ(got, ids) << name << ": " << text << "\nhex " << vector["x"];
      wrong += got != ids;
    }
    const auto text = tokenizer->decode(ids);
    const std::string expected = from_hex(vector["d"]);
    EXPECT_TRUE(text.ok() && *text == expected)
        << name << ": " << json(ids) << "\n"
        << (text.ok() ? *text : text.status().message()) << "\n"
        << expected;
    wrong += !text.ok() || *text != expected;
  }
  return cases;
}

TEST(Tokenizer, AgreesWithRecordedVectors) { EXPECT_EQ(check_vectors(data_folder()), 300u); }

TEST(Tokenizer, AgreesWithMoreVectors) {
  const char* folder = std::getenv("VERBATIM_TOKENIZER_VECTORS");
  if (folder == nullptr) GTEST_SKIP() << "VERBATIM_TOKENIZER_VECTORS names no folder";
  const size_t cases = check_vectors(folder);
  EXPECT_GT(cases, 0u);
  RecordProperty("cases", static_cast<int>(cases));
}

// A file of every section, small enough to change one thing at a time.
json small_bpe() {
  return json::parse(R"({
    "version": "1.0", "truncation": {"max_length": 1}, "padding": {"strategy": "BatchLongest"},
    "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "_"}, "content": " "}, {"type": "Fuse"}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": null,
      "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "_": 4, "abab": 70000},
      "merges": ["a b", ["ab", "ab"]]}})");
}

TEST(Tokenizer, SmallBpe) {
  const TokenizerPtr tokenizer = must_parse(small_bpe().dump());
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(must_encode(*tokenizer, "ab abab", true), (Ids{0, 3, 4, 70000}));
  EXPECT_EQ(must_encode(*tokenizer, "a<s>b", false), (Ids{1, 0, 2}));
  EXPECT_EQ(must_encode(*tokenizer, "", true), (Ids{0}));
  EXPECT_EQ(*tokenizer->decode(Ids{0, 3, 4, 70000}), "ab abab");
  EXPECT_EQ(tokenizer->vocabulary_size(), 70001);
  EXPECT_EQ(tokenizer->token_id("<s>"), 0);
  EXPECT_EQ(tokenizer->token_id("abab"), 70000);
  EXPECT_EQ(tokenizer->token_id("x"), std::nullopt);
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  const TokenizerPtr tokenizer = must_parse(small_bpe().dump());
  ASSERT_TRUE(tokenizer);
  for (const int64_t id : {int64_t{-1}, int64_t{5}, int64_t{70001}, INT64_MAX, INT64_MIN}) {
    expect_error(tokenizer->decode(Ids{1, id}).status(), StatusCode::bad_input, std::to_string(id));
  }
}

TEST(Tokenizer, ReadsInvalidUtf8AsReplacementCharacters) {
  // The maximal subparts of The Unicode Standard's table 3-8 and its like.
  EXPECT_EQ(unicode::replace_invalid_utf8("a\xF1\x80\x80\xE1\x80\xC2"
                                          "b\x80"
                                          "c\x80\xBF"
                                          "d"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(unicode::replace_invalid_utf8("\xED\xA0\x80|\xC0\xAF|\xF4\x90\x80\x80"),
            "\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD\uFFFD");
}

// Two texts that differ must not become the same ids: replacement characters, which BERT drops,
// made any broken text the empty one.
TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  for (const std::string name : {"uncased", "gpt2", "llama2"}) {
    const TokenizerPtr tokenizer = must_parse(read_text(data_folder() / (name + ".json")));
    const Status status = tokenizer->encode("ab\xff\xfe", true).status();
    EXPECT_EQ(status.code(), StatusCode::bad_input) << name;
    EXPECT_NE(status.message().find("text: byte 2: not UTF-8"), std::string::npos)
        << status.message();
    EXPECT_FALSE(tokenizer->encode("a\xE2\x82", false).ok()) << name;  // cut short
    EXPECT_TRUE(tokenizer->encode("a\xE2\x82\xAC", false).ok()) << name;
  }
}

TEST(Tokenizer, ComposesHangulAndReordersMarks) {
  EXPECT_EQ(unicode::to_nfc("\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(unicode::to_nfd("\uD55C"), "\u1112\u1161\u11AB");
  EXPECT_EQ(unicode::to_nfd("a\u0301\u0323"), "a\u0323\u0301");
  EXPECT_EQ(unicode::to_nfc("a\u0301\u0323"), "\u1EA1\u0301");
  EXPECT_EQ(unicode::to_nfc("\u0958"), "\u0915\u093C");  // excluded from composition
  EXPECT_EQ(unicode::to_lower("\u0130\u03A3\u1E9E"), "i\u0307\u03C3\u00DF");
}

TEST(Tokenizer, RefusesTextOverTheLimit) {
  const TokenizerPtr tokenizer = must_parse(small_bpe().dump());
  ASSERT_TRUE(tokenizer);
  const std::string text(Tokenizer::kMaxTextBytes + 1, 'a');
  expect_error(tokenizer->encode(text, false).status(), StatusCode::limit, "16777217");
}

TEST(Tokenizer, BoundsWhatANormalizerMakes) {
  json root = small_bpe();
  root["normalizer"] = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1000, 'a')}};
  root["normalizer"] = {{"type", "Sequence"},
                        {"normalizers", {root["normalizer"], root["normalizer"]}}};
  const TokenizerPtr tokenizer = must_parse(root.dump());
  ASSERT_TRUE(tokenizer);
  expect_error(tokenizer->encode(std::string(1000, 'a'), false).status(), StatusCode::limit,
               "step");
}

TEST(Tokenizer, NamesThePathOfWhatItDoesNotSupport) {
  const std::pair<const char*, json> kCases[] = {
      {"model.type", "Unigram"},
      {"model.dropout", 0.1},
      {"model.end_of_word_suffix", "</w>"},
      {"model.surprise", 1},
      {"surprise", 1},
      {"normalizer", {{"type", "Precompiled"}}},
      {"normalizer.pattern", {{"Regex", "a+"}}},
      {"normalizer.surprise", 1},
      {"pre_tokenizer", {{"type", "Whitespace"}}},
      {"pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Isolated"}}},
      {"post_processor.surprise", 1},
      {"post_processor.single", {{{"Sequence", {{"id", "B"}}}}}},
      {"decoder", {{"type", "CTC"}}},
      {"decoder.decoders", {{{"type", "Fuse"}, {"surprise", 1}}}},
  };
  for (const auto& [path, value] : kCases) {
    json root = small_bpe();
    std::string pointer = std::string("/") + path;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    root[json::json_pointer(pointer)] = value;
    const Status status = parse_status(root);
    expect_error(status, StatusCode::unsupported, "test.json: ");
    // An unknown key is named after the path of its object.
    const std::string wanted = fs::path(pointer).filename() == "surprise" ? "surprise" : path;
    expect_error(status, StatusCode::unsupported, wanted == "model.type" ? "Unigram" : wanted);
  }
}

TEST(Tokenizer, RefusesInconsistentFiles) {
  const std::pair<const char*, json> kCases[] = {
      {"/model/vocab/b", 1},                 // an id twice
      {"/model/vocab/b", -1},                // below the range
      {"/model/vocab/b", int64_t{1} << 31},  // above it
      {"/model/vocab/b", 2.0},               // no whole number
      {"/model/vocab", json::array()},       // another type
      {"/model/merges/0", "a b b"},          // three tokens
      {"/model/merges/0", {"a", "b", "b"}},  //
      {"/model/merges/0", "b a"},            // no such token
      {"/added_tokens/0/id", 1},             // another token's
      {"/added_tokens/0/content", ""},       // empty
      {"/added_tokens/0/content", "new"},    // the id is taken
      {"/added_tokens/0/lstrip", nullptr},   // missing
      {"/normalizer/pattern/String", ""},    // matches everywhere
      {"/post_processor/special_tokens/<s>/ids/0", 9},
      {"/decoder/decoders", "none"},
  };
  for (const auto& [pointer, value] : kCases) {
    json root = small_bpe();
    root[json::json_pointer(pointer)] = value;
    expect_error(parse_status(root), StatusCode::bad_input, "test.json: ");
  }
}

TEST(Tokenizer, RefusesMalformedJson) {
  const auto status = [](const std::string& text) {
    return parse_tokenizer_json(text, "test.json").status();
  };
  expect_error(status("{\"model\": nul}"), StatusCode::bad_input, "test.json: byte ");
  expect_error(status(""), StatusCode::bad_input, "byte ");
  expect_error(status("{\"a\": \"\xFF\"}"), StatusCode::bad_input, "UTF-8");
  expect_error(status("[1, 2]"), StatusCode::bad_input, "is not an object");
  expect_error(status("{\"a\": 1, \"b\": 2, \"a\": 3}"), StatusCode::bad_input,
               "\"a\" occurs twice");
  expect_error(status(std::string(65, '[')), StatusCode::limit, "nested deeper");
  expect_error(status(std::string(1 << 20, '[')), StatusCode::limit, "nested deeper");
  std::string many = "[0";
  for (int i = 0; i < 4'000'000; ++i) many += ",0";
  expect_error(status(many + "]"), StatusCode::limit, "values");
  expect_error(status(std::string(100'000'001, ' ')), StatusCode::limit, "larger");
}

TEST(Tokenizer, SurvivesTruncatedAndMutatedFiles) {
  std::mt19937 random(1);
  for (const char* name : {"llama3.json", "llama2.json", "uncased.json"}) {
    const std::string whole = read_text(data_folder() / name);
    ASSERT_FALSE(whole.empty());
    for (int i = 0; i < 200; ++i) {
      std::string text = whole;
      if (i % 2 == 0) text.resize(random() % text.size());
      for (int n = 0; n < 3 && !text.empty(); ++n) {
        text[random() % text.size()] = static_cast<char>(random());
      }
      auto tokenizer = parse_tokenizer_json(text, name);
      if (!tokenizer.ok()) {
        EXPECT_NE(tokenizer.status().message().find(name), std::string::npos);
      } else if (auto ids = (*tokenizer)->encode("Hello, <|end|> wörld!", true); ids.ok()) {
        EXPECT_TRUE((*tokenizer)->decode(*ids).ok());
      }
    }
  }
}

// A megabyte takes a good deal less than a second in each; anything quadratic would take hours.
TEST(Tokenizer, TakesLinearTimeForLongTexts) {
  const size_t size = size_t{1} << 20;
  std::string marks = "a";
  while (marks.size() < size) marks += "\u0301\u0323";
  std::string words;
  while (words.size() < size) words += "license <|end|> don't 12345 \n\n   ";
  const std::string texts[] = {std::string(size, 'a'),
                               std::string(size, ' '),
                               std::string(size, '\n'),
                               std::string(size, '<'),
                               marks,
                               words};
  for (const char* name : {"gpt2.json", "llama3.json", "llama2.json", "uncased.json"}) {
    const TokenizerPtr tokenizer = must_parse(read_text(data_folder() / name));
    ASSERT_TRUE(tokenizer);
    for (const std::string& text : texts) {
      EXPECT_TRUE(tokenizer->decode(must_encode(*tokenizer, text, true)).ok());
    }
  }
}

TEST(Tokenizer, CanonicalBytesNameTheBehaviour) {
  const std::string original = must_parse(small_bpe().dump())->canonical_bytes();
  json same = small_bpe();
  same["model"]["merges"] = {{"a", "b"}, "ab ab"};
  same["model"]["fuse_unk"] = false;
  same["truncation"] = nullptr;
  EXPECT_EQ(must_parse(same.dump())->canonical_bytes(), original);
  const std::pair<const char*, json> kChanges[] = {
      {"/model/vocab/abab", 5},
      {"/model/merges", {"ab ab", "a b"}},
      {"/model/ignore_merges", true},
      {"/model/byte_fallback", true},
      {"/model/unk_token", "<s>"},
      {"/normalizer/content", "b"},
      {"/normalizer", nullptr},
      {"/pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"/added_tokens/0/lstrip", true},
      {"/added_tokens/0/special", false},
      {"/post_processor", nullptr},
      {"/decoder/decoders/0/content", "b"},
      {"/decoder", nullptr},
  };
  std::map<std::string, std::string> seen{{original, "the original"}};
  for (const auto& [pointer, value] : kChanges) {
    json root = small_bpe();
    root[json::json_pointer(pointer)] = value;
    const TokenizerPtr tokenizer = must_parse(root.dump());
    ASSERT_TRUE(tokenizer) << pointer;
    const auto [other, is_new] = seen.emplace(tokenizer->canonical_bytes(), pointer);
    EXPECT_TRUE(is_new) << pointer << " describes itself as " << other->second;
  }
}

TEST(Tokenizer, MissingFolder) {
  expect_error(load_tokenizer("/nonexistent").status(), StatusCode::unavailable, "tokenizer.json");
}

TEST(Tokenizer, MiniLm) {
  const char* folder = std::getenv("VERBATIM_MINILM");
  if (folder == nullptr) GTEST_SKIP() << "VERBATIM_MINILM names no folder";
  const TokenizerPtr tokenizer = must_load(folder);
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->vocabulary_size(), 30522);
  const std::string text = "Hello, W\u00F6rld! I don't know cafe\u0301s.";
  const Ids ids{101, 7592, 1010, 2088, 999, 1045, 2123, 1005, 1056, 2113, 23812, 1012, 102};
  EXPECT_EQ(must_encode(*tokenizer, text, true), ids);
  EXPECT_EQ(*tokenizer->decode(ids), "hello, world! i don ' t know cafes.");

  // vocab.txt and tokenizer_config.json stand for the same tokenizer.
  const fs::path old_style = fs::path(testing::TempDir()) / "verbatim_vocab_txt";
  fs::create_directories(old_style);
  for (const char* name : {"vocab.txt", "tokenizer_config.json"}) {
    fs::copy_file(fs::path(folder) / name, old_style / name, fs::copy_options::overwrite_existing);
  }
  const TokenizerPtr from_vocab = must_load(old_style);
  ASSERT_TRUE(from_vocab);
  EXPECT_EQ(from_vocab->canonical_bytes(), tokenizer->canonical_bytes());
}

TEST(Tokenizer, Stories260K) {
  const char* folder = std::getenv("VERBATIM_STORIES");
  if (folder == nullptr) GTEST_SKIP() << "VERBATIM_STORIES names no folder";
  const TokenizerPtr tokenizer = must_load(folder);
  ASSERT_TRUE(tokenizer);
  const std::string text = "Once upon a time, there was a little girl.";
  const Ids ids{1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 426};
  EXPECT_EQ(must_encode(*tokenizer, text, true), ids);
  EXPECT_EQ(*tokenizer->decode(ids), text);
  EXPECT_EQ(tokenizer->vocabulary_size(), 512);
}

}  // namespace
}  // namespace verbatim
