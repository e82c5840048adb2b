// Commitments: what they bind, that levels and stored states agree, and the trees under them.
#include <verbatim/verify/commitment.h>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>

#include <verbatim/core/tensor_root.h>
#include <verbatim/verify/merkle_walk.h>

#include "support.h"

namespace verbatim::test {
namespace {

TEST(MerkleWalk, DescendantsHashUpToTheirNode) {
  rc::check([] {
    const uint64_t count = *rc::gen::inRange<uint64_t>(1, 700);
    std::vector<Digest> leaves;
    for (uint64_t i = 0; i < count; ++i) leaves.push_back(session(static_cast<uint8_t>(i)));
    LeafRange node{0, count};
    Digest hash = merkle_root(leaves);
    while (true) {
      RC_ASSERT(is_tree_node(count, node));
      const std::vector<LeafRange> ranges = walk_ranges(node);
      const std::vector<Digest> hashes = walk_hashes(leaves, node);
      RC_ASSERT(ranges.size() <= kMaxWalkWidth && ranges.size() == hashes.size());
      RC_ASSERT(walk_fold(node, hashes) == hash);
      uint64_t at = node.begin;
      for (const LeafRange& r : ranges) {
        RC_ASSERT(r.begin == at && r.end > at);
        at = r.end;
      }
      RC_ASSERT(at == node.end);
      if (node.size() == 1) break;
      const size_t pick = *rc::gen::inRange<size_t>(0, ranges.size());
      node = ranges[pick];
      hash = hashes[pick];
    }
  });
}

TEST(MerkleWalk, RefusesRangesThatAreNoNodes) {
  EXPECT_TRUE(is_tree_node(7, {4, 7}));
  EXPECT_TRUE(is_tree_node(7, {4, 6}));
  EXPECT_FALSE(is_tree_node(7, {5, 7}));
  EXPECT_FALSE(is_tree_node(7, {3, 5}));
  EXPECT_FALSE(is_tree_node(7, {0, 8}));
  EXPECT_FALSE(is_tree_node(7, {2, 2}));
  EXPECT_FALSE(is_tree_node(7, {6, 5}));
}

TEST(Commitment, NodeHashBindsEveryPart) {
  Node node{"", "Add", "n", {{"axis", int64_t{1}}}, {0, 1}, {2}};
  const Digest a = session(1), b = session(2), c = session(3);
  std::set<Digest> hashes;
  const auto add = [&](uint32_t position, const Node& n, std::vector<Digest> in,
                       std::vector<Digest> out) {
    EXPECT_TRUE(hashes.insert(node_hash(position, n, in, out)).second);
  };
  add(0, node, {a, b}, {c});
  add(1, node, {a, b}, {c});
  add(0, node, {b, a}, {c});
  add(0, node, {a, b}, {a});
  add(0, node, {a}, {b, c});
  for (auto change : std::vector<std::function<void(Node&)>>{
           [](Node& n) { n.op = "Mul"; }, [](Node& n) { n.domain = "verbatim"; },
           [](Node& n) { n.name = "m"; }, [](Node& n) { n.attributes.set("axis", int64_t{2}); },
           [](Node& n) { n.attributes.set("axis", 1.0f); },
           [](Node& n) {
             n.inputs = {1, 0};
           },
           [](Node& n) { n.outputs = {3}; }}) {
    Node other = node;
    change(other);
    add(0, other, {a, b}, {c});
  }
}

TEST(Commitment, IsTheSameAgainAndOtherForEveryChange) {
  rc::check([](uint32_t number) {
    Random random(number);
    Task task =
        make_task(random, {2, 3, 3, 9}, random.below(2) ? CommitLevel::full : CommitLevel::light);
    const Commitment c = commit(task);
    RC_ASSERT(c.final_root == commit(task).final_root);
    RC_ASSERT(c.steps == c.records.size() && c.outputs.size() == 3u);
    Task other = task;
    other.nonce[5] ^= std::byte{1};
    RC_ASSERT(commit(other).final_root != c.final_root);
    RC_ASSERT(commit(other).records[0] != c.records[0]);
    other = task;
    other.inputs[0] = ok(flip_bit(task.inputs[0], 0, 3));
    RC_ASSERT(commit(other).final_root != c.final_root);
    other = task;
    other.level = task.level == CommitLevel::full ? CommitLevel::light : CommitLevel::full;
    const Commitment d = commit(other);
    for (size_t i = 0; i < c.outputs.size(); ++i) RC_ASSERT(d.outputs[i] == c.outputs[i]);
    RC_ASSERT(d.final_root != c.final_root);
  });
}

TEST(Commitment, LightRecordsNewCacheRowsOnly) {
  Random random(1);
  const Program p = make_program(random, {});
  const auto appended = appended_values(p);
  ASSERT_TRUE(appended[2].has_value());
  EXPECT_FALSE(appended[0] || appended[1]);
  const std::vector<ValueId> recorded = recorded_values(p);
  ASSERT_GE(recorded.size(), 3u);
  EXPECT_EQ(recorded.back(), *appended[2]);
  EXPECT_EQ(recorded[recorded.size() - 3], p.graph.outputs[0].value);
}

TEST(Fault, FlipsOneBitOfTheValueOnEveryMachine) {
  const Tensor t = ok(Tensor::from<float>(Shape{2}, std::vector<float>{1.0f, 2.0f}));
  EXPECT_EQ(ok(flip_bit(t, 1, 31)).data<float>()[1], -2.0f);
  EXPECT_EQ(t.data<float>()[1], 2.0f);  // the original is left alone
  EXPECT_FALSE(flip_bit(t, 2, 0).ok());
  EXPECT_FALSE(flip_bit(t, 0, 32).ok());
  const Tensor codes = ok(Tensor::from<Int4>(Shape{1, 3}, std::vector<Int4>{{1}, {2}, {3}}));
  EXPECT_EQ(ok(flip_bit(codes, 1, 3)).data<Int4>()[1].bits, 10);
  EXPECT_FALSE(flip_bit(codes, 1, 4).ok());
  const Fault fault = ok(parse_fault("0:87:3:22"));
  EXPECT_EQ(fault.node, 87);
  EXPECT_EQ(fault.bit, 22);
  for (const char* bad :
       {"", "1", "1:2:3", "1:2:3:4:5", "1:2:3:", "-1:2:3:4", "1:2:3:64", "a:b:c:d", "1:2:3:4 "})
    EXPECT_FALSE(parse_fault(bad).ok()) << bad;
}

// A step run again from a sparse state must give what the first run committed to.
TEST(Provider, StatesMayBeSparse) {
  Random random(4);
  Task task = make_task(random, {2, 3, 3, 60}, CommitLevel::full);
  task.program.stop_value = -1;
  const Commitment truth = commit(task);
  const auto provider = make_provider(task, 1, std::nullopt, /*state_bytes=*/1);
  ok(provider->run());
  const Digest id = task_id(task), s = new_session();
  Digest previous = exchange_start(id, s, provider->key());
  uint64_t sequence = 0;
  for (const uint64_t step : {59, 0, 17, 16, 31}) {
    const Bytes request = encode_request({id, s, sequence++, previous, AskStep{step}});
    const SignedAnswer answer = ok(provider->answer(request));
    previous = exchange_next(previous, request, answer.reply);
    const auto opening = std::get<StepOpening>(ok(decode_reply(answer.reply, "reply")));
    EXPECT_EQ(
        step_record(step, opening.previous, task.level,
                    static_cast<uint32_t>(task.program.graph.nodes.size()), opening.body_root),
        truth.records[step]);
  }
}

TEST(Provider, SignsOneAnswerForAPlace) {
  Random random(4);
  const Task task = make_task(random, {}, CommitLevel::full);
  const auto provider = make_provider(task, 1);
  const Digest id = task_id(task), s = new_session();
  const Digest start = exchange_start(id, s, provider->key());
  const Bytes request = encode_request({id, s, 0, start, AskCommit{}});
  const SignedAnswer first = ok(provider->answer(request)), again = ok(provider->answer(request));
  EXPECT_EQ(first.reply, again.reply);
  EXPECT_EQ(first.signature.bytes, again.signature.bytes);
  EXPECT_FALSE(provider->answer(encode_request({id, s, 0, start, AskReveal{}})).ok());
  EXPECT_FALSE(provider->answer(encode_request({id, s, 2, start, AskReveal{}})).ok());
  EXPECT_FALSE(provider->answer(encode_request({id, s, 1, start, AskReveal{}})).ok());
  EXPECT_FALSE(provider->answer(encode_request({session(1), s, 1, start, AskReveal{}})).ok());
  EXPECT_FALSE(provider->answer({}).ok());
}

// A referee of one provider, by hand.
class Asking {
 public:
  explicit Asking(Provider& provider)
      : provider_(provider),
        session_(new_session()),
        previous_(exchange_start(provider.task(), session_, provider.key())) {}
  Status ask(const Question& question) {
    const Bytes request =
        encode_request({provider_.task(), session_, sequence_, previous_, question});
    VB_ASSIGN(const SignedAnswer answer, provider_.answer(request));
    previous_ = exchange_next(previous_, request, answer.reply);
    ++sequence_;
    return {};
  }

