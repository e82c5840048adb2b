#include <verbatim/cli/options.h>

#include <charconv>
#include <cmath>

#include <verbatim/core/codec.h>

namespace verbatim::cli {

CLI::Validator whole_number(uint64_t least, uint64_t greatest) {
  const std::string range = std::to_string(least) + " to " + std::to_string(greatest);
  const auto check = [=](const std::string& text) -> std::string {
    uint64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc() && last == end && value >= least && value <= greatest) return "";
    return "not a whole number from " + range + ": " + printable(text);
  };
  return CLI::Validator(check, range, "whole_number");
}

CLI::Validator number_from_zero() {
  const auto check = [](const std::string& text) -> std::string {
    double value = 0;
    const char* const end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc() && last == end && value >= 0 && std::isfinite(value)) return "";
    return "not a finite number of at least 0: " + printable(text);
  };
  return CLI::Validator(check, "at least 0", "number_from_zero");
}

void add_limit_flags(CLI::App& command, NodeLimits& limits) {
  command
      .add_option("--max-operations", limits.operations,
                  "Elementary operations that one operator may take; more is refused")
      ->check(whole_number(1, uint64_t{1} << 60))
      ->capture_default_str();
  command
      .add_option("--max-memory", limits.node_bytes, "Bytes that one operator may take, inputs included")
      ->check(whole_number(1, uint64_t{1} << 50))
      ->capture_default_str();
}

NodeLimits judging_limits() {
  NodeLimits limits;
  limits.operations = uint64_t{1} << 36;
  limits.node_bytes = uint64_t{4} << 30;
  return limits;
}

}  // namespace verbatim::cli
