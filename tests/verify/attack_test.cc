// Liars that know the protocol: each forges one thing and is caught by the check that is there for
// it.
#include <gtest/gtest.h>

#include <verbatim/core/tensor_root.h>
#include <verbatim/verify/referee.h>

#include "support.h"

namespace verbatim::test {
namespace {

constexpr uint8_t kLiar = 3;

Task full_task(CommitLevel level) {
  Random random(11);
  Task task = make_task(random, {3, 5, 4, 20}, level);
  task.program.stop_value = -1;  // runs to its last step
  return task;
}

std::vector<Digest> output_roots(const Commitment& c) {
  std::vector<Digest> roots;
  for (const OutputRoot& out : c.outputs) roots.push_back(out.root);
  return roots;
}

// Commits to what a run of `program` (with `fault`) gives, and answers for it; `change` then alters
// what it says.
class Liar {
 public:
  Liar(const Task& task, const Program& program, std::optional<Fault> fault,
       LyingParty::Change change = {}, uint8_t key = kLiar)
      : claims_(commit(task, program, fault)) {
    Task own = task;  // the provider behind believes in another task, if the program is another
    own.program = program;
    own.limits = NodeLimits{};
    provider_ = make_provider(own, 2, fault);
    const auto forged = forged_records(task, test_key(key).public_key(), claims_.records,
                                       claims_.steps, output_roots(claims_));
    const Digest genesis = genesis_record(task_id(task));
    party_ = std::make_unique<LyingParty>(
        *provider_, key, [=, this](const Request& request, Reply reply) -> Reply {
          if (const auto* q = std::get_if<AskStep>(&request.question)) {
            StepOpening& opening = std::get<StepOpening>(reply);
            opening.previous = q->step == 0 ? genesis : claims_.records[q->step - 1];
          }
          reply = forged(request, std::move(reply));
          return change ? change(request, std::move(reply)) : reply;
        });
  }
  LyingParty& party() { return *party_; }

