#include <verbatim/verify/receipt.h>

#include <algorithm>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

constexpr std::string_view kMagic = "VBRCPT1\n";
constexpr size_t kMaxReceiptBytes = size_t{72} << 20, kMaxHeader = size_t{68} << 20;
constexpr size_t kMaxName = 4096;
constexpr uint32_t kMaxOutputs = 1 << 16;
constexpr std::string_view kShownUnchecked = "that the inputs are the shown texts";
constexpr std::string_view kNothingShown =
    "what the inputs are: the receipt shows no text, only their roots";

// Whether what is shown holds texts from which inputs are made, as `embed`, `generate` and `train`
// name them; a `run` on tensors or on audio shows settings alone.
bool shows_texts(const TaskHeader& task) {
  return std::ranges::any_of(task.shown, [](const Shown& s) {
    return s.name == "prompt" || s.name == "training_text" || s.name.starts_with("text ");
  });
}

Bytes signed_part(const Receipt& receipt) {
  Writer w;
  w.raw(as_bytes(kMagic));
  Writer header;
  encode_task_header(header, receipt.task);
  w.blob(header.bytes());
  w.u64(receipt.steps);
  w.raw(receipt.records_root.bytes);
  w.u32(static_cast<uint32_t>(receipt.outputs.size()));
  for (const OutputRoot& out : receipt.outputs) {
    w.text(out.name);
    w.raw(out.root.bytes);
  }
  w.raw(receipt.final_root.bytes);
  return w.take();
}

Digest signing_digest(const Receipt& receipt, const PublicKey& key) {
  Writer w;
  w.raw(key.bytes);
  w.raw(signed_part(receipt));
  return tagged_hash("verbatim.receipt.1", w.bytes());
}

ReceiptReport& fail(ReceiptReport& report, ReceiptOutcome outcome, std::string reason) {
  report.outcome = outcome;
  report.reason = std::move(reason);
  return report;
}

// Why `program` and `inputs` are not those of the receipt; empty where they are.
std::string mismatch(const Receipt& receipt, const Program& program,
                     std::span<const Tensor> inputs) {
  if (program_digest(program) != receipt.task.program_root)
    return "the program is not the receipt's: another model, precision or setting";
  if (inputs.size() != receipt.task.inputs.size())
    return "the receipt has " + std::to_string(receipt.task.inputs.size()) + " inputs, " +
           std::to_string(inputs.size()) + " are given";
  for (size_t i = 0; i < inputs.size(); ++i)
    if (tensor_root(inputs[i]) != receipt.task.inputs[i].root)
      return "input '" + receipt.task.inputs[i].name + "' is not the receipt's";
  return {};
}

std::string first_difference(const Receipt& receipt, const Commitment& truth) {
  if (truth.steps != receipt.steps)
    return "the program takes " + std::to_string(truth.steps) + " steps, the receipt says " +
           std::to_string(receipt.steps);
  for (size_t i = 0; i < truth.outputs.size(); ++i) {
    if (i >= receipt.outputs.size() || receipt.outputs[i].name != truth.outputs[i].name)
      return "the receipt's outputs are not the program's";
    if (receipt.outputs[i].root != truth.outputs[i].root)
      return "output '" + truth.outputs[i].name + "' is not what the program computes";
  }
  return "the outputs are right, but a value on the way to them is not what the program computes";
}

}  // namespace

std::string_view name_of(ReceiptOutcome outcome) {
  switch (outcome) {
    case ReceiptOutcome::verified:
      return "VERIFIED";
    case ReceiptOutcome::refuted:
      return "REFUTED";
    case ReceiptOutcome::no_verdict:
      break;
  }
  return "NO_VERDICT";
}

Receipt make_receipt(const Task& task, const Commitment& commitment) {
  return {task_header(task),  commitment.steps,      commitment.records_root,
          commitment.outputs, commitment.final_root, std::nullopt};
}

Status sign_receipt(Receipt& receipt, const SigningKey& key) {
  VB_ASSIGN(const Signature signature, key.sign(signing_digest(receipt, key.public_key()).bytes));
  receipt.signed_by = ReceiptSignature{key.public_key(), signature};
  return {};
}

Bytes encode_receipt(const Receipt& receipt) {
  Writer w;
  w.raw(signed_part(receipt));
  w.u8(receipt.signed_by.has_value());
  if (receipt.signed_by) {
    w.raw(receipt.signed_by->key.bytes);
    w.raw(receipt.signed_by->signature.bytes);
  }
  return w.take();
}

