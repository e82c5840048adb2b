// A run with the commitment that a dispute needs (docs/dispute.md) against the plain run: of a
// sentence model, and of transformer layers whose weights are generated, which need no file and may
// be larger. The committed one is what a provider does: a task's id, its limits on every node, a
// sink for step records, and the final root.
#include <verbatim/cli/bench/cases.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/verify/committer.h>
#include <verbatim/verify/limits.h>
#include <verbatim/verify/task.h>

namespace verbatim::bench {
namespace {

// A prepared model.
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
  // All steps; what the last one gives, on the host.
  Status run(const RunOptions& options) {
    Tensors state = task.inputs;
    for (uint64_t step = 0; step < task.program.max_steps; ++step) {
      VB_ASSIGN(outputs, executor->run_step_in_place(step, state, options));
      for (const Carry& carry : task.program.carries) state[carry.input] = outputs[carry.output];
    }
    for (Tensor& t : outputs) {
      VB_ASSIGN(t, t.on_host());
    }
    return {};
  }
  Status plain() { return run({}); }
  Status committed() {
    Committer committer(task.program, task.level, [this] { return task_id(task); });
    RunOptions options;
    options.sink = &committer;
    VB_TRY(run(options));
    VB_ASSIGN(const Commitment commitment, committer.finish());
    root = commitment.final_root;
    return {};
  }
};

// Whose program and inputs are there.
Result<Task> task_of(Task task, CommitLevel level, std::string name) {
  task.program.graph.compute_roots();
  task.level = level;
  task.model_name = std::move(name);
  VB_TRY(validate_task(task));
  return task;
}

Result<Task> sentence_task(const std::string& folder, CommitLevel level, int64_t texts,
                           int64_t length) {
  VB_ASSIGN(const std::shared_ptr<const Model> model, load_model(folder));
  Task task;
  VB_ASSIGN(task.program, model->embedding_program({}));
  VB_ASSIGN(task.inputs, random_tokens(*model, texts, length));
  return task_of(std::move(task), level, model->name());
}

struct LayersSize {
  int64_t layers, tokens, width;
  DType type;
  uint32_t steps = 1;  // each takes what the one before gives

  std::string text() const {
    return shape_text({layers, tokens, width}) + " " + std::string(name_of(type)) +
           (steps > 1 ? ", " + std::to_string(steps) + " steps" : "");
  }
};

// A transformer's encoder of generated weights, all of whose values are of one type: bfloat16 by
// tensor cores, float32 by others.
class LayersBuilder {
 public:
  explicit LayersBuilder(const LayersSize& size) : size_(size) {}

  Result<Task> build(CommitLevel level) {
    ValueId x = graph_.input("x", size_.type, {1, size_.tokens, size_.width});
    for (int64_t i = 0; i < size_.layers; ++i) x = layer(x);
    graph_.output("y", x);
    VB_TRY(std::move(error_));
    Task task;
    VB_ASSIGN(task.program.graph, graph_.finish());
    task.program.max_steps = size_.steps;
    if (size_.steps > 1) task.program.carries = {{0, 0}};
    VB_ASSIGN(const Tensor input, random_tensor(Shape{1, size_.tokens, size_.width}, 1));
    task.inputs.resize(1);
    VB_ASSIGN(task.inputs[0], rounded_to(size_.type, input));
    return task_of(std::move(task), level, "layers");
  }

