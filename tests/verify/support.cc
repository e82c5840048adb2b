#include "support.h"

#include <algorithm>

#include <verbatim/core/philox.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim::test {

uint64_t Random::next() { return philox_u64(state_, counter_++, 0); }

Tensor Random::tensor(const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (float& v : values) v = real();
  return ok(Tensor::from<float>(shape, values));
}

namespace {

struct Builder {
  Random& random;
  ProgramSize size;
  GraphBuilder g;
  int made = 0;

  std::string name() { return "layer." + std::to_string(made++); }
  ValueId add(std::string_view op, std::string_view domain, std::vector<ValueId> in,
              Attributes attributes = {}) {
    return g.add(op, domain, std::move(in), std::move(attributes), name());
  }
  ValueId weight(const Shape& shape) {
    return g.constant("w" + std::to_string(made++), random.tensor(shape));
  }
  ValueId layer(ValueId x, ValueId other) {
    const int64_t c = size.columns;
    switch (random.below(6)) {
      case 0:
        return add("Linear", kVerbatimDomain, {x, weight({c, c}), weight({c})});
      case 1:
        return add("MatMul", "", {x, weight({c, c})});
      case 2:
        return add("Add", "", {x, other});
      case 3:
        return add("Mul", "", {x, weight({c})});
      case 4: {  // through a type whose elements are packed where they travel
        constexpr DType kPacked[] = {DType::i4, DType::u2, DType::f4e2m1};
        const auto to = [](DType d) { return Attributes{{"to", static_cast<int64_t>(d)}}; };
        return add("Cast", "", {add("Cast", "", {x}, to(kPacked[random.below(3)]))},
                   to(DType::f32));
      }
      default:
        return add("Tanh", "", {x});
    }
  }
};

}  // namespace

Program make_program(Random& random, const ProgramSize& size) {
  Builder b{random, size, {}};
  const int64_t c = size.columns;
  const ValueId state = b.g.input("state", DType::f32, {size.rows, c});
  const ValueId fixed = b.g.input("fixed", DType::f32, {size.rows, c});
  const ValueId past = b.g.input("past", DType::f32, {-1, c});
  ValueId x = b.add("Add", "", {state, fixed}), before = state;
  for (int i = 0; i < size.layers; ++i) {
    const ValueId next = b.layer(x, before);
    before = x;
    x = next;
  }
  const ValueId cache = b.add("Concat", "", {past, x}, {{"axis", int64_t{0}}});
  const ValueId scores = b.add("Gemm", "", {x, cache}, {{"transB", int64_t{1}}});
  x = b.add("Tanh", "", {b.add("MatMul", "", {b.add("Tanh", "", {scores}), cache})});
  const ValueId flat = b.add(
      "Reshape", "",
      {x, b.g.constant("flat", ok(Tensor::from<int64_t>(Shape{2}, std::vector<int64_t>{1, -1})))});
  const ValueId token =
      b.add("ArgMax", "", {flat}, {{"axis", int64_t{1}}, {"keepdims", int64_t{0}}});
  b.g.output("token", token);
  b.g.output("state", x);
  b.g.output("cache", cache);
  Program program;
  program.graph = ok(b.g.finish());
  program.graph.compute_roots();
  program.carries = {{1, 0}, {2, 2}};
  program.max_steps = size.max_steps;
  program.stop_output = 0;
  program.stop_value = static_cast<int64_t>(random.below(static_cast<uint64_t>(3 * size.rows * c)));
  return program;
}

Task make_task(Random& random, const ProgramSize& size, CommitLevel level) {
  Task task;
  task.level = level;
  task.model_name = "small";
  task.program = make_program(random, size);
  task.inputs = {random.tensor({size.rows, size.columns}), random.tensor({size.rows, size.columns}),
                 random.tensor({2, size.columns})};
  task.shown = {{"prompt", "line one\nline two"}, {"temperature", "0"}};
  task.nonce[0] = static_cast<std::byte>(random.below(256));
  ok(validate_task(task));
  return task;
}