 private:
  Provider& provider_;
  Digest session_, previous_;
  uint64_t sequence_ = 0;
};

std::unique_ptr<Provider> provider_with_lease(const Task& task, std::chrono::milliseconds lease) {
  ProviderOptions options;
  options.lease = lease;
  return ok(Provider::create(task, task.program, make_reference_backend(), test_key(1), options));
}

TEST(Provider, NobodyCrowdsOutADisputeThatIsInUse) {
  Random random(4);
  const Task task = make_task(random, {}, CommitLevel::full);
  const auto provider = provider_with_lease(task, std::chrono::minutes(1));
  Asking referee(*provider);
  ok(referee.ask(AskCommit{}));
  for (size_t i = 1; i < kMaxSessions; ++i) ok(Asking(*provider).ask(AskCommit{}));
  const Status refused = Asking(*provider).ask(AskCommit{});
  EXPECT_EQ(refused.code(), StatusCode::busy);
  EXPECT_NE(refused.message().find("ask again in "), std::string::npos) << refused.message();
  EXPECT_TRUE(referee.ask(AskReveal{}).ok());
}

TEST(Provider, TheDisputeThatIsSilentLongestMakesRoom) {
  Random random(4);
  const Task task = make_task(random, {}, CommitLevel::full);
  const auto provider = provider_with_lease(task, std::chrono::milliseconds(0));
  Asking silent(*provider), used(*provider);
  ok(used.ask(AskCommit{}));
  ok(silent.ask(AskCommit{}));
  ok(used.ask(AskReveal{}));
  for (size_t i = 1; i < kMaxSessions; ++i) ok(Asking(*provider).ask(AskCommit{}));
  EXPECT_EQ(silent.ask(AskReveal{}).code(), StatusCode::unavailable);
  EXPECT_TRUE(used.ask(AskRecord{0}).ok());
}

TEST(Provider, RefusesTasksThatItCannotAnswerFor) {
  Random random(4);
  const Task task = make_task(random, {}, CommitLevel::full);
  Program other = task.program;
  other.max_steps += 1;
  EXPECT_FALSE(Provider::create(task, other, make_reference_backend(), test_key(1)).ok());
  Task later = task;
  later.semantics += 1;
  EXPECT_EQ(
      Provider::create(later, task.program, make_reference_backend(), test_key(1)).status().code(),
      StatusCode::unsupported);
  // A graph without the weights.
  const Task decoded = ok(decode_task(encode_task(task), "task"));
  EXPECT_FALSE(Provider::create(task, decoded.program, make_reference_backend(), test_key(1)).ok());
  EXPECT_TRUE(bind_weights(decoded.program, task.program.graph).ok());
  Random another(5);
  EXPECT_FALSE(bind_weights(decoded.program, make_program(another, {}).graph).ok());
  // Beyond the task's limits.
  Task tight = task;
  tight.limits.operations = 3;
  const auto provider =
      ok(Provider::create(tight, task.program, make_reference_backend(), test_key(1)));
  EXPECT_EQ(provider->run().code(), StatusCode::limit);
}

}  // namespace
}  // namespace verbatim::test