 private:
  Commitment claims_;
  std::unique_ptr<Provider> provider_;
  std::unique_ptr<LyingParty> party_;
};

// The liar is asked first, so that nothing of the honest party's shields the referee from it.
Verdict play(const Task& task, Liar& liar) {
  const auto honest = make_provider(task, 1);
  LocalParty b(*honest);
  return ok(settle(task, std::vector<Party*>{&liar.party(), &b}, new_session()));
}

void expect_refuted(const Verdict& v, const std::string& reason) {
  EXPECT_EQ(v.outcome, DisputeOutcome::settled);
  ASSERT_EQ(v.refuted.size(), 1u);
  EXPECT_EQ(v.refuted[0].party, 0u);
  EXPECT_NE(v.refuted[0].reason.find(reason), std::string::npos) << v.refuted[0].reason;
  EXPECT_EQ(v.winners, std::vector<uint32_t>{1});
}

// Claims another root for the first output than the one of its last record.
LyingParty::Change with_output(const Task& task, const Digest& root) {
  const Commitment truth = commit(task);
  std::vector<Digest> outputs = output_roots(truth);
  outputs[0] = root;
  return forged_records(task, test_key(kLiar).public_key(), truth.records, truth.steps, outputs);
}

class Forgery : public ::testing::TestWithParam<CommitLevel> {
 protected:
  const Task task = full_task(GetParam());
  const Fault fault{9, 4, 3, 20};
};
INSTANTIATE_TEST_SUITE_P(Levels, Forgery, ::testing::Values(CommitLevel::full, CommitLevel::light),
                         [](const auto& level) { return std::string(name_of(level.param)); });

TEST_P(Forgery, AdaptiveTreeAnswersForfeit) {
  for (const TreeName::Kind kind : {TreeName::Kind::records, TreeName::Kind::nodes}) {
    Liar liar(task, task.program, fault, [&](const Request& request, Reply reply) -> Reply {
      const auto* q = std::get_if<AskChildren>(&request.question);
      if (q != nullptr && q->tree.kind == kind)
        std::get<Children>(reply).hashes.back() = session(50);
      return reply;
    });
    const Verdict v = play(task, liar);
    EXPECT_EQ(v.outcome, DisputeOutcome::forfeit);
    ASSERT_EQ(v.forfeited.size(), 1u);
    EXPECT_EQ(v.forfeited[0].party, 0u);
    EXPECT_EQ(v.forfeited[0].reason,
              "what it opens of a tree does not hash to what it committed to");
  }
}

TEST_P(Forgery, OpensAnotherNodeThanItCommittedTo) {
  Liar liar(task, task.program, fault, [&](const Request& request, Reply reply) -> Reply {
    if (std::holds_alternative<AskNode>(request.question))
      std::get<NodeOpening>(reply).outputs[0] = session(51);
    return reply;
  });
  expect_refuted(play(task, liar), "is not the node that it committed to");
}

TEST_P(Forgery, OtherNumberOfEdges) {
  Liar liar(task, task.program, fault, [&](const Request& request, Reply reply) -> Reply {
    if (std::holds_alternative<AskNode>(request.question))
      std::get<NodeOpening>(reply).inputs.push_back(session(51));
    return reply;
  });
  expect_refuted(play(task, liar), "other edges");
}

TEST_P(Forgery, ModelSwap) {
  Program other = task.program;
  size_t weight = 0;
  while (other.graph.initializers[weight].dtype != DType::f32) ++weight;
  Initializer& init = other.graph.initializers[weight];
  init.tensor = ok(flip_bit(init.tensor, 0, 22));
  other.graph.compute_roots();
  Liar liar(task, other, std::nullopt);
  expect_refuted(play(task, liar), "of the node is not what its producer gave");
}

TEST_P(Forgery, InputSwap) {
  Task other = task;
  other.inputs[1] = ok(flip_bit(task.inputs[1], 2, 22));
  // The claims are those of the swapped input, under the true task.
  Committer committer(task.program, task.level, task_id(task));
  RunOptions options;
  options.sink = &committer;
  const auto backend = make_reference_backend();
  ok(run_program(task.program, *backend, other.inputs, options).status());
  const Commitment claims = ok(committer.finish());
  const auto provider = make_provider(other, 2);
  const auto forged = forged_records(task, test_key(kLiar).public_key(), claims.records,
                                     claims.steps, output_roots(claims));
  const Digest genesis = genesis_record(task_id(task));
  LyingParty party(*provider, kLiar, [&](const Request& request, Reply reply) -> Reply {
    if (std::holds_alternative<AskStep>(request.question))
      std::get<StepOpening>(reply).previous = genesis;
    return forged(request, std::move(reply));
  });
  const auto honest = make_provider(task, 1);
  LocalParty b(*honest);
  expect_refuted(ok(settle(task, std::vector<Party*>{&party, &b}, new_session())),
                 "of the node is not what its producer gave");
}

TEST_P(Forgery, WrongOperatorAttributeOrEdge) {
  for (const int kind : {0, 1, 2}) {
    Program other = task.program;
    for (Node& node : other.graph.nodes) {
      if (kind == 0 && node.op == "Tanh") node.op = "Sigmoid";
      if (kind == 1 && node.op == "Gemm") node.attributes.set("alpha", 2.0f);
      if (kind == 2 && node.op == "Add") std::swap(node.inputs[0], node.inputs[1]);
    }
    Liar liar(task, other, std::nullopt);
    const Verdict v = play(task, liar);
    // Swapping the operands of one addition changes no value: the light level, which records
    // values, has nothing to object to.
    if (kind == 2 && task.level == CommitLevel::light)
      EXPECT_TRUE(v.refuted.empty());
    else
      expect_refuted(v, "is not the node that it committed to");
  }
}

// What it sends for the inputs of the disputed node is not what was agreed. It must not be computed
// with.
TEST_P(Forgery, GarbageForAgreedInputs) {
  Liar liar(task, task.program, fault, [&](const Request& request, Reply reply) -> Reply {
    const auto* q = std::get_if<AskTensor>(&request.question);
    if (q != nullptr && q->length > 0) std::get<TensorPart>(reply).bytes[2] ^= std::byte{8};
    return reply;
  });
  expect_refuted(play(task, liar), "is not what the operator computes");
}

// A header that its root does not bear out must not count as "too large for the referee".
TEST_P(Forgery, HugeShapeIsNotAWayOut) {
  Liar liar(task, task.program, fault, [&](const Request& request, Reply reply) -> Reply {
    if (std::holds_alternative<AskTensor>(request.question))
      std::get<TensorPart>(reply).shape = Shape{int64_t{1} << 40};
    return reply;
  });
  expect_refuted(play(task, liar), "is not what the operator computes");
}

// The tile is known from hashes; the bytes of it, sent afterwards, must be those that were hashed.
TEST_P(Forgery, OtherBytesForTheWrongTile) {
  Liar liar(task, task.program, fault, [&](const Request& request, Reply reply) -> Reply {
    const auto* q = std::get_if<AskTensor>(&request.question);
    const ValueId output = task.program.graph.nodes[fault.node].outputs[0];
    if (q != nullptr && q->length > 0 && q->value == static_cast<uint32_t>(output))
      std::get<TensorPart>(reply).bytes[0] ^= std::byte{8};
    return reply;
  });
  const Verdict v = play(task, liar);
  expect_refuted(v, "is not what the operator computes");
  EXPECT_EQ(v.refuted[0].where->tile, 0);
  EXPECT_EQ(v.refuted[0].where->element, -1);
}

// An honest provider would have refused this task; two that did not get no verdict out of it, and
// nobody wins.
TEST_P(Forgery, OperatorBeyondTheLimitsGivesNoVerdict) {
  Task tight = task;
  tight.limits.operations = 1;
  Liar a(tight, tight.program, std::nullopt), b(tight, tight.program, fault, {}, 4);
  const Verdict v = ok(settle(tight, std::vector<Party*>{&a.party(), &b.party()}, new_session()));
  EXPECT_EQ(v.outcome, DisputeOutcome::no_verdict);
  EXPECT_TRUE(v.winners.empty() && v.refuted.empty() && v.forfeited.empty());
  EXPECT_NE(v.reason.find("the task allows 1"), std::string::npos) << v.reason;
  EXPECT_EQ(v.cost.nodes_recomputed, 0u);
}

// Whatever a task calls its operators and outputs, the verdict about it can be read.
TEST_P(Forgery, TheLongestNamesMakeReadableVerdicts) {
  for (const std::string_view unit : {"n", "\u00e9", "\U0001f600"}) {
    std::string longest;
    while (longest.size() < 4096) longest += unit;
    Task named = task;
    for (Node& node : named.program.graph.nodes) node.name = longest;
    for (size_t i = 0; i < named.program.graph.outputs.size(); ++i)
      named.program.graph.outputs[i].name = longest.substr(0, 4096 - 4 * (i + 1));
    ok(validate_task(named));
    Task tight = named;
    tight.limits.operations = 1;
    Liar wrong_value(named, named.program, fault);
    Liar wrong_output(named, named.program, std::nullopt, with_output(named, session(54)));
    Liar x(tight, tight.program, std::nullopt), y(tight, tight.program, fault, {}, 4);
    const Verdict verdicts[] = {
        play(named, wrong_value), play(named, wrong_output),
        ok(settle(tight, std::vector<Party*>{&x.party(), &y.party()}, new_session()))};
    expect_refuted(verdicts[0], "is not what the operator computes");
    expect_refuted(verdicts[1], "is not what its last step gave");
    EXPECT_EQ(verdicts[2].outcome, DisputeOutcome::no_verdict);
    for (const Verdict& v : verdicts) {
      const Result<Verdict> read = decode_verdict(encode_verdict(v), "verdict");
      ASSERT_TRUE(read.ok()) << read.status().message();
      EXPECT_EQ(*read, v);
    }
  }
}

// A copy of the opponent's list of nodes, against its own record.
TEST(LightLevel, NodesThatAreNotThoseOfTheRecord) {
  const Task task = full_task(CommitLevel::light);
  const auto honest = make_provider(task, 1);
  const Commitment truth = commit(task);
  std::vector<Digest> records = truth.records;
  const Digest body = session(52);
  const auto nodes = static_cast<uint32_t>(task.program.graph.nodes.size());
  for (size_t i = 19; i < records.size(); ++i)
    records[i] = step_record(i, records[i - 1], task.level, nodes, body);
  const auto forged =
      forged_records(task, test_key(kLiar).public_key(), records, 20, output_roots(truth));
  const size_t count = recorded_values(task.program).size();
  LyingParty party(*honest, kLiar, [&](const Request& request, Reply reply) -> Reply {
    const auto* q = std::get_if<AskStep>(&request.question);
    if (q != nullptr && q->step == 19) std::get<StepOpening>(reply).body_root = body;
    return forged(request, std::move(reply));
  });
  LocalParty b(*honest);
  // It cannot open the invented body; one that it can open is refuted by its own nodes.
  const Verdict v = ok(settle(task, std::vector<Party*>{&party, &b}, new_session()));
  EXPECT_EQ(v.winners, std::vector<uint32_t>{1});

  std::vector<Digest> values(count, session(53));
  const Digest real_body = merkle_root(values);
  records[19] = step_record(19, records[18], task.level, nodes, real_body);
  const auto openable =
      forged_records(task, test_key(kLiar).public_key(), records, 20, output_roots(truth));
  LyingParty second(*honest, kLiar, [&](const Request& request, Reply reply) -> Reply {
    if (const auto* q = std::get_if<AskStep>(&request.question); q != nullptr && q->step == 19)
      std::get<StepOpening>(reply).body_root = real_body;
    if (const auto* q = std::get_if<AskChildren>(&request.question);
        q != nullptr && q->tree.kind == TreeName::Kind::recorded)
      return Children{walk_hashes(values, q->node)};
    return openable(request, std::move(reply));
  });
  expect_refuted(ok(settle(task, std::vector<Party*>{&second, &b}, new_session())),
                 "is not what its own nodes gave");
}

// Speaks to another provider as a referee would, in a session that it was told of or made up.
class Impostor {
 public:
  Impostor(Provider& victim, const Digest& session)
      : victim_(victim),
        session_(session),
        previous_(exchange_start(victim.task(), session, victim.key())) {}
  Reply ask(const Question& question) {
    const Bytes request =
        encode_request({victim_.task(), session_, sequence_++, previous_, question});
    const SignedAnswer answer = ok(victim_.answer(request));
    previous_ = exchange_next(previous_, request, answer.reply);
    return ok(decode_reply(answer.reply, "reply"));
  }

