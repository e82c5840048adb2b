// A provider: runs one task, commits to the result, and answers a referee's questions about any
// step of it.
//
//   VB_ASSIGN(Program program, bind_weights(task.program, model_graph));
//   VB_ASSIGN(auto provider, Provider::create(task, std::move(program), make_reference_backend(),
//   key)); VB_ASSIGN(SignedAnswer answer, provider->answer(request_bytes));
//
// It keeps step records and sparse states, and runs a step again to answer questions about its
// inside. One answer is signed for each place of a dispute: the last request again gets the same
// answer, another request in that place gets none.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <verbatim/core/signature.h>
#include <verbatim/repops/backend.h>
#include <verbatim/verify/committer.h>
#include <verbatim/verify/fault.h>
#include <verbatim/verify/protocol.h>
#include <verbatim/verify/task.h>

namespace verbatim {

// The task's program with the weights that `model` holds, found by their roots
// (model.compute_roots() done). Errors: a weight that the model lacks, or a program without any: it
// is none of this model's.
Result<Program> bind_weights(const Program& program, const Graph& model);

struct ProviderOptions {
  std::optional<Fault> fault;
  NodeLimits limits;           // its own maxima, whatever the task allows
  std::function<bool()> stop;  // asked before each node, in any thread: true gives the run up
  uint64_t state_bytes = uint64_t{512} << 20;  // kept states; beyond it they get sparser
  uint64_t value_bytes = uint64_t{512} << 20;  // kept values of one step; others are computed anew
  // All tensors of the run at once; more is refused. Answering for a run that was committed to takes
  // no more than that and value_bytes and one value: who could commit can defend it.
  uint64_t live_bytes = uint64_t{8} << 30;
  // How long a dispute may be silent and is still kept, whoever else asks.
  std::chrono::milliseconds lease = std::chrono::minutes(10);
};

// Of code busy: "WHAT; ask again in 12 s".
Status busy_for(const std::string& what, std::chrono::nanoseconds wait);

inline constexpr size_t kMaxSessions = 1024;  // disputes over one task; each takes some 500 bytes

class Provider {
 public:
  // Refuses a task of another semantics version, and a program that is not the task's. `backend`
  // runs under the limits of the task and of `options`.
  static Result<std::unique_ptr<Provider>> create(Task task, Program program,
                                                  std::unique_ptr<Backend> backend, SigningKey key,
                                                  ProviderOptions options = {});

  ~Provider();

  const PublicKey& key() const { return key_.public_key(); }
  const Digest& task() const { return task_id_; }

  // Runs the program, if that was not done; answer() does it when it must. Safe to call from
  // another thread.
  Status run();
  // Errors (unsigned) for what is not a request in its place, and of code busy for a new dispute
  // while kMaxSessions others are in use; whatever else goes wrong is a signed Refusal.
  Result<SignedAnswer> answer(ByteView request);

 private:
  struct StepDetails;  // one step, run again
  struct Session {     // one dispute
    Digest id;
    std::array<std::byte, 32> salt{};
    std::chrono::steady_clock::time_point used;
    uint64_t sequence = 0;  // answers signed so far
    Digest previous;
    // The last answer, which can be given again. Its bytes are not kept: they follow from the
    // question, and may be large.
    Bytes last_request;
    Digest last_reply;
    Signature last_signature;
  };
  Provider(Task task, Program program, std::unique_ptr<Backend> backend, SigningKey key,
           ProviderOptions options);

  Status run_locked();
  RunOptions run_options(TraceSink* sink);
  void keep_state(uint64_t step, const Tensors& state);
  Result<const StepDetails*> details(uint64_t step, ValueId wanted = kAbsent);
  Result<std::vector<Digest>> tree_leaves(const TreeName& tree);
  Result<Tensor> value(uint64_t step, uint32_t value);

  Result<Session*> session(const Request& request);
  Bytes reply(const Session& session, const Question& question);
  Result<Reply> reply_to(const Session& session, const AskCommit&);
  Result<Reply> reply_to(const Session& session, const AskReveal&);
  Result<Reply> reply_to(const Session&, const AskChildren& q);
  Result<Reply> reply_to(const Session&, const AskRecord& q);
  Result<Reply> reply_to(const Session&, const AskStep& q);
  Result<Reply> reply_to(const Session&, const AskNode& q);
  Result<Reply> reply_to(const Session&, const AskRecorded& q);
  Result<Reply> reply_to(const Session&, const AskTensor& q);

  std::mutex mutex_;
  Task task_;
  Digest task_id_;
  Program program_;
  std::shared_ptr<MemoryBudget> memory_;
  std::unique_ptr<Backend> backend_;
  SigningKey key_;
  ProviderOptions options_;
  std::optional<Executor> executor_;

  std::optional<Commitment> commitment_;
  Status run_status_;
  bool fault_done_ = false;
  Status fault_status_;
  std::map<uint64_t, Tensors> states_;  // inputs of a step
  uint64_t state_interval_ = 16;
  std::unique_ptr<StepDetails> details_;
  std::list<Session> sessions_;  // the latest used is last
};

}  // namespace verbatim
