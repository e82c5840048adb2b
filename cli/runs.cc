#include <verbatim/cli/runs.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <mutex>

#include <verbatim/cli/outputs.h>
#include <verbatim/core/file.h>
#include <verbatim/core/npy.h>
#include <verbatim/core/signature.h>
#include <verbatim/repops/models/lm_training.h>
#include <verbatim/repops/onnx/import.h>
#include <verbatim/verify/limits.h>
#include <verbatim/verify/receipt.h>
#include <verbatim/verify/trace.h>

namespace verbatim::cli {
namespace {

// Passes everything to each of several sinks.
class Fanout final : public TraceSink {
 public:
  void add(TraceSink* sink) { sinks_.push_back(sink); }
  bool empty() const { return sinks_.empty(); }
  Status on_node(uint64_t step, int32_t node, std::span<const Tensor> in,
                 std::span<const Tensor> out) override {
    for (TraceSink* s : sinks_) VB_TRY(s->on_node(step, node, in, out));
    return {};
  }
  Status on_step_end(uint64_t step, std::span<const Tensor> in,
                     std::span<const Tensor> out) override {
    for (TraceSink* s : sinks_) VB_TRY(s->on_step_end(step, in, out));
    return {};
  }

 private:
  std::vector<TraceSink*> sinks_;
};

// What the run costs: the measure that a referee's work is compared with, and counted as a
// referee's is.
class CountingBackend final : public Backend {
 public:
  explicit CountingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}
  std::string_view name() const override { return inner_->name(); }
  Status prepare(const Graph& graph) override { return inner_->prepare(graph); }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    return run_bodies(node, inputs, {});
  }
  Result<Tensors> run_bodies(const Node& node, std::span<const Tensor> inputs,
                             const Checkpoint& checkpoint) override {
    uint64_t spent = 0;
    VB_ASSIGN(Tensors outputs,
              run_limited(*inner_, {kAny, kAny}, node, inputs, checkpoint, nullptr, &spent));
    const std::scoped_lock lock(mutex_);
    operations = saturating_add(operations, spent);
    // An operator may give more outputs than the graph takes.
    for (size_t i = 0; i < std::min(outputs.size(), node.outputs.size()); ++i)
      bytes += outputs[i].defined() ? outputs[i].byte_size() : 0;
    return outputs;
  }
  uint64_t operations = 0, bytes = 0;

 private:
  static constexpr NodeLimits kAny{UINT64_MAX, UINT64_MAX, UINT64_MAX};
  const std::unique_ptr<Backend> inner_;
  std::mutex mutex_;
};

Result<Tensor> read_tensor(const std::string& path) {
  if (!path.ends_with(".pb")) return read_npy(path);
  VB_ASSIGN(const Bytes bytes, read_file(path, max_tensor_bytes()));
  return parse_onnx_tensor(bytes, path);
}

Result<std::map<std::string, Tensor>> read_inputs(const std::vector<std::string>& flags) {
  std::map<std::string, Tensor> tensors;
  for (const std::string& flag : flags) {
    const size_t equals = flag.find('=');
    if (equals == std::string::npos || equals == 0)
      return usage_error("--input takes NAME=FILE, not '" + printable(flag) + "'");
    VB_ASSIGN(Tensor t, read_tensor(flag.substr(equals + 1)));
    if (!tensors.emplace(flag.substr(0, equals), std::move(t)).second)
      return usage_error("input '" + printable(flag.substr(0, equals)) + "' is given twice");
  }
  return tensors;
}

// A number among the settings that a receipt shows. std::from_chars: the same in every locale.
template <class T>
Result<T> number(const std::map<std::string, std::string>& said, const std::string& name) {
  const auto it = said.find(name);
  T value{};
  if (it == said.end()) return bad_input("the receipt does not say '" + name + "'");
  const char *begin = it->second.data(), *end = begin + it->second.size();
  const auto [last, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || last != end)
    return bad_input("the receipt's '" + name + "' is not a number");
  return value;
}

}  // namespace

