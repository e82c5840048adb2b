// The referee: settles who is wrong among parties that were given one task.
//
//   std::vector<Party*> parties = {&a, &b, &c};
//   VB_ASSIGN(Verdict verdict, settle(task, parties, nonce));
//
// A deterministic state machine: the same answers give the same questions and the same verdict,
// byte for byte. It holds no trace, no weights, and at most one operator's inputs and outputs.
#pragma once

#include <span>

#include <verbatim/verify/party.h>
#include <verbatim/verify/task.h>
#include <verbatim/verify/verdict.h>

namespace verbatim {

inline constexpr size_t kMaxParties = 64;

struct RefereeOptions {
  // The referee's own maxima for the one node that it recomputes of a pair, whatever the task
  // allows. What passes them gets no verdict.
  NodeLimits limits;
};

// Errors: no parties, too many, or two with one key, which would count as two.
Status check_parties(std::span<Party* const> parties);

// `nonce` is fresh random bytes for each dispute, which no party may know before it ends: they
// give each party a session of its own (party_session). Errors are the referee's own trouble (a
// full disk, no parties); whatever the parties do ends in a Verdict.
Result<Verdict> settle(const Task& task, std::span<Party* const> parties, const Digest& nonce,
                       const RefereeOptions& options = {});

}  // namespace verbatim
