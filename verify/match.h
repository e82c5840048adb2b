// Two parties whose results differ, played until at least one of them is refuted or has failed to
// answer.
//
//   1. the first step record in which their record trees differ (or the output, or the length)
//   2. the first node of that step whose hash differs, opened by both
//   3. an input that is not what its producer gave, or else the node recomputed
//
// A refutation rests on what the party signed and the public task alone. An honest party is never
// refuted, whatever the other says: each comparison is of its claim with something both agree on,
// or with a recomputation from agreed inputs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <verbatim/verify/recompute.h>

namespace verbatim {

// What a party revealed.
struct Claim {
  uint64_t steps = 0;
  Digest records_root;
  std::vector<Digest> outputs;
  Digest final_root;
};

struct Refutation {
  int side = 0;  // 0 or 1
  std::string reason;
  std::optional<Where> where;
  // Follows from the final root itself, so it holds for whoever revealed the same root.
  bool binds_result = false;
};

struct MatchResult {
  std::vector<Refutation> refuted;  // at most one for each side
  std::string no_verdict;           // why the referee could not decide; empty otherwise
};

class Match {
 public:
  struct Side {
    Conversation* talk;
    const Claim* claim;
  };
  Match(const TaskFacts& facts, Recomputation& recomputation, Side a, Side b)
      : facts_(facts), recomputation_(recomputation), sides_{a, b} {}

  // Failures to answer are left in the conversations.
  MatchResult play();

 private:
  // A value that both sides claim, in the order of the sides.
  template <class T>
  struct Both {
    T of[2];
    const T& operator[](int side) const { return of[side]; }
  };
  template <class R>
  std::optional<Both<R>> ask_both(const Question& question);

  struct Split {  // the first leaf in which two trees of equal shape differ
    uint64_t index;
    Both<Digest> leaf;
  };
  std::optional<Split> first_difference(TreeName tree, uint64_t count, Both<Digest> roots);

  // Phase 1
  void play_records();
  void play_leaf(uint64_t step, const Both<Digest>& leaf);
  void play_length(uint64_t step, int shorter);
  void play_steps_claimed();
  void play_outputs();
  // Phase 2
  void play_step(uint64_t step);
  void play_recorded(uint64_t step, const Both<StepOpening>& opening);
  void play_node(uint64_t step, uint32_t node);
  bool play_inputs(uint64_t step, uint32_t node, const Both<NodeOpening>& opening);
  void play_recomputation(uint64_t step, uint32_t node, const Both<NodeOpening>& opening);

  // Openings, checked against what the side committed to. Nothing where the side failed or was
  // refuted by its own answer.
  std::optional<Digest> record_of(int side, uint64_t step);
  std::optional<StepOpening> step_of(int side, uint64_t step);
  std::optional<NodeOpening> node_of(int side, uint64_t step, uint32_t node);
  std::optional<Digest> recorded_of(int side, uint64_t step, uint32_t index);

  // Roots that both sides are committed to or must accept. Nothing where the match is decided on
  // the way, or nobody answers.
  std::optional<Digest> previous_record(uint64_t step);
  std::optional<Digest> value_root(uint64_t step, ValueId value);
  std::optional<Digest> input_root(uint64_t step, uint32_t input);
  std::optional<Digest> output_root(uint64_t step, uint32_t output);
  std::optional<Digest> appended_root(uint64_t step, uint32_t output, uint32_t node);

  bool output_is_bound(uint32_t output) const;

  bool light() const { return facts_.task->level == CommitLevel::light; }
  bool decided() const { return !result_.refuted.empty() || !result_.no_verdict.empty(); }
  bool failed(int side) const { return sides_[side].talk->failed(); }
  void refute(int side, std::string reason, bool binds_result,
              std::optional<Where> where = std::nullopt);
  // Refutes each side whose claim is not `truth`.
  void refute_differing(const Both<Digest>& claims, const Digest& truth, const std::string& reason,
                        bool binds_result, const std::optional<Where>& where);
  Where at(uint64_t step, uint32_t node) const;

  const TaskFacts& facts_;
  Recomputation& recomputation_;
  Side sides_[2];
  MatchResult result_;
};

}  // namespace verbatim