Result<Job> model_job(const Model& model, const RunFlags& flags,
                      const std::vector<std::string>& input_flags) {
  VB_ASSIGN(const Precision precision, parse_precision(flags.precision));
  VB_ASSIGN(const auto given, read_inputs(input_flags));
  Job job;
  job.model_name = model.name();
  job.shown = {{"precision", flags.precision}};
  if (model.kind() == ModelKind::silero && given.size() == 1 && given.contains("audio")) {
    VB_ASSIGN(job.program, model.speech_program(given.at("audio")));
    VB_ASSIGN(job.inputs, model.speech_inputs(given.at("audio")));
    return job;
  }
  VB_ASSIGN(job.program, model.program(precision));
  for (const GraphInput& in : job.program.graph.inputs) {
    const auto it = given.find(in.name);
    if (it == given.end())
      return usage_error("input '" + printable(in.name) + "' is missing: give --input " +
                         printable(in.name) + "=FILE");
    job.inputs.push_back(it->second);
  }
  for (const auto& [name, tensor] : given)
    if (std::ranges::none_of(job.program.graph.inputs,
                             [&](const GraphInput& in) { return in.name == name; }))
      return usage_error("the model has no input '" + printable(name) + "'");
  return job;
}

Result<Job> embedding_job(const Model& model, const RunFlags& flags,
                          const std::vector<std::string>& texts) {
  VB_ASSIGN(const Precision precision, parse_precision(flags.precision));
  Job job;
  VB_ASSIGN(job.program, model.embedding_program(precision));
  VB_ASSIGN(job.inputs, model.embedding_inputs(texts));
  job.model_name = model.name();
  job.shown = {{"precision", flags.precision}};
  for (size_t i = 0; i < texts.size(); ++i)
    job.shown.emplace_back("text " + std::to_string(i), texts[i]);
  return job;
}

Result<Job> generation_job(const Model& model, const RunFlags& flags, const GenerateFlags& g) {
  if (!std::isfinite(g.temperature) || !std::isfinite(g.top_p) || !std::isfinite(g.min_p))
    return usage_error("temperature, top-p and min-p must be numbers");
  GenerateSettings settings;
  settings.max_tokens = g.max_tokens;
  settings.sampling = {g.temperature, g.top_k, g.top_p, g.min_p, g.seed, 0};
  VB_ASSIGN(settings.precision, parse_precision(flags.precision));
  Job job;
  VB_ASSIGN(job.program, model.generation_program(settings));
  VB_ASSIGN(const std::vector<int64_t> prompt, model.prompt_tokens(g.prompt));
  VB_ASSIGN(job.inputs, model.generation_inputs(prompt, settings));
  job.model_name = model.name();
  job.shown = {{"max_tokens", std::to_string(g.max_tokens)},
               {"min_p", Json(g.min_p).dump()},
               {"precision", flags.precision},
               {"prompt", g.prompt},
               {"seed", std::to_string(g.seed)},
               {"temperature", Json(g.temperature).dump()},
               {"top_k", std::to_string(g.top_k)},
               {"top_p", Json(g.top_p).dump()}};
  return job;
}

std::vector<CLI::Option*> add_train_flags(CLI::App& command, TrainFlags& flags) {
  command.add_option("--text-file", flags.text_file, "UTF-8 text to learn")->type_name("FILE");
  return {
      command.add_option("--steps", flags.steps, "Steps, each on the next batch of the text")
          ->check(whole_number(1, kMaxSteps))
          ->capture_default_str(),
      command.add_option("--learning-rate", flags.learning_rate, "The same for every step")
          ->check(CLI::Range(0.0, 1e9))
          ->capture_default_str(),
      command.add_option("--optimizer", flags.optimizer, "sgd or adamw")
          ->check(CLI::IsMember({"sgd", "adamw"}))
          ->capture_default_str(),
      command.add_option("--batch", flags.batch, "Pieces of the text that a step learns together")
          ->check(whole_number(1, 1 << 16))
          ->capture_default_str(),
      command.add_option("--window", flags.window, "Tokens of a piece")
          ->check(whole_number(1, 1 << 20))
          ->capture_default_str(),
      command.add_option("--weight-decay", flags.weight_decay, "Decoupled (adamw) or added (sgd)")
          ->check(CLI::Range(0.0, 1e9)),
      command.add_option("--momentum", flags.momentum, "Of sgd, below 1")
          ->check(CLI::Range(0.0, 1.0)),
      command.add_option("--clip", flags.clip, "Greatest norm of all gradients together; 0: any")
          ->check(CLI::Range(0.0, 1e9))
          ->capture_default_str()};
}

Status check_train_flags(const TrainFlags& flags) {
  if (flags.optimizer != "sgd" && flags.momentum != 0)
    return usage_error("--momentum goes with --optimizer sgd, not with " + flags.optimizer);
  return {};
}