 private:
  Provider& victim_;
  Digest session_, previous_;
  uint64_t sequence_ = 0;
};

// As a server does: what its provider does not sign is no answer.
class Served final : public Party {
 public:
  explicit Served(Provider& provider) : provider_(provider) {}
  const PublicKey& key() const override { return provider_.key(); }
  Result<SignedAnswer> ask(ByteView request) override {
    auto answer = provider_.answer(request);
    return answer.ok() ? std::move(answer) : unavailable(answer.status().message());
  }

 private:
  Provider& provider_;
};

// A party that computes nothing: it repeats the referee's first request to the honest provider,
// with the session that it finds there, and goes on in the referee's place.
class Ahead : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Questions, Ahead, ::testing::Values(1, 2, 3, 4));

TEST_P(Ahead, NobodyPutsAnotherPartyOutOfStep) {
  const Task task = full_task(CommitLevel::full);
  const auto honest = make_provider(task, 1), behind = make_provider(task, 2, Fault{9, 4, 3, 20});
  LyingParty liar(*behind, kLiar, [&](const Request& request, Reply reply) -> Reply {
    if (!std::holds_alternative<AskCommit>(request.question)) return Refusal{"no"};
    Impostor referee(*honest, request.session);
    const Question ahead[] = {AskCommit{}, AskReveal{}, AskRecord{0}, AskRecord{1}};
    for (int i = 0; i < GetParam(); ++i) referee.ask(ahead[i]);
    return reply;
  });
  Served a(*honest);
  const Verdict v = ok(settle(task, std::vector<Party*>{&a, &liar}, new_session()));
  EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
  ASSERT_EQ(v.forfeited.size(), 1u);
  EXPECT_EQ(v.forfeited[0].party, 1u);
}

// What it hears from the honest provider is bound to another session and key.
TEST(Network, ARelayedCommitmentDoesNotOpen) {
  const Task task = full_task(CommitLevel::full);
  const auto honest = make_provider(task, 1);
  std::optional<Impostor> referee;
  LyingParty liar(*honest, kLiar, [&](const Request& request, Reply) -> Reply {
    if (!referee) referee.emplace(*honest, request.session);
    return referee->ask(request.question);
  });
  Served a(*honest);
  const Verdict v = ok(settle(task, std::vector<Party*>{&a, &liar}, new_session()));
  EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
  ASSERT_EQ(v.refuted.size(), 1u);
  EXPECT_EQ(v.refuted[0].reason, "it reveals another result than it committed to");
}

TEST(Network, SessionsOfADisputeAreDistinctAndFollowFromItsNonce) {
  const Digest nonce = session(60);
  EXPECT_EQ(party_session(nonce, 1), party_session(nonce, 1));
  EXPECT_NE(party_session(nonce, 0), party_session(nonce, 1));
  EXPECT_NE(party_session(nonce, 0), party_session(session(61), 0));
  Writer w;
  w.raw(nonce.bytes);
  w.u32(7);
  EXPECT_EQ(party_session(nonce, 7), tagged_hash("verbatim.session.1", w.bytes()));
}

// A program whose cache does not matter before step 7: a lie about an old row of it leaves no mark
// in any record until then.
Task gated_task() {
  Random random(12);
  GraphBuilder b;
  const ValueId state = b.input("state", DType::f32, {1, 4});
  const ValueId count = b.input("count", DType::f32, {1});
  const ValueId past = b.input("past", DType::f32, {-1, 4});
  const auto constant = [&](const char* name, float v) {
    return b.constant(name, ok(Tensor::from<float>(Shape{1}, std::vector<float>{v})));
  };
  const ValueId next = b.add("Add", "", {count, constant("one", 1)}, {}, "count");
  const ValueId gate = b.add("Floor", "", {b.add("Mul", "", {next, constant("eighth", 0.125f)})});
  const ValueId rows =
      b.add("Tanh", "",
            {b.add("Linear", kVerbatimDomain, {state, b.constant("w", random.tensor({4, 4}))})});
  const ValueId cache = b.add("Concat", "", {past, rows}, {{"axis", int64_t{0}}}, "cache");
  const ValueId mean = b.add(
      "ReduceMean", "",
      {cache, b.constant("axes", ok(Tensor::from<int64_t>(Shape{1}, std::vector<int64_t>{0})))});
  const ValueId out =
      b.add("Tanh", "", {b.add("Add", "", {state, b.add("Mul", "", {mean, gate})})});
  b.output("state", out);
  b.output("count", next);
  b.output("cache", cache);
  Task task;
  task.level = CommitLevel::light;
  task.program.graph = ok(b.finish());
  task.program.graph.compute_roots();
  task.program.carries = {{0, 0}, {1, 1}, {2, 2}};
  task.program.max_steps = 20;
  task.inputs = {random.tensor({1, 4}), ok(Tensor::zeros(DType::f32, Shape{1})),
                 random.tensor({2, 4})};
  ok(validate_task(task));
  return task;
}

TEST(LightLevel, ALieAboutTheCacheIsTracedBackToItsStep) {
  const Task task = gated_task();
  const auto honest = make_provider(task, 1);
  int32_t concat = 0;
  while (task.program.graph.nodes[concat].op != "Concat") ++concat;
  const Commitment truth = commit(task);
  for (const uint64_t step : {0, 1, 3, 6}) {
    const Fault fault{step, concat, 1, 22};
    const Commitment lie = commit(task, task.program, fault);
    for (size_t i = 0; i < 7; ++i) ASSERT_EQ(lie.records[i], truth.records[i]);
    ASSERT_NE(lie.records[7], truth.records[7]);
    const auto liar = make_provider(task, 2, fault);
    LocalParty a(*liar), b(*honest);
    const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
    expect_refuted(v, "is not what the operator computes");
    EXPECT_EQ(v.refuted[0].where->step, step);
    EXPECT_EQ(v.refuted[0].where->node, concat);
    EXPECT_EQ(v.refuted[0].where->element, 1);
    EXPECT_EQ(v.cost.nodes_recomputed, 1u);
  }
}

}  // namespace
}  // namespace verbatim::test