 private:
  ValueId constant(const Shape& shape) {
    const Result<Tensor> t = [&]() -> Result<Tensor> {
      VB_ASSIGN(const Tensor numbers, random_tensor(shape, ++seed_));
      return rounded_to(size_.type, numbers);
    }();
    if (!t.ok()) {
      error_ = t.status();
      return kAbsent;
    }
    return graph_.constant("w" + std::to_string(seed_), *t);
  }
  ValueId product(ValueId x, int64_t in, int64_t out) {
    const ValueId w = constant(Shape{out, in});
    if (size_.type == DType::f32) return graph_.add("Linear", kVerbatimDomain, {x, w});
    return graph_.add("TensorCoreLinear", kVerbatimDomain, {x, w},
                      {{"output", static_cast<int64_t>(size_.type)}});
  }
  ValueId normalized_sum(ValueId x, ValueId y) {
    return graph_.add("LayerNormalization", "",
                      {graph_.add("Add", "", {x, y}), constant(Shape{size_.width})});
  }
  ValueId layer(ValueId x) {
    const int64_t n = size_.width;
    const ValueId q = product(x, n, n), k = product(x, n, n), v = product(x, n, n);
    const ValueId attended =
        graph_.add("Attention", kVerbatimDomain, {q, k, v}, {{"heads", n / 64}, {"scale", 0.125f}});
    const ValueId middle = normalized_sum(product(attended, n, n), x);
    const ValueId wide = graph_.add("Gelu", "", {product(middle, n, 4 * n)});
    return normalized_sum(product(wide, 4 * n, n), middle);
  }

  const LayersSize size_;
  GraphBuilder graph_;
  uint64_t seed_ = 1;
  Status error_;
};

Result<Match> prepare(Backend& backend, Task task, int64_t tokens) {
  const auto plain = std::make_shared<Run>(), committed = std::make_shared<Run>();
  plain->task = committed->task = std::move(task);
  VB_ASSIGN(auto one, make_backend(backend.name()));
  VB_TRY(plain->prepare(std::move(one)));
  VB_ASSIGN(auto other, make_backend(backend.name()));
  const EffectiveLimits limits{committed->task.limits, {}};
  VB_TRY(committed->prepare(limited(std::move(other), limits)));
  Match match;
  match.ours = {"Verbatim", "", std::string(backend.name()),
                [committed] { require(committed->committed()); }};
  match.peers = {
      {"plain run", "", std::string(backend.name()), [plain] { require(plain->plain()); }}};
  match.work = static_cast<double>(tokens);
  match.unit = "tokens/s";
  match.check = [committed, plain]() -> Status {
    if (identical(committed->outputs[0], plain->outputs[0])) return {};
    return internal_error("the committed run gave another result");
  };
  return match;
}

void add_sentence_cases(std::vector<Case>& cases, CommitLevel level, const std::string& folder) {
  struct Size {
    int64_t texts, tokens;
  };
  for (const Size s : {Size{1, 16}, Size{1, 128}, Size{16, 128}})
    cases.push_back({"committed_" + std::string(name_of(level)),
                     "minilm " + shape_text({s.texts, s.tokens}),
                     [=](Backend& backend) -> Result<Match> {
                       VB_ASSIGN(Task task, sentence_task(folder, level, s.texts, s.tokens));
                       return prepare(backend, std::move(task), s.texts * s.tokens);
                     }});
}

void add_layers_cases(std::vector<Case>& cases, CommitLevel level) {
  for (const LayersSize s :
       {LayersSize{6, 16, 384, DType::f32}, LayersSize{6, 128, 384, DType::f32},
        LayersSize{6, 16, 384, DType::f32, 16}, LayersSize{4, 512, 1024, DType::f32},
        LayersSize{4, 512, 1024, DType::bf16}, LayersSize{4, 512, 1024, DType::bf16, 16},
        LayersSize{4, 2048, 4096, DType::bf16}})
    cases.push_back({"committed_" + std::string(name_of(level)), "layers " + s.text(),
                     [=](Backend& backend) -> Result<Match> {
                       if (s.type != DType::f32 && backend.name() != "cuda")
                         return unavailable("for tensor cores");
                       VB_ASSIGN(Task task, LayersBuilder(s).build(level));
                       return prepare(backend, std::move(task), s.tokens * s.steps);
                     }});
}

}  // namespace

void add_committed_cases(std::vector<Case>& cases, const ModelFiles& files) {
  for (const CommitLevel level : {CommitLevel::light, CommitLevel::full}) {
    add_sentence_cases(cases, level, files.minilm);
    add_layers_cases(cases, level);
  }
}

}  // namespace verbatim::bench
