#include <verbatim/cli/prove.h>

#include <algorithm>
#include <charconv>

#include <verbatim/core/fp_guard.h>

namespace verbatim {
namespace {

std::optional<uint64_t> parse_number(std::string_view text) {
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

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

Result<UnaryProof> prove_unary(UnaryProver& prover, Unary f, InputRange range,
                               const std::function<void(uint64_t)>& progress) {
  const FloatWatch watch;
  const FloatGuard guard;
  VB_TRY(watch.check());
  UnaryProof proof;
  UnaryFaults faults;
  Sha256 hash;
  const auto part = static_cast<uint64_t>(prover.part());
  Bytes results(static_cast<size_t>(4 * std::min(part, range.count)));
  while (proof.inputs < range.count) {
    const uint64_t n = std::min(part, range.count - proof.inputs);
    VB_TRY(prover.run(f, static_cast<uint32_t>(range.first + proof.inputs), static_cast<int64_t>(n),
                      results.data(), faults));
    VB_TRY(watch.check());
    hash.update(ByteView(results).first(static_cast<size_t>(4 * n)));
    proof.inputs += n;
    progress(proof.inputs);
  }
  proof.wrong = faults.wrong;
  proof.first_wrong = faults.first;
  proof.digest = hash.finish();
  return proof;
}

}  // namespace verbatim