Result<std::string> read_text(const std::string& path) {
  constexpr size_t kMaxTextBytes = size_t{64} << 20;
  VB_ASSIGN(const Bytes bytes, read_file(path, kMaxTextBytes));
  const std::string text(as_chars(bytes));
  const size_t valid = valid_utf8_prefix(text);
  if (valid != text.size()) return bad_input_at(path, valid, "not UTF-8");
  return text;
}

Result<TrainingJob> training_job(const Model& model, const TrainFlags& f, const std::string& text) {
  if (model.kind() != ModelKind::llama)
    return usage_error(model.name() + " is not a language model (a Llama-type folder)");
  TrainingSettings s;
  s.optimizer = f.optimizer == "sgd" ? Optimizer::sgd : Optimizer::adamw;
  s.learning_rate = f.learning_rate;
  s.weight_decay = f.weight_decay;
  s.momentum = f.momentum;
  s.max_norm = f.clip;
  s.steps = f.steps;
  VB_ASSIGN(Training training, language_model_training(model, s));
  VB_ASSIGN(const std::vector<int64_t> tokens, model.prompt_tokens(text));
  VB_ASSIGN(
      TextBatches b,
      text_batches(tokens, f.batch, std::min(f.window, model.config().max_position_embeddings)));
  TrainingJob t;
  t.first_parameter = training.first_parameter;
  t.parameters = std::move(training.parameters);
  t.job.program = std::move(training.program);
  t.job.inputs = {b.tokens, b.positions, b.labels};
  t.job.inputs.insert(t.job.inputs.end(), training.state.begin(), training.state.end());
  t.job.model_name = model.name();
  t.job.shown = {{"batch", std::to_string(f.batch)},
                 {"clip", Json(f.clip).dump()},
                 {"learning_rate", Json(f.learning_rate).dump()},
                 {"momentum", Json(f.momentum).dump()},
                 {"optimizer", f.optimizer},
                 {"steps", std::to_string(f.steps)},
                 {"training_text", text},
                 {"weight_decay", Json(f.weight_decay).dump()},
                 {"window", std::to_string(f.window)}};
  return t;
}

Result<std::optional<TrainingJob>> training_job_of(const Model& model,
                                                   const std::vector<Shown>& shown) {
  std::map<std::string, std::string> said;
  for (const Shown& s : shown) said.emplace(s.name, s.text);
  if (!said.contains("training_text")) return std::optional<TrainingJob>();
  TrainFlags f;
  f.optimizer = said["optimizer"];
  if (f.optimizer != "sgd" && f.optimizer != "adamw")
    return bad_input("the receipt's optimizer '" + shortened(f.optimizer) + "' is not known");
  VB_ASSIGN(f.steps, number<uint32_t>(said, "steps"));
  VB_ASSIGN(f.batch, number<int64_t>(said, "batch"));
  VB_ASSIGN(f.window, number<int64_t>(said, "window"));
  VB_ASSIGN(f.learning_rate, number<float>(said, "learning_rate"));
  VB_ASSIGN(f.weight_decay, number<float>(said, "weight_decay"));
  VB_ASSIGN(f.momentum, number<float>(said, "momentum"));
  VB_ASSIGN(f.clip, number<float>(said, "clip"));
  VB_ASSIGN(TrainingJob job, training_job(model, f, said["training_text"]));
  return std::optional(std::move(job));
}

Result<Job> job_of_receipt(const Model& model, const std::vector<Shown>& shown,
                           const std::vector<std::string>& input_flags) {
  std::map<std::string, std::string> said;
  for (const Shown& s : shown) said.emplace(s.name, s.text);
  RunFlags flags;
  flags.precision = said.contains("precision") ? said["precision"] : "fp32";
  if (!input_flags.empty()) return model_job(model, flags, input_flags);
  if (model.kind() == ModelKind::bert) {
    std::vector<std::string> texts;
    while (said.contains("text " + std::to_string(texts.size())))
      texts.push_back(said["text " + std::to_string(texts.size())]);
    if (texts.empty())
      return usage_error("the receipt names no texts: give the inputs with --input NAME=FILE");
    return embedding_job(model, flags, texts);
  }
  if (model.kind() == ModelKind::llama) {
    VB_ASSIGN(std::optional<TrainingJob> training, training_job_of(model, shown));
    if (training) return std::move(training->job);
    GenerateFlags g;
    g.prompt = said["prompt"];
    VB_ASSIGN(g.max_tokens, number<int64_t>(said, "max_tokens"));
    VB_ASSIGN(g.seed, number<uint64_t>(said, "seed"));
    VB_ASSIGN(g.top_k, number<int64_t>(said, "top_k"));
    VB_ASSIGN(g.temperature, number<float>(said, "temperature"));
    VB_ASSIGN(g.top_p, number<float>(said, "top_p"));
    VB_ASSIGN(g.min_p, number<float>(said, "min_p"));
    return generation_job(model, flags, g);
  }
  return usage_error("give the inputs of the run with --input NAME=FILE");
}

