// What a referee found, and how to say it.
//
// A verdict has canonical bytes, so that whoever judges the same transcript can compare. It holds
// no times and no names: parties are numbers, names stand in the transcript.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <verbatim/core/dtype.h>
#include <verbatim/core/hash.h>
#include <verbatim/core/shape.h>

namespace verbatim {

enum class DisputeOutcome : uint8_t {
  settled = 1,     // a liar is refuted, or all answers are equal
  forfeit = 2,     // decided only by parties that failed to answer
  no_verdict = 3,  // the referee could not check
};
std::string_view name_of(DisputeOutcome outcome);  // "SETTLED", "FORFEIT", "NO_VERDICT"
int exit_code(DisputeOutcome outcome);             // 0, 3, 2

// The first place where a refuted party's claims are wrong.
struct Where {
  uint64_t step = 0;
  int32_t node = -1;  // -1: the step as a whole
  std::string title;  // the node's operator and name
  int32_t output = -1;
  DType dtype = DType::undefined;  // of the output
  Shape shape;
  int64_t tile = -1;  // leaf of the output; -1 where it is not known, or shapes differ
  int64_t element =
      -1;  // flat index of the first wrong element of that tile; -1 where it is not known
  std::string claimed_bits, true_bits;  // hex, most significant digit first
  bool operator==(const Where&) const = default;
};

struct PartyFinding {
  uint32_t party = 0;
  std::string reason;
  std::optional<Where> where;
  bool operator==(const PartyFinding&) const = default;
};

struct RefereeCost {
  uint64_t bytes_read = 0, exchanges = 0;
  uint64_t operations = 0, nodes_recomputed = 0;
  bool operator==(const RefereeCost&) const = default;
};

struct Verdict {
  DisputeOutcome outcome = DisputeOutcome::no_verdict;
  std::string reason;             // why there is no verdict
  std::vector<uint32_t> winners;  // not refuted; equal results
  std::optional<Digest> result;   // the winners' final root
  std::vector<PartyFinding> refuted, forfeited;
  RefereeCost cost;
  bool operator==(const Verdict&) const = default;
};

Bytes encode_verdict(const Verdict& verdict);
Result<Verdict> decode_verdict(ByteView bytes, const std::string& source);

// Sentences for a person: "Provider 2 (slow.example:7000) is refuted: in step 0, node 87 (Linear
// encoder.layer.3.output.dense) ..."
std::vector<std::string> explain(const Verdict& verdict, std::span<const std::string> party_names);

}  // namespace verbatim
