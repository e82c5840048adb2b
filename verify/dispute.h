// Disputes with a transcript: run one, take one up again, judge one that somebody else ran.
//
//   std::vector<Disputant> who = {{"a.example:7000", &a}, {"b.example:7000", &b}};
//   VB_ASSIGN(Verdict verdict, run_dispute(task, who, "d.transcript"));
//   for (const std::string& line : explain(verdict, {"a.example:7000", "b.example:7000"}))
//   puts(line.c_str());
//
//   VB_ASSIGN(Transcript t, Transcript::open("d.transcript"));
//   VB_ASSIGN(Verdict same, judge(t));     // an error unless it is the recorded verdict
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <verbatim/verify/party.h>
#include <verbatim/verify/referee.h>
#include <verbatim/verify/transcript.h>

namespace verbatim {

struct Disputant {
  std::string name;  // for people; at most 256 bytes of printable text
  Party* party;
};

// The transcript is a new file; it ends with the verdict.
Result<Verdict> run_dispute(const Task& task, std::span<const Disputant> disputants,
                            const std::string& transcript_path, const RefereeOptions& options = {});

// Goes on where the transcript stops. A dispute that has its verdict is judged, and `connect` is
// not called; otherwise it gives the parties in the order of the header, which outlive the call.
// Their keys must be the recorded ones; a party without a recorded key stays out.
using Connect = std::function<std::vector<Party*>(const TranscriptHeader&)>;
Result<Verdict> resume_dispute(const std::string& transcript_path, const Connect& connect,
                               const RefereeOptions& options = {});

// Plays the referee over the recorded answers and checks that they are signed, answer the referee's
// questions and lead to the recorded verdict byte for byte. A referee that reaches its own limits
// where the recorded one did not gives NO_VERDICT: it can neither confirm nor contradict.
Result<Verdict> judge(const Transcript& transcript, const RefereeOptions& options = {});

}  // namespace verbatim
