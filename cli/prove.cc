#include <verbatim/cli/prove.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

constexpr int64_t kPart = int64_t{1} << 21, kGrain = int64_t{1} << 14;

std::optional<uint64_t> parse_number(std::string_view text) {
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// What one task found among its inputs.
struct Found {
  uint64_t wrong = 0;
  std::optional<uint32_t> first;
};

}  // namespace

Result<InputRange> parse_input_range(std::string_view text) {
  const size_t colon = text.find(':');
  const auto first = parse_number(text.substr(0, colon));
  const auto count =
      colon == std::string_view::npos ? std::nullopt : parse_number(text.substr(colon + 1));
  if (!first || !count || *count == 0 || *first >= kAllInputs || *count > kAllInputs - *first)
    return usage_error("'" + printable(text) +
                       "' is no FIRST:COUNT of inputs within 2^32, COUNT at least 1");
  return InputRange{*first, *count};
}

UnaryProof prove_unary(Unary f, InputRange range, UnaryOracle oracle,
                       const std::function<void(uint64_t)>& progress) {
  UnaryProof proof;
  Sha256 hash;
  Bytes results(static_cast<size_t>(4 * kPart));
  std::vector<Found> found(static_cast<size_t>(kPart / kGrain));
  while (proof.inputs < range.count) {
    const uint64_t begin = range.first + proof.inputs;
    const auto n = static_cast<int64_t>(
        std::min<uint64_t>(static_cast<uint64_t>(kPart), range.count - proof.inputs));
    std::ranges::fill(found, Found{});
    parallel_for(n, kGrain, [&](int64_t from, int64_t to) {
      Found& mine = found[static_cast<size_t>(from / kGrain)];
      for (int64_t i = from; i < to; ++i) {
        const auto input = static_cast<uint32_t>(begin + static_cast<uint64_t>(i));
        const uint32_t have = bits_of(evaluate(f, float_of(input)));
        store_le(results.data() + 4 * i, have);
        const std::optional<float> right = oracle(f, float_of(input));
        if (right && bits_of(*right) == have) continue;
        if (mine.wrong++ == 0) mine.first = input;
      }
    });
    for (const Found& part : found) {
      proof.wrong += part.wrong;
      if (!proof.first_wrong) proof.first_wrong = part.first;
    }
    hash.update(ByteView(results).first(static_cast<size_t>(4 * n)));
    proof.inputs += static_cast<uint64_t>(n);
    progress(proof.inputs);
  }
  proof.digest = hash.finish();
  return proof;
}

}  // namespace verbatim
