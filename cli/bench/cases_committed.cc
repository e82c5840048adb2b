// A sentence model's run with the commitment that a dispute needs (docs/dispute.md) against the
// plain run. The committed one is what a provider does: a task's id, its limits on every node, a
// sink for step records, and the final root.
#include <verbatim/cli/bench/cases.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/verify/committer.h>
#include <verbatim/verify/limits.h>
#include <verbatim/verify/task.h>

namespace verbatim::bench {
namespace {

// A prepared model, one step of which is a run.
struct Run {
  Task task;
  std::unique_ptr<Backend> backend;
  std::optional<Executor> executor;
  Tensors outputs;
  Digest root;  // where it is committed

  Status prepare(std::unique_ptr<Backend> with) {
    backend = std::move(with);
    VB_ASSIGN(executor, Executor::create(task.program.graph, *backend));
    return {};
  }
  Status plain() {
    VB_ASSIGN(outputs, executor->run_step(0, task.inputs));
    return {};
  }
  Status committed() {
    Committer committer(task.program, task.level, task_id(task));
    RunOptions options;
    options.sink = &committer;
    VB_ASSIGN(outputs, executor->run_step(0, task.inputs, options));
    root = committer.finish().final_root;
    return {};
  }
};

Result<std::shared_ptr<Run>> create(const std::string& folder, CommitLevel level, int64_t texts,
                                    int64_t length) {
  VB_ASSIGN(const std::shared_ptr<const Model> model, load_model(folder));
  auto run = std::make_shared<Run>();
  VB_ASSIGN(run->task.program, model->embedding_program({}));
  VB_ASSIGN(run->task.inputs, random_tokens(*model, texts, length));
  run->task.program.graph.compute_roots();
  run->task.level = level;
  run->task.model_name = model->name();
  VB_TRY(validate_task(run->task));
  return run;
}

Result<Match> prepare(Backend& backend, const std::string& folder, CommitLevel level, int64_t texts,
                      int64_t length) {
  VB_ASSIGN(const auto plain, create(folder, level, texts, length));
  VB_ASSIGN(auto one, make_backend(backend.name()));
  VB_TRY(plain->prepare(std::move(one)));
  const auto committed = std::make_shared<Run>();
  committed->task = plain->task;
  VB_ASSIGN(auto other, make_backend(backend.name()));
  const EffectiveLimits limits{committed->task.limits, {}};
  VB_TRY(committed->prepare(limited(std::move(other), limits)));
  Match match;
  match.ours = {"Verbatim", "", std::string(backend.name()),
                [committed] { require(committed->committed()); }};
  match.peers = {
      {"plain run", "", std::string(backend.name()), [plain] { require(plain->plain()); }}};
  match.work = static_cast<double>(texts * length);
  match.unit = "tokens/s";
  match.check = [committed, plain]() -> Status {
    if (identical(committed->outputs[0], plain->outputs[0])) return {};
    return internal_error("the committed run gave another result");
  };
  return match;
}

}  // namespace

void add_committed_cases(std::vector<Case>& cases, const ModelFiles& files) {
  struct Size {
    int64_t texts, tokens;
  };
  for (const CommitLevel level : {CommitLevel::light, CommitLevel::full})
    for (const Size s : {Size{1, 16}, Size{1, 128}, Size{16, 128}})
      cases.push_back({"committed_" + std::string(name_of(level)),
                       "minilm " + shape_text({s.texts, s.tokens}), [=](Backend& backend) {
                         return prepare(backend, files.minilm, level, s.texts, s.tokens);
                       }});
}

}  // namespace verbatim::bench
