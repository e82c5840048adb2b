// JSON from outside, bounded: no exceptions, at most 64 levels and 4 million values, no key twice
// in an object. Internal: not an installed header.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <verbatim/core/codec.h>
#include <verbatim/core/status.h>

namespace verbatim {

using Json = nlohmann::json;

// The JSON that `text` is. Errors name `source` and, where the text is not JSON, the offset: of the
// file, when the text begins at its byte `start`.
Result<Json> parse_json(std::string_view text, const std::string& source, uint64_t start = 0);
// A JSON object in a file of at most max_size bytes.
Result<Json> read_json_object(const std::string& path, size_t max_size);

// An integer that is one of T's values.
template <class T>
std::optional<T> json_integer(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto n = value.get<uint64_t>();
    return std::in_range<T>(n) ? std::optional(static_cast<T>(n)) : std::nullopt;
  }
  if (!value.is_number_integer()) return std::nullopt;
  const auto n = value.get<int64_t>();
  return std::in_range<T>(n) ? std::optional(static_cast<T>(n)) : std::nullopt;
}

// object[key] as T, or `otherwise` where the key is missing or null; another type is an error, and
// so is an integer that T does not have.
template <class T>
Result<T> json_get(const Json& object, const char* key, T otherwise, const std::string& source) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return otherwise;
  const auto wrong = [&] { return bad_input(source + ": '" + key + "' has the wrong type"); };
  if constexpr (std::is_same_v<T, bool>) {
    if (!it->is_boolean()) return wrong();
  } else if constexpr (std::is_integral_v<T>) {
    if (const std::optional<T> n = json_integer<T>(*it)) return *n;
    return it->is_number_integer()
               ? bad_input(source + ": '" + key + "' is out of range: " + it->dump())
               : wrong();
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!it->is_number()) return wrong();
  } else {
    if (!it->is_string()) return wrong();
  }
  return it->template get<T>();
}

}  // namespace verbatim
