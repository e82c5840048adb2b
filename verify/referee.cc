#include <verbatim/verify/referee.h>

#include <algorithm>

#include <verbatim/verify/match.h>

namespace verbatim {
namespace {

struct Contestant {
  Conversation talk;
  Digest commitment;
  Claim claim;
  bool in = false;  // revealed, and neither refuted nor failed
};

class Referee {
 public:
  Referee(const Task& task, std::span<Party* const> parties, const Digest& nonce,
          const RefereeOptions& options)
      : facts_(task), recomputation_(facts_, options.limits, verdict_.cost) {
    for (uint32_t i = 0; i < parties.size(); ++i)
      contestants_.push_back(
          {Conversation(*parties[i], facts_.id, party_session(nonce, i)), {}, {}, false});
  }

  Result<Verdict> settle() {
    commit_and_reveal();
    while (verdict_.reason.empty()) {
      VB_TRY(trouble());
      const auto pair = differing_pair();
      if (!pair) break;
      play(pair->first, pair->second);
    }
    VB_TRY(trouble());
    conclude();
    return std::move(verdict_);
  }

 private:
  Status trouble() const {
    for (const Contestant& c : contestants_) VB_TRY(c.talk.trouble());
    return {};
  }

  // All commit before any reveals, so that nobody can copy.
  void commit_and_reveal() {
    for (Contestant& c : contestants_) {
      if (const auto reply = c.talk.ask<Committed>(AskCommit{})) {
        c.commitment = reply->hash;
        c.in = true;
      }
    }
    for (uint32_t i = 0; i < contestants_.size(); ++i) {
      Contestant& c = contestants_[i];
      const auto reply = c.in ? c.talk.ask<Revealed>(AskReveal{}) : std::nullopt;
      c.in = reply.has_value();
      if (reply) check_reveal(i, *reply);
    }
    note_failures();
  }

  void check_reveal(uint32_t party, const Revealed& reply) {
    Contestant& c = contestants_[party];
    const Graph& g = facts_.task->program.graph;
    if (reply.outputs.size() != g.outputs.size())
      return refute(party,
                    {0, "it reveals another number of outputs than the program's", {}, true});
    std::vector<OutputRoot> outputs;
    for (size_t i = 0; i < g.outputs.size(); ++i)
      outputs.push_back({g.outputs[i].name, reply.outputs[i]});
    c.claim = {reply.steps, reply.records_root, reply.outputs,
               final_root(facts_.id, reply.steps, reply.records_root, outputs)};
    if (commit_hash(c.talk.key(), facts_.id, c.talk.session(), reply.salt, c.claim.final_root,
                    reply.steps) != c.commitment)
      return refute(party, {0, "it reveals another result than it committed to", {}, false});
    if (reply.steps == 0 || reply.steps > facts_.max_steps())
      refute(party, {0, "it claims a number of steps that the program cannot take", {}, false});
  }

  // The first two contestants, in order, whose results differ.
  std::optional<std::pair<uint32_t, uint32_t>> differing_pair() const {
    std::optional<uint32_t> first;
    for (uint32_t i = 0; i < contestants_.size(); ++i) {
      if (!contestants_[i].in) continue;
      if (!first)
        first = i;
      else if (contestants_[i].claim.final_root != contestants_[*first].claim.final_root)
        return std::pair(*first, i);
    }
    return std::nullopt;
  }

  void play(uint32_t a, uint32_t b) {
    const auto side = [&](uint32_t i) {
      return Match::Side{&contestants_[i].talk, &contestants_[i].claim};
    };
    const MatchResult result = Match(facts_, recomputation_, side(a), side(b)).play();
    for (const Refutation& r : result.refuted) {
      const uint32_t party = r.side == 0 ? a : b;
      refute(party, r);
      if (r.binds_result) refute_same_result(party);
    }
    note_failures();
    if (contestants_[a].in && contestants_[b].in)
      verdict_.reason = result.no_verdict.empty() ? "the referee came to no end between two results"
                                                  : result.no_verdict;
  }

  void refute(uint32_t party, const Refutation& r) {
    contestants_[party].in = false;
    verdict_.refuted.push_back({party, r.reason, r.where});
  }

  // What refutes the root itself refutes whoever revealed it.
  void refute_same_result(uint32_t refuted) {
    const Digest root = contestants_[refuted].claim.final_root;
    for (uint32_t i = 0; i < contestants_.size(); ++i)
      if (contestants_[i].in && contestants_[i].claim.final_root == root)
        refute(i, {0, "it committed to the same result as provider " + std::to_string(refuted + 1),
                   verdict_.refuted.back().where, true});
  }

  bool is_refuted(uint32_t party) const {
    return std::ranges::find(verdict_.refuted, party, &PartyFinding::party) !=
           verdict_.refuted.end();
  }

  // Who failed is out. One that was refuted is not listed again.
  void note_failures() {
    for (uint32_t i = 0; i < contestants_.size(); ++i) {
      if (!contestants_[i].talk.failed()) continue;
      contestants_[i].in = false;
      const bool listed = std::ranges::find(verdict_.forfeited, i, &PartyFinding::party) !=
                          verdict_.forfeited.end();
      if (!listed && !is_refuted(i))
        verdict_.forfeited.push_back({i, contestants_[i].talk.failure(), std::nullopt});
    }
  }

  void conclude() {
    for (const Contestant& c : contestants_) {
      verdict_.cost.bytes_read += c.talk.bytes_read();
      verdict_.cost.exchanges += c.talk.exchanges();
    }
    if (!verdict_.reason.empty()) return;  // no_verdict
    for (uint32_t i = 0; i < contestants_.size(); ++i) {
      if (!contestants_[i].in) continue;
      verdict_.winners.push_back(i);
      verdict_.result = contestants_[i].claim.final_root;
    }
    verdict_.outcome = verdict_.refuted.empty() && !verdict_.forfeited.empty()
                           ? DisputeOutcome::forfeit
                           : DisputeOutcome::settled;
  }

  TaskFacts facts_;
  Verdict verdict_;
  Recomputation recomputation_;
  std::vector<Contestant> contestants_;
};

}  // namespace

Status check_parties(std::span<Party* const> parties) {
  if (parties.empty() || parties.size() > kMaxParties)
    return usage_error("a dispute has 1 to " + std::to_string(kMaxParties) + " parties");
  for (size_t i = 0; i < parties.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (parties[i]->key() == parties[j]->key() && parties[i]->key() != PublicKey{})
        return usage_error("parties " + std::to_string(j + 1) + " and " + std::to_string(i + 1) +
                           " have the same key: they are one provider");
  return {};
}

Result<Verdict> settle(const Task& task, std::span<Party* const> parties, const Digest& nonce,
                       const RefereeOptions& options) {
  VB_TRY(check_parties(parties));
  if (task.semantics != kSemanticsVersion) {
    Verdict verdict;
    verdict.reason = "the task is of semantics version " + std::to_string(task.semantics) +
                     ", this referee has version " + std::to_string(kSemanticsVersion);
    return verdict;
  }
  return Referee(task, parties, nonce, options).settle();
}

}  // namespace verbatim