Result<Task> task_of(Job& job, const Model& model, CommitLevel level) {
  Task task;
  task.level = level;
  task.model_name = job.model_name;
  task.model_root = model.root();
  job.program.graph.compute_roots();
  task.program = job.program;
  task.inputs = job.inputs;
  for (const auto& [name, text] : job.shown) task.shown.push_back({name, text});
  std::ranges::sort(task.shown, {}, &Shown::name);
  VB_ASSIGN(const Bytes nonce, random_bytes(task.nonce.size()));
  std::ranges::copy(nonce, task.nonce.begin());
  VB_TRY(validate_task(task));
  return task;
}

Status check_run_outputs(const RunFlags& flags, std::vector<std::string> reads) {
  reads.push_back(flags.model);
  VB_TRY(check_output_file(flags.receipt, reads));
  return check_output_folder(flags.trace, reads);
}

namespace {

Status finish_receipt(const std::string& path, const Task& task, Committer& committer,
                      const CountingBackend& work, Outcome& outcome) {
  VB_ASSIGN(const Commitment commitment, committer.finish());
  const Receipt receipt = make_receipt(task, commitment);
  VB_TRY(write_receipt(path, receipt));
  outcome.receipt_file = path;
  outcome.receipt_root = receipt.final_root;
  outcome.operations = work.operations;
  outcome.bytes_written = work.bytes;
  return {};
}

}  // namespace

Result<Outcome> run_job(const Context& context, const RunFlags& flags, const Model& model,
                        Job& job) {
  VB_ASSIGN(std::unique_ptr<Backend> backend, context.make_backend());
  CountingBackend* work = nullptr;
  std::optional<Task> task;
  std::optional<Committer> committer;
  std::unique_ptr<TraceWriter> trace;
  Fanout sinks;
  if (!flags.receipt.empty()) {
    VB_ASSIGN(const CommitLevel level, commit_level(flags.commit));
    VB_ASSIGN(task, task_of(job, model, level));
    committer.emplace(job.program, level, [&task] { return task_id(*task); });
    sinks.add(&*committer);
    auto counting = std::make_unique<CountingBackend>(std::move(backend));
    work = counting.get();
    backend = std::move(counting);
  }
  if (!flags.trace.empty()) {
    job.program.graph.compute_roots();
    VB_ASSIGN(trace, TraceWriter::create(flags.trace, job.program.graph));
    sinks.add(trace.get());
  }
  RunOptions options;
  options.sink = sinks.empty() ? nullptr : &sinks;
  options.on_step = job.on_step;
  Outcome outcome;
  outcome.backend = backend->name();
  const Stopwatch watch;
  VB_ASSIGN(outcome.run, run_program(job.program, *backend, job.inputs, options));
  outcome.seconds = watch.seconds();
  if (committer) VB_TRY(finish_receipt(flags.receipt, *task, *committer, *work, outcome));
  if (trace) {
    VB_ASSIGN(const TraceStats stats, trace->close());
    outcome.trace_note = std::to_string(stats.values) + " values, " +
                         format_bytes(static_cast<double>(stats.bytes)) + ", " +
                         std::to_string(stats.seconds) + " s spent storing them in " + flags.trace;
  }
  return outcome;
}

void add_commitment(Json& json, std::string& text, const Outcome& outcome) {
  if (outcome.receipt_root) {
    json["receipt"] = {{"file", outcome.receipt_file},
                       {"root", outcome.receipt_root->hex()},
                       {"operations", outcome.operations},
                       {"bytes_written", outcome.bytes_written}};
    text += "receipt " + outcome.receipt_root->hex() + "  " + outcome.receipt_file + "  (" +
            format_count(static_cast<double>(outcome.operations)) + "operations, " +
            format_bytes(static_cast<double>(outcome.bytes_written)) + " written)\n";
  }
  if (!outcome.trace_note.empty()) {
    json["trace"] = outcome.trace_note;
    text += "trace: " + outcome.trace_note + "\n";
  }
}

}  // namespace verbatim::cli
