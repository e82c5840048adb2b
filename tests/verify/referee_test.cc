// The dispute game: whoever lies is refuted and the place is named; whoever is honest never is.
#include <verbatim/verify/referee.h>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include <verbatim/core/tensor_root.h>

#include "support.h"

namespace verbatim::test {
namespace {

ProgramSize random_size(Random& random) {
  return {static_cast<int64_t>(1 + random.below(4)), static_cast<int64_t>(1 + random.below(7)),
          static_cast<int>(random.below(6)), static_cast<uint32_t>(1 + random.below(200))};
}

CommitLevel random_level(Random& random) {
  return random.below(2) ? CommitLevel::full : CommitLevel::light;
}

// A fault that exists: its step is taken, its element is there.
Fault random_fault(Random& random, const Task& task, const Commitment& truth) {
  Fault fault;
  fault.step = random.below(truth.steps);
  fault.node = static_cast<int32_t>(random.below(task.program.graph.nodes.size()));
  struct Sizes final : TraceSink {
    const Fault* fault;
    Tensor output;
    Status on_node(uint64_t s, int32_t n, std::span<const Tensor>,
                   std::span<const Tensor> outputs) override {
      if (s == fault->step && n == fault->node) output = outputs[0];
      return {};
    }
    Status on_step_end(uint64_t, std::span<const Tensor>, std::span<const Tensor>) override {
      return {};
    }
  } sizes;
  sizes.fault = &fault;
  RunOptions options;
  options.sink = &sizes;
  const auto backend = make_reference_backend();
  ok(run_program(task.program, *backend, task.inputs, options).status());
  fault.element =
      static_cast<int64_t>(random.below(static_cast<uint64_t>(sizes.output.elements())));
  fault.bit =
      static_cast<int>(random.below(static_cast<uint64_t>(bit_width(sizes.output.dtype()))));
  return fault;
}

Verdict play(const Task& task, std::vector<Party*> parties) {
  return ok(settle(task, parties, new_session()));
}

bool is_refuted(const Verdict& v, uint32_t party) {
  return std::ranges::find(v.refuted, party, &PartyFinding::party) != v.refuted.end();
}
bool is_forfeited(const Verdict& v, uint32_t party) {
  return std::ranges::find(v.forfeited, party, &PartyFinding::party) != v.forfeited.end();
}
bool wins(const Verdict& v, uint32_t party) {
  return std::ranges::find(v.winners, party) != v.winners.end();
}

struct Game {
  explicit Game(uint64_t number) : random(number), size(random_size(random)) {
    task = make_task(random, size, random_level(random));
    truth = commit(task);
    honest = make_provider(task, 1);
  }
  Random random;
  ProgramSize size;
  Task task;
  Commitment truth;
  std::unique_ptr<Provider> honest;
};

TEST(Referee, RefutesEveryLieAndNamesThePlaceExactly) {
  int settled = 0, equal = 0;
  rc::check([&](uint32_t number) {
    Game game(number);
    const Fault fault = random_fault(game.random, game.task, game.truth);
    const auto liar = make_provider(game.task, 2, fault, game.random.below(2) ? 1 : 1 << 20);
    ok(liar->run());
    LocalParty a(*game.honest), b(*liar);
    const bool liar_first = game.random.below(2);
    const Verdict v =
        play(game.task, liar_first ? std::vector<Party*>{&b, &a} : std::vector<Party*>{&a, &b});
    const uint32_t lying = liar_first ? 0 : 1;
    RC_ASSERT(v.outcome == DisputeOutcome::settled);
    RC_ASSERT(wins(v, 1 - lying));
    RC_ASSERT(v.forfeited.empty());
    if (v.refuted.empty()) {
      // Only the light level has lies without consequence.
      RC_ASSERT(game.task.level == CommitLevel::light && wins(v, lying));
      ++equal;
      return;
    }
    ++settled;
    RC_ASSERT(v.refuted.size() == 1u && v.refuted[0].party == lying);
    RC_ASSERT(v.result == game.truth.final_root);
    RC_ASSERT(v.refuted[0].where.has_value());
    const Where& where = *v.refuted[0].where;
    RC_ASSERT(where.step == fault.step);
    RC_ASSERT(where.node == fault.node);
    RC_ASSERT(where.element == fault.element);
    RC_ASSERT(where.tile == leaf_layout(where.dtype, where.shape).leaf_of(fault.element));
    RC_ASSERT(where.claimed_bits != where.true_bits);
    RC_ASSERT(v.cost.nodes_recomputed == 1u);
  });
  RecordProperty("settled", settled);
  RecordProperty("equal", equal);
  EXPECT_GT(settled, 0);  // of few cases half may have no consequence
}

TEST(Referee, HonestPartyWinsAmongAnyLiars) {
  rc::check([](uint32_t number) {
    Game game(number);
    std::vector<std::unique_ptr<Provider>> providers;
    std::vector<std::unique_ptr<LocalParty>> parties;
    std::vector<Party*> pointers;
    const size_t count = 3 + game.random.below(3), honest = game.random.below(count);
    std::vector<bool> lies;
    for (size_t i = 0; i < count; ++i) {
      const bool lie = i != honest && game.random.below(4) > 0;
      providers.push_back(make_provider(
          game.task, static_cast<uint8_t>(i + 1),
          lie ? std::optional(random_fault(game.random, game.task, game.truth)) : std::nullopt));
      parties.push_back(std::make_unique<LocalParty>(*providers.back()));
      pointers.push_back(parties.back().get());
      lies.push_back(lie);
    }
    const Verdict v = play(game.task, pointers);
    RC_ASSERT(v.outcome == DisputeOutcome::settled);
    RC_ASSERT(v.result == game.truth.final_root);
    for (uint32_t i = 0; i < count; ++i) {
      if (!lies[i]) RC_ASSERT(wins(v, i));
      RC_ASSERT(wins(v, i) != is_refuted(v, i));
    }
  });
}

// Whatever bytes a party sends, properly signed, an honest one is neither refuted nor forfeits.
TEST(Referee, HonestPartyWinsAgainstMangledAnswers) {
  int refuted = 0, forfeited = 0;
  rc::check([&](uint32_t number) {
    Game game(number);
    const auto liar = make_provider(game.task, 2, random_fault(game.random, game.task, game.truth));
    const uint64_t at = game.random.below(14);
    uint64_t answers = 0;
    std::vector<Digest> roots;
    for (const OutputRoot& out : game.truth.outputs) roots.push_back(out.root);
    // The liar's own commitment is the provider's, made under the liar's key.
    Result<SignedAnswer> none = Status(StatusCode::internal, "");
    std::optional<Revealed> reveal;
    LyingParty b(*liar, 3, [&](const Request& q, Reply reply) -> Reply {
      if (!std::holds_alternative<AskCommit>(q.question)) return reply;
      LocalParty peek(*liar);
      const Digest id = task_id(game.task), other = new_session();
      Digest previous = exchange_start(id, other, liar->key());
      Bytes request = encode_request({id, other, 0, previous, AskCommit{}});
      const SignedAnswer first = ok(peek.ask(request));
      previous = exchange_next(previous, request, first.reply);
      request = encode_request({id, other, 1, previous, AskReveal{}});
      reveal = std::get<Revealed>(ok(decode_reply(ok(peek.ask(request)).reply, "reveal")));
      std::vector<OutputRoot> named;
      for (size_t i = 0; i < reveal->outputs.size(); ++i)
        named.push_back({game.task.program.graph.outputs[i].name, reveal->outputs[i]});
      const Digest root = final_root(id, reveal->steps, reveal->records_root, named);
      return Committed{
          commit_hash(test_key(3).public_key(), id, q.session, seed(9), root, reveal->steps)};
    });
    b.mangle = [&](const Question& q, Bytes bytes) -> Result<Bytes> {
      if (std::holds_alternative<AskReveal>(q)) {
        Revealed mine = *reveal;
        mine.salt = seed(9);
        bytes = encode_reply(mine);
      }
      if (answers++ != at) return bytes;
      switch (game.random.below(4)) {
        case 0:
          bytes[game.random.below(bytes.size())] ^= std::byte{1} << game.random.below(8);
          break;
        case 1:
          bytes.resize(game.random.below(bytes.size() + 1));
          break;
        case 2:
          bytes.push_back(std::byte{0});
          break;
        default:
          return Status(StatusCode::deadline, "asleep");
      }
      return bytes;
    };
    LocalParty a(*game.honest);
    const bool first = game.random.below(2);
    const Verdict v =
        play(game.task, first ? std::vector<Party*>{&b, &a} : std::vector<Party*>{&a, &b});
    const uint32_t me = first ? 1 : 0;
    RC_ASSERT(wins(v, me));
    RC_ASSERT(!is_refuted(v, me) && !is_forfeited(v, me));
    RC_ASSERT(v.outcome != DisputeOutcome::no_verdict);
    refuted += is_refuted(v, 1 - me);
    forfeited += is_forfeited(v, 1 - me);
  });
  EXPECT_GT(refuted, 0);
  EXPECT_GT(forfeited, 0);
}

TEST(Referee, EqualResultsAreSettledWithoutADispute) {
  Game game(5);
  const auto other = make_provider(game.task, 2);
  LocalParty a(*game.honest), b(*other);
  const Verdict v = play(game.task, {&a, &b});
  EXPECT_EQ(v.outcome, DisputeOutcome::settled);
  EXPECT_EQ(v.winners, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(v.cost.exchanges, 4u);
  EXPECT_EQ(v.cost.nodes_recomputed, 0u);
}

TEST(Referee, TwoLiarsOfOneLieCostOneRecomputation) {
  for (const uint64_t number : {1, 2, 3, 4, 5, 6, 7, 8}) {
    Game game(number);
    const Fault fault = random_fault(game.random, game.task, game.truth);
    const auto x = make_provider(game.task, 2, fault), y = make_provider(game.task, 3, fault);
    LocalParty a(*x), b(*game.honest), c(*y);
    const Verdict v = play(game.task, {&a, &b, &c});
    if (v.refuted.empty()) continue;
    EXPECT_TRUE(is_refuted(v, 0) && is_refuted(v, 2));
    EXPECT_EQ(v.winners, std::vector<uint32_t>{1});
    EXPECT_EQ(v.cost.nodes_recomputed, 1u);
  }
}

// ---- One attack at a time, rejected for the reason that it should be ----

class Attack : public ::testing::TestWithParam<CommitLevel> {
 protected:
  void SetUp() override {
    Random random(11);
    task = make_task(random, {3, 5, 4, 20}, GetParam());
    task.program.stop_value = -1;  // runs to its last step
    truth = commit(task);
    honest = make_provider(task, 1);
    for (const OutputRoot& out : truth.outputs) outputs.push_back(out.root);
  }
  Verdict against(LyingParty::Change change) {
    LocalParty a(*honest);
    LyingParty b(*honest, 3, std::move(change));
    return play(task, {&a, &b});
  }
  Verdict against_records(std::vector<Digest> records, uint64_t steps, std::vector<Digest> roots) {
    return against(forged_records(task, test_key(3).public_key(), std::move(records), steps,
                                  std::move(roots)));
  }
  void expect_refuted(const Verdict& v, const std::string& reason) {
    EXPECT_EQ(v.outcome, DisputeOutcome::settled);
    ASSERT_EQ(v.refuted.size(), 1u);
    EXPECT_EQ(v.refuted[0].party, 1u);
    EXPECT_NE(v.refuted[0].reason.find(reason), std::string::npos) << v.refuted[0].reason;
    EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
  }
  void expect_forfeit(const Verdict& v, const std::string& reason) {
    EXPECT_EQ(v.outcome, DisputeOutcome::forfeit);
    ASSERT_EQ(v.forfeited.size(), 1u);
    EXPECT_EQ(v.forfeited[0].party, 1u);
    EXPECT_NE(v.forfeited[0].reason.find(reason), std::string::npos) << v.forfeited[0].reason;
    EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
  }
  Task task;
  Commitment truth;
  std::unique_ptr<Provider> honest;
  std::vector<Digest> outputs;
};
INSTANTIATE_TEST_SUITE_P(Levels, Attack, ::testing::Values(CommitLevel::full, CommitLevel::light),
                         [](const auto& level) { return std::string(name_of(level.param)); });

TEST_P(Attack, EndsEarly) {
  std::vector<Digest> records(truth.records.begin(), truth.records.begin() + 7);
  expect_refuted(against_records(records, 7, outputs), "does not end the program");
}

TEST_P(Attack, EndsEarlyWithoutAStopRule) {
  task.program.stop_output.reset();
  task.program.stop_value = 0;
  truth = commit(task);
  honest = make_provider(task, 1);
  std::vector<Digest> records(truth.records.begin(), truth.records.begin() + 7);
  expect_refuted(against_records(records, 7, outputs), "before the program's last step");
}

TEST_P(Attack, GoesOnAfterTheEnd) {
  // Find a program that stops by its rule, and forge records after it.
  for (uint64_t number = 0;; ++number) {
    Random random(number);
    task = make_task(random, {3, 5, 4, 20}, GetParam());
    truth = commit(task);
    if (truth.steps < 20) break;
  }
  honest = make_provider(task, 1);
  std::vector<Digest> records = truth.records;
  records.push_back(session(40));
  expect_refuted(against_records(records, truth.steps + 1, outputs), "goes on after");
}

TEST_P(Attack, StepCountIsNotThatOfTheRecords) {
  const std::string reason = "number of steps is not that of its step records";
  expect_refuted(against_records(truth.records, 19, outputs), reason);
  std::vector<Digest> fewer(truth.records.begin(), truth.records.end() - 1);
  expect_refuted(against_records(fewer, 20, outputs), reason);
  expect_refuted(against_records(fewer, 18, outputs), "does not end the program");
}

TEST_P(Attack, ImpossibleStepCounts) {
  expect_refuted(against_records(truth.records, 21, outputs), "cannot take");
  expect_refuted(against_records(truth.records, 0, outputs), "cannot take");
}

TEST_P(Attack, OtherOutputsThanTheLastStepGave) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::vector<Digest> wrong = outputs;
    wrong[i] = session(41);
    expect_refuted(against_records(truth.records, 20, wrong), "is not what its last step gave");
  }
}

TEST_P(Attack, WrongNumberOfOutputs) {
  expect_refuted(against_records(truth.records, 20, {outputs[0]}), "another number of outputs");
}

// Equal last records, but one in the middle is forged: found although the rest agrees.
TEST_P(Attack, OneForgedRecordInTheMiddle) {
  for (const size_t at : {0, 1, 9, 18, 19}) {
    std::vector<Digest> records = truth.records;
    records[at] = session(42);
    expect_refuted(against_records(records, 20, outputs), "is not what it committed to");
  }
}

TEST_P(Attack, RevealsAnotherResultThanItCommittedTo) {
  expect_refuted(against([&](const Request& q, Reply reply) -> Reply {
                   if (std::holds_alternative<AskCommit>(q.question)) return Committed{session(43)};
                   return reply;
                 }),
                 "another result than it committed to");
}

// The commitment names the party's key: a copied one does not open.
TEST_P(Attack, CopiesAnothersCommitment) {
  expect_refuted(against([](const Request&, Reply reply) { return reply; }),
                 "another result than it committed to");
}

TEST_P(Attack, PoisonedStart) {
  // A record of step 5 that continues something else than step 4.
  std::vector<Digest> records = truth.records;
  const Digest body = session(44);
  const auto nodes = static_cast<uint32_t>(task.program.graph.nodes.size());
  for (size_t i = 5; i < records.size(); ++i)
    records[i] = step_record(i, i == 5 ? session(45) : records[i - 1], task.level, nodes, body);
  const auto forged = forged_records(task, test_key(3).public_key(), records, 20, outputs);
  expect_refuted(against([&](const Request& q, Reply reply) -> Reply {
                   if (std::holds_alternative<AskStep>(q.question))
                     return StepOpening{session(45), body, body};
                   return forged(q, std::move(reply));
                 }),
                 "does not continue the agreed record");
}

TEST_P(Attack, SilenceAnywhereForfeits) {
  const Fault fault{9, 2, 0, 20};
  const auto liar = make_provider(task, 2, fault);
  for (int last = 0; last < 40; ++last) {
    LocalParty a(*honest);
    struct Silent final : Party {
      LocalParty inner;
      int left;
      Silent(Provider& p, int n) : inner(p), left(n) {}
      const PublicKey& key() const override { return inner.key(); }
      Result<SignedAnswer> ask(ByteView request) override {
        if (left-- <= 0) return Status(StatusCode::deadline, "");
        return inner.ask(request);
      }
    } b(*liar, last);
    const Verdict v = play(task, {&b, &a});
    EXPECT_EQ(v.winners, std::vector<uint32_t>{1});
    EXPECT_TRUE(is_refuted(v, 0) != is_forfeited(v, 0));
    if (is_refuted(v, 0) && last > 0) {
      EXPECT_GT(last, 3);
      return;
    }
  }
  FAIL() << "the dispute did not end within 40 answers";
}

TEST_P(Attack, BothSilent) {
  const auto liar = make_provider(task, 2, Fault{9, 2, 0, 20});
  struct Silent final : Party {
    LocalParty inner;
    int left;
    Silent(Provider& p, int n) : inner(p), left(n) {}
    const PublicKey& key() const override { return inner.key(); }
    Result<SignedAnswer> ask(ByteView request) override {
      if (left-- <= 0) return Status(StatusCode::deadline, "");
      return inner.ask(request);
    }
  } a(*honest, 4), b(*liar, 4);
  const Verdict v = play(task, {&a, &b});
  EXPECT_EQ(v.outcome, DisputeOutcome::forfeit);
  EXPECT_TRUE(v.winners.empty());
  EXPECT_TRUE(is_forfeited(v, 0) && is_forfeited(v, 1));
}

// Neither gives the inputs of the disputed node: both forfeit, none is called wrong.
TEST_P(Attack, WithheldTensors) {
  const auto liar = make_provider(task, 2, Fault{9, 5, 0, 20});
  struct Withholding final : Party {
    LocalParty inner;
    explicit Withholding(Provider& p) : inner(p) {}
    const PublicKey& key() const override { return inner.key(); }
    Result<SignedAnswer> ask(ByteView request) override {
      if (std::holds_alternative<AskTensor>(ok(decode_request(request, "")).question))
        return Status(StatusCode::deadline, "");
      return inner.ask(request);
    }
  } a(*honest), b(*liar);
  const Verdict both = play(task, {&a, &b});
  EXPECT_EQ(both.outcome, DisputeOutcome::forfeit);
  EXPECT_EQ(both.forfeited.size(), 2u);
  // One that withholds does not help itself: the other supplies them, and the liar is still
  // refuted.
  LocalParty c(*honest);
  const Verdict one = play(task, {&b, &c});
  EXPECT_TRUE(is_refuted(one, 0));
  EXPECT_EQ(one.winners, std::vector<uint32_t>{1});
}

TEST_P(Attack, OversizedAnswerForfeits) {
  LocalParty a(*honest);
  LyingParty b(*honest, 3, [](const Request&, Reply reply) { return reply; });
  b.mangle = [](const Question&, Bytes) { return Bytes(kMaxReplyBytes + 1); };
  expect_forfeit(play(task, {&a, &b}), "too large");
}

TEST_P(Attack, ReplayedOrMovedSignaturesForfeit) {
  // Every answer carries the signature of the one before.
  LocalParty a(*honest);
  LyingParty b(*honest, 3, [](const Request&, Reply reply) { return reply; });
  Signature old{};
  b.after = [&](SignedAnswer& answer) { std::swap(answer.signature, old); };
  expect_forfeit(play(task, {&a, &b}), "not signed");
}

TEST_P(Attack, AnswerOfTheWrongKindForfeits) {
  expect_forfeit(against([](const Request&, Reply) -> Reply { return Refusal{"no thanks"}; }),
                 "declined to answer: no thanks");
  expect_forfeit(against([](const Request&, Reply) -> Reply { return Children{}; }), "wrong kind");
}

// Sabotage from within: a party with the true result plays badly against a liar. Its own fellow
// must not fall with it.
TEST_P(Attack, SaboteurDoesNotDragDownItsFellows) {
  const auto liar = make_provider(task, 2, Fault{9, 2, 0, 20});
  const auto forged = forged_records(task, test_key(3).public_key(), truth.records, 20, outputs);
  LyingParty saboteur(*honest, 3, [&](const Request& q, Reply reply) -> Reply {
    if (std::holds_alternative<AskNode>(q.question))
      return NodeOpening{{session(1)}, {session(2)}, {}};
    return forged(q, std::move(reply));
  });
  LocalParty a(*liar), c(*honest);
  const Verdict v = play(task, {&a, &saboteur, &c});
  EXPECT_TRUE(is_refuted(v, 0) && is_refuted(v, 1));
  EXPECT_EQ(v.winners, std::vector<uint32_t>{2});
  EXPECT_EQ(v.result, truth.final_root);
}

TEST(Referee, AnotherSemanticsVersionGivesNoVerdict) {
  Game game(3);
  game.task.semantics = kSemanticsVersion + 1;
  LocalParty a(*game.honest);
  const Verdict v = play(game.task, {&a});
  EXPECT_EQ(v.outcome, DisputeOutcome::no_verdict);
  EXPECT_TRUE(v.winners.empty());
  EXPECT_EQ(a.asked, 0);
}

}  // namespace
}  // namespace verbatim::test