std::array<std::byte, 32> seed(uint8_t n) {
  std::array<std::byte, 32> s{};
  s[0] = static_cast<std::byte>(n);
  return s;
}
SigningKey test_key(uint8_t n) { return ok(SigningKey::from_seed(seed(n))); }

uint64_t least(Task task, uint64_t NodeLimits::*limit) {
  uint64_t refused = 0, taken = 1 << 20;
  while (taken - refused > 1) {
    const uint64_t middle = refused + (taken - refused) / 2;
    task.limits.*limit = middle;
    (make_provider(task, 1)->run().ok() ? taken : refused) = middle;
  }
  return taken;
}

Digest session(uint8_t n) { return sha256(seed(n)); }
Digest new_session() {
  static uint32_t count = 0;
  Writer w;
  w.u32(count++);
  return tagged_hash("test.session", w.bytes());
}

std::unique_ptr<Provider> make_provider(const Task& task, uint8_t key, std::optional<Fault> fault,
                                        uint64_t state_bytes) {
  ProviderOptions options;
  options.fault = fault;
  options.state_bytes = state_bytes;
  return ok(Provider::create(task, task.program, make_reference_backend(), test_key(key), options));
}

Commitment commit(const Task& task, const Program& program, std::optional<Fault> fault) {
  Committer committer(program, task.level, task_id(task));
  RunOptions options;
  options.sink = &committer;
  if (fault)
    options.tamper = [&](uint64_t step, int32_t node, Tensors& outputs) {
      if (step == fault->step && node == fault->node)
        outputs[0] = ok(flip_bit(outputs[0], fault->element, fault->bit));
    };
  const auto backend = make_reference_backend();
  ok(run_program(program, *backend, task.inputs, options).status());
  return ok(committer.finish());
}

Result<SignedAnswer> LyingParty::ask(ByteView bytes) {
  const Request request = ok(decode_request(bytes, "request"));
  // The provider behind has a dispute of its own, in which it says the truth.
  if (request.sequence == 0) {
    inner_session_ = new_session();
    inner_sequence_ = 0;
    inner_previous_ = exchange_start(provider_.task(), inner_session_, provider_.key());
  }
  const Bytes inner = encode_request(
      {provider_.task(), inner_session_, inner_sequence_++, inner_previous_, request.question});
  const SignedAnswer truth = ok(provider_.answer(inner));
  inner_previous_ = exchange_next(inner_previous_, inner, truth.reply);
  Reply reply = change_(request, ok(decode_reply(truth.reply, "reply")));
  Bytes encoded = encode_reply(reply);
  if (mangle) {
    Result<Bytes> mangled = mangle(request.question, encoded);
    if (!mangled.ok()) return mangled.status();
    encoded = *std::move(mangled);
  }
  const Digest digest =
      answer_digest(request.task, key(), request.sequence, request.previous, bytes, encoded);
  SignedAnswer answer{encoded, ok(key_.sign(digest.bytes))};
  if (after) after(answer);
  return answer;
}

LyingParty::Change forged_records(const Task& task, const PublicKey& key,
                                  std::vector<Digest> records, uint64_t steps,
                                  std::vector<Digest> outputs) {
  const std::vector<Digest> leaves = record_leaves(records, task.program.max_steps);
  const Digest id = task_id(task), root = merkle_root(leaves);
  std::vector<OutputRoot> named;
  for (size_t i = 0; i < outputs.size(); ++i)
    named.push_back({task.program.graph.outputs[i].name, outputs[i]});
  const Digest result = final_root(id, steps, root, named);
  return [=](const Request& request, Reply reply) -> Reply {
    const Question& question = request.question;
    if (std::holds_alternative<AskCommit>(question))
      return Committed{commit_hash(key, id, request.session, seed(9), result, steps)};
    if (std::holds_alternative<AskReveal>(question)) return Revealed{seed(9), steps, root, outputs};
    if (const auto* q = std::get_if<AskChildren>(&question);
        q != nullptr && q->tree.kind == TreeName::Kind::records)
      return Children{walk_hashes(leaves, q->node)};
    if (const auto* q = std::get_if<AskRecord>(&question))
      return Record{leaves[q->step], merkle_proof(leaves, q->step)};
    return reply;
  };
}

}  // namespace verbatim::test
