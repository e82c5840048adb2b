// A receipt: what was computed, from what, and the roots that a verifier checks it against.
//
//   Receipt receipt = make_receipt(task, committer.finish());
//   VB_TRY(sign_receipt(receipt, key));                                  // optional
//   VB_TRY(write_receipt("run.receipt", receipt));
//
//   VB_ASSIGN(Receipt receipt, read_receipt("run.receipt"));
//   ReceiptReport quick = validate_receipt(receipt);                     // structure, hashes,
//   signature ReceiptReport full = verify_receipt(receipt, program, inputs, *backend);  // runs the
//   program again
//
// Every field is bound: the header by the task id, the task id, steps and outputs by the final
// root, all of it by the signature where there is one. Layout: docs/formats.md.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <verbatim/core/signature.h>
#include <verbatim/repops/backend.h>
#include <verbatim/verify/committer.h>
#include <verbatim/verify/task.h>

namespace verbatim {

struct ReceiptSignature {
  PublicKey key;
  Signature signature;
};

struct Receipt {
  TaskHeader task;
  uint64_t steps = 0;
  Digest records_root;
  std::vector<OutputRoot> outputs;
  Digest final_root;
  std::optional<ReceiptSignature> signed_by;
};

Receipt make_receipt(const Task& task, const Commitment& commitment);
Status sign_receipt(Receipt& receipt, const SigningKey& key);

Bytes encode_receipt(const Receipt& receipt);
Result<Receipt> decode_receipt(ByteView bytes, const std::string& source);
Status write_receipt(const std::string& path, const Receipt& receipt);
Result<Receipt> read_receipt(const std::string& path);

enum class ReceiptOutcome : uint8_t { verified, refuted, no_verdict };
std::string_view name_of(ReceiptOutcome outcome);  // "VERIFIED", "REFUTED", "NO_VERDICT"

struct ReceiptReport {
  ReceiptOutcome outcome = ReceiptOutcome::no_verdict;
  std::string reason;  // one sentence; empty where verified
  std::vector<std::string> checked, not_checked;
};

// The receipt on its own: nothing is recomputed.
ReceiptReport validate_receipt(const Receipt& receipt);

// Runs `program` (weights loaded, roots computed) on `inputs` and compares. A program, model root
// or inputs other than the receipt's give no_verdict: then the receipt was not tried. Without a
// model root the receipt's model name and root are listed as not checked; the weights themselves
// are bound by the program in any case. `inputs_from_shown`: the caller made program and inputs
// from the receipt's shown texts and nothing else, so that they are checked too.
ReceiptReport verify_receipt(const Receipt& receipt, const Program& program,
                             std::span<const Tensor> inputs, Backend& backend,
                             const std::optional<Digest>& model_root = std::nullopt,
                             bool inputs_from_shown = false);

}  // namespace verbatim
