#include <verbatim/repops/models/json.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <verbatim/core/file.h>

namespace verbatim {
namespace {

constexpr size_t kMaxText = 100'000'000;  // bytes: the longest header that safetensors allows
constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxValues = 4'000'000;  // a vocabulary of 262,144 with its merges has 1.8 million

// First pass over a JSON text, before anything is built of it: its depth, number of values, and that no object has a key twice
// (the parser would keep the last one).
class JsonGuard : public nlohmann::json_sax<Json> {
 public:
  Status status;

  JsonGuard(const std::string& source, uint64_t start) : source_(source), start_(start) {}

  bool null() override { return count(); }
  bool boolean(bool) override { return count(); }
  bool number_integer(number_integer_t) override { return count(); }
  bool number_unsigned(number_unsigned_t) override { return count(); }
  bool number_float(number_float_t, const string_t&) override { return count(); }
  bool string(string_t&) override { return count(); }
  bool binary(binary_t&) override { return count(); }
  bool start_object(size_t) override { return open(); }
  bool start_array(size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& key) override {
    keys_.back().push_back(key);
    return true;
  }
  bool end_object() override {
    auto& keys = keys_.back();
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      return fail(bad_input(source_ + ": the key \"" + printable(*twice) + "\" occurs twice in one JSON object"));
    return close();
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // Without the parser's own name and place: "[json.exception...] parse error at ...: reason".
    std::string reason = error.what();
    if (const size_t at = reason.find(": "); at != std::string::npos) reason.erase(0, at + 2);
    return fail(bad_input_at(source_, start_ + position, "malformed JSON: " + printable(reason)));
  }

 private:
  bool fail(Status why) {
    status = std::move(why);
    return false;
  }
  bool count() {
    return ++values_ <= kMaxValues ||
           fail(over_limit(source_ + ": more than " + std::to_string(kMaxValues) + " JSON values"));
  }
  bool open() {
    keys_.emplace_back();
    return keys_.size() <= kMaxDepth
               ? count()
               : fail(over_limit(source_ + ": JSON nested deeper than " + std::to_string(kMaxDepth) + " levels"));
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  const std::string& source_;
  uint64_t start_;
  size_t values_ = 0;
  std::vector<std::vector<std::string>> keys_;  // of the objects around this place
};

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& source, uint64_t start) {
  if (text.size() > kMaxText) return over_limit(source + ": JSON larger than " + std::to_string(kMaxText) + " bytes");
  JsonGuard guard(source, start);
  if (!Json::sax_parse(text, &guard)) return guard.status;
  Json root = Json::parse(text, nullptr, false);
  if (root.is_discarded()) return bad_input(source + ": malformed JSON");
  return root;
}

Result<Json> read_json_object(const std::string& path, size_t max_size) {
  VB_ASSIGN(const Bytes bytes, read_file(path, max_size));
  VB_ASSIGN(Json json, parse_json(as_chars(bytes), path));
  if (!json.is_object()) return bad_input(path + ": not a JSON object");
  return json;
}

}  // namespace verbatim
