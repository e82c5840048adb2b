// Tasks, receipts, messages and verdicts as bytes.
#include <gtest/gtest.h>

#include <algorithm>

#include <verbatim/verify/protocol.h>
#include <verbatim/verify/receipt.h>
#include <verbatim/verify/task.h>
#include <verbatim/verify/verdict.h>

#include "strict.h"
#include "support.h"

namespace verbatim::test {
namespace {

Task small_task() {
  Random random(7);
  return make_task(random, {2, 3, 2, 5}, CommitLevel::full);
}

TEST(Task, DecodingIsStrict) {
  const Bytes bytes = encode_task(small_task());
  expect_strict(bytes, 3, [](const Bytes& b, Bytes& out) {
    const Result<Task> task = decode_task(b, "task");
    if (task.ok()) out = encode_task(*task);
    return task.ok();
  });
}

TEST(Task, IdBindsEveryByte) {
  const Task task = small_task();
  const Bytes bytes = encode_task(task);
  const Digest id = task_id(task);
  ASSERT_EQ(task_id(ok(decode_task(bytes, "task"))), id);
  size_t accepted = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    Bytes other = bytes;
    other[i] ^= std::byte{1};
    const Result<Task> changed = decode_task(other, "task");
    if (!changed.ok()) continue;
    ++accepted;
    EXPECT_NE(task_id(*changed), id) << "byte " << i;
  }
  EXPECT_GT(accepted, 100u);
}

TEST(Task, SaysWhatIsWrong) {
  Task task = small_task();
  task.shown = {{"b", ""}, {"a", ""}};
  EXPECT_FALSE(validate_task(task).ok());
  task.shown = {{"a\x1b[2J", ""}};
  EXPECT_FALSE(validate_task(task).ok());
  task = small_task();
  task.inputs.pop_back();
  EXPECT_FALSE(validate_task(task).ok());
  task = small_task();
  task.program.max_steps = kMaxSteps + 1;
  EXPECT_EQ(validate_task(task).code(), StatusCode::limit);
  const Status status = decode_task(as_bytes("VBTASK1\n\1"), "x.vtask").status();
  EXPECT_NE(status.message().find("x.vtask"), std::string::npos);
  EXPECT_NE(status.message().find("byte 8"), std::string::npos) << status.message();
}

TEST(Receipt, DecodingIsStrict) {
  const Task task = small_task();
  Receipt receipt = make_receipt(task, commit(task));
  const auto round_trip = [](const Bytes& b, Bytes& out) {
    const Result<Receipt> r = decode_receipt(b, "receipt");
    if (r.ok()) out = encode_receipt(*r);
    return r.ok();
  };
  expect_strict(encode_receipt(receipt), 1, round_trip);
  ok(sign_receipt(receipt, test_key(1)));
  expect_strict(encode_receipt(receipt), 1, round_trip);
}

// Every byte of a receipt is bound, signed or not.
TEST(Receipt, ValidatingRefusesEveryChange) {
  const Task task = small_task();
  for (const bool sign : {false, true}) {
    Receipt receipt = make_receipt(task, commit(task));
    if (sign) ok(sign_receipt(receipt, test_key(1)));
    EXPECT_EQ(validate_receipt(receipt).outcome, ReceiptOutcome::verified);
    const Bytes bytes = encode_receipt(receipt);
    for (size_t i = 0; i < bytes.size(); ++i) {
      Bytes other = bytes;
      other[i] ^= std::byte{4};
      const Result<Receipt> changed = decode_receipt(other, "receipt");
      if (!changed.ok()) continue;
      EXPECT_EQ(validate_receipt(*changed).outcome, ReceiptOutcome::refuted) << "byte " << i;
    }
  }
}

TEST(Receipt, VerifyingRunsTheProgramAgain) {
  for (const CommitLevel level : {CommitLevel::full, CommitLevel::light}) {
    Task task = small_task();
    task.level = level;
    const auto backend = make_reference_backend();
    const Commitment truth = commit(task);
    const Receipt receipt = make_receipt(task, truth);
    const ReceiptReport good = verify_receipt(receipt, task.program, task.inputs, *backend);
    EXPECT_EQ(good.outcome, ReceiptOutcome::verified) << good.reason;
    EXPECT_EQ(verify_receipt(receipt, task.program, task.inputs, *backend, task.model_root).outcome,
              ReceiptOutcome::verified);

    Commitment lie = truth;
    lie.outputs[1].root = session(3);
    lie.final_root = final_root(task_id(task), lie.steps, lie.records_root, lie.outputs);
    const ReceiptReport bad =
        verify_receipt(make_receipt(task, lie), task.program, task.inputs, *backend);
    EXPECT_EQ(bad.outcome, ReceiptOutcome::refuted);
    EXPECT_NE(bad.reason.find("'state'"), std::string::npos) << bad.reason;

    // Another program, other inputs or another model: not tried, so neither right nor wrong.
    Program other = task.program;
    other.stop_value += 1;
    EXPECT_EQ(verify_receipt(receipt, other, task.inputs, *backend).outcome,
              ReceiptOutcome::no_verdict);
    Tensors inputs = task.inputs;
    inputs[0] = ok(flip_bit(inputs[0], 0, 0));
    EXPECT_EQ(verify_receipt(receipt, task.program, inputs, *backend).outcome,
              ReceiptOutcome::no_verdict);
    EXPECT_EQ(verify_receipt(receipt, task.program, task.inputs, *backend, session(1)).outcome,
              ReceiptOutcome::no_verdict);
  }
}

TEST(Receipt, SaysWhetherTheInputsAreTheShownTexts) {
  const Task task = small_task();
  const auto backend = make_reference_backend();
  const Receipt receipt = make_receipt(task, commit(task));
  const auto report = [&](bool from_shown) {
    return verify_receipt(receipt, task.program, task.inputs, *backend, task.model_root,
                          from_shown);
  };
  const auto mentions = [](const std::vector<std::string>& lines) {
    return std::ranges::any_of(lines, [](const std::string& line) {
      return line.find("the inputs are the shown texts") != std::string::npos;
    });
  };
  EXPECT_TRUE(mentions(report(false).not_checked) && !mentions(report(false).checked));
  EXPECT_TRUE(mentions(report(true).checked) && !mentions(report(true).not_checked));
  EXPECT_TRUE(report(true).not_checked.size() == 1);  // nobody signed it
}

// A run on tensors or on audio has no texts to speak of; who has the inputs compares their roots.
TEST(Receipt, SpeaksOfTextsWhereThereAreSome) {
  Task task = small_task();
  task.shown = {{"precision", "fp32"}};
  const auto backend = make_reference_backend();
  const Receipt receipt = make_receipt(task, commit(task));
  const auto text = [](const ReceiptReport& report) {
    std::string all;
    for (const auto* lines : {&report.checked, &report.not_checked})
      for (const std::string& line : *lines) all += line + "\n";
    return all;
  };
  const std::string alone = text(validate_receipt(receipt));
  EXPECT_EQ(alone.find("shown texts"), std::string::npos) << alone;
  EXPECT_NE(alone.find("what the inputs are"), std::string::npos) << alone;
  const std::string verified =
      text(verify_receipt(receipt, task.program, task.inputs, *backend, task.model_root));
  EXPECT_EQ(verified.find("text"), std::string::npos) << verified;
  EXPECT_NE(verified.find("program, weights and inputs are the receipt's"), std::string::npos);
}

TEST(Protocol, RequestsDecodeStrictly) {
  const std::vector<Question> questions = {AskCommit{},
                                           AskReveal{},
                                           AskChildren{{TreeName::Kind::records, 0, 0}, {0, 16}},
                                           AskChildren{{TreeName::Kind::leaves, 3, 7}, {2, 5}},
                                           AskRecord{4},
                                           AskStep{5},
                                           AskNode{6, 7},
                                           AskRecorded{8, 9},
                                           AskTensor{10, 11, 12, kMaxTensorPart}};
  for (const Question& q : questions) {
    const Bytes bytes = encode_request({session(1), session(2), 3, session(4), q});
    EXPECT_LE(bytes.size(), kMaxRequestBytes);
    expect_strict(bytes, 1, [](const Bytes& b, Bytes& out) {
      const Result<Request> r = decode_request(b, "request");
      if (r.ok()) out = encode_request(*r);
      return r.ok();
    });
  }
}

TEST(Protocol, RepliesDecodeStrictly) {
  const Digest a = session(1), b = session(2);
  const std::vector<Reply> replies = {Refusal{"no"},
                                      Committed{a},
                                      Revealed{seed(1), 5, a, {a, b}},
                                      Children{{a, b}},
                                      Record{a, {b, b}},
                                      StepOpening{a, b, b},
                                      NodeOpening{{a}, {b, a}, {b}},
                                      Recorded{a, {}},
                                      TensorPart{DType::f32, Shape{2, 3}, a, Bytes(24)}};
  for (const Reply& reply : replies) {
    expect_strict(encode_reply(reply), 1, [](const Bytes& bytes, Bytes& out) {
      const Result<Reply> r = decode_reply(bytes, "reply");
      if (r.ok()) out = encode_reply(*r);
      return r.ok();
    });
  }
}

TEST(Protocol, RefusesTerminalEscapesAndHugeShapes) {
  Writer w;
  w.u8(0);
  w.blob(as_bytes("\x1b[2Jgone"));
  EXPECT_FALSE(decode_reply(w.bytes(), "reply").ok());
  Writer huge;
  huge.u8(8);
  huge.u8(static_cast<uint8_t>(DType::f64));
  huge.u8(2);
  huge.i64(int64_t{1} << 31);
  huge.i64(int64_t{1} << 31);
  huge.raw(session(1).bytes);
  huge.blob({});
  EXPECT_FALSE(decode_reply(huge.bytes(), "reply").ok());
}

Verdict sample_verdict() {
  Verdict v;
  v.outcome = DisputeOutcome::settled;
  v.winners = {0, 2};
  v.result = session(1);
  Where where{0,         87,         "Linear encoder.layer.3.output.dense",
              0,         DType::f32, Shape{8, 384},
              5,         1920,       "3f800000",
              "3f800001"};
  v.refuted = {{1, "its output is not what the operator computes from the agreed inputs", where}};
  v.forfeited = {{3, "it did not answer in time", std::nullopt}};
  v.cost = {100, 10, 3000, 1};
  return v;
}

TEST(Verdict, DecodesStrictly) {
  expect_strict(encode_verdict(sample_verdict()), 1, [](const Bytes& b, Bytes& out) {
    const Result<Verdict> v = decode_verdict(b, "verdict");
    if (v.ok()) {
      out = encode_verdict(*v);
      (void)explain(*v, {});  // whatever decodes can be said
    }
    return v.ok();
  });
  EXPECT_EQ(ok(decode_verdict(encode_verdict(sample_verdict()), "verdict")), sample_verdict());
}

TEST(Verdict, IsExplainedInSentences) {
  const std::vector<std::string> names = {"a:1", "b:2", "c:3", "d:4"};
  const std::vector<std::string> lines = explain(sample_verdict(), names);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0],
            "Provider 2 (b:2) is refuted: in step 0, node 87 (Linear "
            "encoder.layer.3.output.dense), output 0 float32 [8, 384], "
            "tile 5 (row 5, columns 0 to 383), element 1920 is claimed to be 0x3f800000 and "
            "computes to 0x3f800001: its output is "
            "not what the operator computes from the agreed inputs.");
  EXPECT_NE(lines[1].find("Provider 4 (d:4) forfeits"), std::string::npos);
  EXPECT_EQ(lines[2], "Provider 1 (a:1) and Provider 3 (c:3) are not refuted.");
}

}  // namespace
}  // namespace verbatim::test