Result<Receipt> decode_receipt(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  Receipt receipt;
  VB_ASSIGN(const ByteView magic, r.raw(kMagic.size()));
  if (as_chars(magic) != kMagic) return bad_input_at(source, 0, "not a receipt");
  VB_ASSIGN(const ByteView header, r.blob(kMaxHeader));
  Reader header_reader(header, source + ": task header");
  VB_ASSIGN(receipt.task, decode_task_header(header_reader));
  VB_TRY(header_reader.finish());
  VB_ASSIGN(receipt.steps, r.u64());
  VB_ASSIGN(receipt.records_root, read_digest(r));
  VB_ASSIGN(const uint32_t outputs, r.count(36, kMaxOutputs));
  for (uint32_t i = 0; i < outputs; ++i) {
    OutputRoot out;
    VB_ASSIGN(out.name, r.text(kMaxName));
    VB_ASSIGN(out.root, read_digest(r));
    receipt.outputs.push_back(std::move(out));
  }
  VB_ASSIGN(receipt.final_root, read_digest(r));
  VB_ASSIGN(const uint8_t is_signed, r.u8());
  if (is_signed > 1) return r.fail("a flag that is neither 0 nor 1");
  if (is_signed) {
    ReceiptSignature s;
    VB_ASSIGN(const ByteView key, r.raw(s.key.bytes.size()));
    VB_ASSIGN(const ByteView signature, r.raw(s.signature.bytes.size()));
    std::ranges::copy(key, s.key.bytes.begin());
    std::ranges::copy(signature, s.signature.bytes.begin());
    receipt.signed_by = s;
  }
  VB_TRY(r.finish());
  return receipt;
}

Status write_receipt(const std::string& path, const Receipt& receipt) {
  return write_file(path, encode_receipt(receipt));
}

Result<Receipt> read_receipt(const std::string& path) {
  VB_ASSIGN(const Bytes bytes, read_file(path, kMaxReceiptBytes));
  return decode_receipt(bytes, path);
}

ReceiptReport validate_receipt(const Receipt& receipt) {
  ReceiptReport report;
  report.not_checked = {"that the program gives these outputs: verify with the model and inputs",
                        std::string(shows_texts(receipt.task) ? kShownUnchecked : kNothingShown)};
  if (receipt.steps == 0 || receipt.steps > receipt.task.max_steps)
    return fail(report, ReceiptOutcome::refuted,
                std::to_string(receipt.steps) + " steps of a program that has 1 to " +
                    std::to_string(receipt.task.max_steps));
  if (final_root(task_id(receipt.task), receipt.steps, receipt.records_root, receipt.outputs) !=
      receipt.final_root)
    return fail(report, ReceiptOutcome::refuted, "the final root does not bind the other fields");
  report.checked = {"structure", "final root binds task, steps and outputs"};
  if (!receipt.signed_by) {
    report.not_checked.push_back("who made it: the receipt is not signed");
  } else if (verify_signature(receipt.signed_by->key,
                              signing_digest(receipt, receipt.signed_by->key).bytes,
                              receipt.signed_by->signature)) {
    report.checked.push_back("signature of " + to_hex(receipt.signed_by->key.bytes));
  } else {
    return fail(report, ReceiptOutcome::refuted, "the signature does not fit");
  }
  report.outcome = ReceiptOutcome::verified;
  return report;
}

ReceiptReport verify_receipt(const Receipt& receipt, const Program& program,
                             std::span<const Tensor> inputs, Backend& backend,
                             const std::optional<Digest>& model_root, bool inputs_from_shown) {
  ReceiptReport report = validate_receipt(receipt);
  if (report.outcome != ReceiptOutcome::verified) return report;
  if (receipt.task.semantics != kSemanticsVersion)
    return fail(report, ReceiptOutcome::no_verdict,
                "the receipt is of semantics version " + std::to_string(receipt.task.semantics) +
                    ", this build has version " + std::to_string(kSemanticsVersion));
  if (std::string why = mismatch(receipt, program, inputs); !why.empty())
    return fail(report, ReceiptOutcome::no_verdict, std::move(why));
  if (model_root && *model_root != receipt.task.model_root)
    return fail(report, ReceiptOutcome::no_verdict, "the model is not the receipt's");
  report.checked.push_back("program, weights and inputs are the receipt's");
  std::erase(report.not_checked, kNothingShown);
  if (inputs_from_shown) {
    std::erase(report.not_checked, kShownUnchecked);
    report.checked.push_back("the inputs are the shown texts");
  }
  if (model_root)
    report.checked.push_back("model root, tokenizer included");
  else
    report.not_checked.push_back("the model's name and root; the weights are bound by the program");

  Committer committer(program, receipt.task.level, task_id(receipt.task));
  RunOptions options;
  options.sink = &committer;
  const Result<RunResult> run = run_program(program, backend, inputs, options);
  if (!run.ok()) return fail(report, ReceiptOutcome::no_verdict, run.status().message());
  const Result<Commitment> finished = committer.finish();
  if (!finished.ok()) return fail(report, ReceiptOutcome::no_verdict, finished.status().message());
  const Commitment& truth = *finished;
  report.not_checked.erase(report.not_checked.begin());
  if (truth.final_root != receipt.final_root)
    return fail(report, ReceiptOutcome::refuted, first_difference(receipt, truth));
  report.checked.push_back(receipt.task.level == CommitLevel::full
                               ? "every value of every step, recomputed"
                               : "the outputs and the recorded values of every step, recomputed");
  return report;
}

}  // namespace verbatim
