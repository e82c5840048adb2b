#include <verbatim/repops/models/json.h>

#include <set>
#include <vector>

#include <verbatim/core/file.h>

namespace verbatim {

Result<Json> parse_json(std::string_view text, const std::string& source) {
  constexpr int kMaxDepth = 64;
  bool too_deep = false;
  std::string repeated;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth) too_deep = true;
    if (too_deep || !repeated.empty()) return false;
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      repeated = printable(value.get<std::string>());
    return true;
  };
  Json json = Json::parse(text, watch, false);
  if (too_deep)
    return bad_input(source + ": JSON nested deeper than " + std::to_string(kMaxDepth) + " levels");
  if (!repeated.empty()) return bad_input(source + ": JSON key '" + repeated + "' stands twice");
  if (json.is_discarded()) {
    // The non-throwing parser does not say where; accept() stops at the same place.
    return bad_input(source + ": not valid JSON");
  }
  return json;
}

Result<Json> read_json_object(const std::string& path, size_t max_size) {
  VB_ASSIGN(const Bytes bytes, read_file(path, max_size));
  VB_ASSIGN(Json json, parse_json(as_chars(bytes), path));
  if (!json.is_object()) return bad_input(path + ": not a JSON object");
  return json;
}

}  // namespace verbatim
