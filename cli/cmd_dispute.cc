// task, provider, dispute, referee: who is wrong, where, and how little it takes to find out.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <set>
#include <thread>

#include <verbatim/cli/common.h>
#include <verbatim/cli/outputs.h>
#include <verbatim/cli/runs.h>
#include <verbatim/cli/verdicts.h>
#include <verbatim/core/signature.h>
#include <verbatim/repops/models/silero.h>
#include <verbatim/verify/dispute.h>
#if VERBATIM_NET
#include <verbatim/verify/net/client.h>
#include <verbatim/verify/net/server.h>
#endif

namespace verbatim::cli {
namespace {

int print_verdict(const Context& context, const Verdict& verdict,
                  const std::vector<std::string>& names, double ms) {
  print_result(context, verdict_json(verdict, names, {ms, peak_rss_bytes()}),
               verdict_text(verdict, names));
  return exit_code(verdict.outcome);
}

// --- task
// -----------------------------------------------------------------------------------------------------------------------

struct TaskFlags {
  RunFlags run;
  GenerateFlags generate;
  TrainFlags train;
  std::vector<std::string> texts, inputs;
  std::string output;
  bool generates = false;  // a flag of a generation was given
};

Result<Job> training_task_job(const Model& model, const TrainFlags& flags) {
  VB_ASSIGN(const std::string text, read_text(flags.text_file));
  VB_ASSIGN(TrainingJob training, training_job(model, flags, text));
  return std::move(training.job);
}

Result<int> create_task(const Context& context, TaskFlags flags) {
  VB_TRY(check_train_flags(flags.train));
  std::vector<std::string> reads = input_files(flags.inputs);
  reads.push_back(flags.run.model);
  if (!flags.train.text_file.empty()) reads.push_back(flags.train.text_file);
  VB_TRY(check_output_file(flags.output, reads));
  VB_ASSIGN(const auto model, Model::load(flags.run.model));
  if (!flags.texts.empty() && model->kind() != ModelKind::bert)
    return usage_error("--text is for sentence embedding models");
  if (flags.generates && model->kind() != ModelKind::llama)
    return usage_error("--prompt, --max-tokens and how tokens are drawn are for language models");
  VB_ASSIGN(const CommitLevel level, commit_level(flags.run.commit));
  Result<Job> job =
      !flags.inputs.empty()               ? model_job(*model, flags.run, flags.inputs)
      : !flags.train.text_file.empty()    ? training_task_job(*model, flags.train)
      : model->kind() == ModelKind::llama ? generation_job(*model, flags.run, flags.generate)
      : model->kind() == ModelKind::bert  ? embedding_job(*model, flags.run, flags.texts)
                                          : model_job(*model, flags.run, {});
  if (!job.ok()) return job.status();
  VB_ASSIGN(const Task task, task_of(*job, *model, level));
  VB_TRY(write_task(flags.output, task));
  const std::string id = task_id(task).hex();
  const size_t nodes = task.program.graph.nodes.size();
  print_result(context,
               {{"task", id},
                {"file", flags.output},
                {"nodes", nodes},
                {"max_steps", task.program.max_steps},
                {"commit", name_of(level)},
                {"model", task.model_root.hex()},
                {"program", program_digest(task.program).hex()}},
               "task " + id + "  " + flags.output + "\n" + std::to_string(nodes) +
                   " operators a step, up to " + std::to_string(task.program.max_steps) +
                   " steps, commitment " + std::string(name_of(level)) + "\n");
  return kDone;
}

// What a task asks for; the node numbers are those of --inject-fault and of verdicts.
Result<int> show_task(const Context& context, const std::string& path) {
  VB_ASSIGN(const Task task, read_task(path));
  const std::string id = task_id(task).hex();
  Json nodes = Json::array(), shown = Json::object();
  std::string text =
      "task " + id + "\nmodel " + task.model_name + "  root " + task.model_root.hex() + "\n";
  for (const Shown& s : task.shown) {
    shown[s.name] = s.text;
    text += "  " + s.name + ": " + printable(s.text) + "\n";
  }
  for (const Node& node : task.program.graph.nodes) {
    text += "node " + std::to_string(nodes.size()) + " " + node.title() + "\n";
    nodes.push_back({{"op", node.op}, {"name", node.name}});
  }
  print_result(context,
               {{"task", id},
                {"model", task.model_root.hex()},
                {"settings", shown},
                {"commit", name_of(task.level)},
                {"max_steps", task.program.max_steps},
                {"nodes", nodes}},
               text);
  return kDone;
}

// --- dispute on paper
// -----------------------------------------------------------------------------------------------------------

struct JudgeFlags {
  std::string transcript;
  NodeLimits limits = judging_limits();
};

Result<int> judge_file(const Context& context, const JudgeFlags& flags) {
  const Stopwatch watch;
  VB_ASSIGN(const Transcript transcript, Transcript::open(flags.transcript));
  VB_ASSIGN(const Verdict verdict, judge(transcript, {flags.limits}));
  return print_verdict(context, verdict, transcript.party_names(), watch.seconds() * 1000);
}

// How far it is; a recorded outcome is shown as that, since nothing is recomputed.
Result<int> dispute_status(const Context& context, const JudgeFlags& flags) {
  VB_ASSIGN(const Transcript t, Transcript::open(flags.transcript));
  const auto names = t.party_names();
  const std::string state = t.verdict() ? std::string(name_of(t.verdict()->outcome)) : "under way";
  Json json = {{"task", task_id(t.header().task).hex()},
               {"parties", names},
               {"exchanges", t.exchanges().size()},
               {"torn", t.torn()},
               {"outcome", state},
               {"judged", false}};
  std::string text =
      "task " + task_id(t.header().task).hex() + ", " + std::to_string(names.size()) +
      " parties, " + std::to_string(t.exchanges().size()) + " exchanges: " + state +
      (t.verdict() ? " by the transcript's own word (`verbatim referee judge` checks it)\n" : "\n");
  if (t.torn())
    text += "the last entry is cut short; `verbatim dispute resume` goes on before it\n";
  print_result(context, json, text);
  return t.verdict() ? exit_code(t.verdict()->outcome) : kNoVerdict;
}

// A verdict is explained once it was judged: a transcript can say anything.
Result<int> explain_file(const Context& context, const JudgeFlags& flags) {
  VB_ASSIGN(const Transcript t, Transcript::open(flags.transcript));
  const auto names = t.party_names();
  std::optional<Verdict> verdict;
  if (t.verdict()) {
    VB_ASSIGN(verdict, judge(t, {flags.limits}));
  }
  Json lines = Json::array(), sentences = Json::array();
  std::string text;
  for (size_t i = 0; i < t.exchanges().size(); ++i) {
    lines.push_back(exchange_text(i, t.exchanges()[i], names));
    text += lines.back().get<std::string>() + "\n";
  }
  if (verdict) {
    for (const std::string& line : explain(*verdict, names)) sentences.push_back(line);
    text += verdict_text(*verdict, names);
  } else {
    text += "there is no verdict yet\n";
  }
  print_result(context, {{"exchanges", lines}, {"verdict", sentences}}, text);
  return verdict ? exit_code(verdict->outcome) : kNoVerdict;
}

// Follows a transcript that another process writes, until its verdict, which is judged here.
Result<int> watch(const Context& context, const JudgeFlags& flags) {
  size_t shown = 0;
  while (true) {
    VB_ASSIGN(const Transcript t, Transcript::open(flags.transcript));
    const auto names = t.party_names();
    for (; shown < t.exchanges().size(); ++shown)
      std::fprintf(stderr, "%s\n", exchange_text(shown, t.exchanges()[shown], names).c_str());
    if (t.verdict()) return judge_file(context, flags);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

#if VERBATIM_NET
// --- provider and dispute over the network
// --------------------------------------------------------------------------------------

struct ServeFlags {
  std::string listen, model, key, fault;
  NodeLimits limits;
  uint64_t live_bytes = ProviderOptions().live_bytes;
};

// The graphs whose weights a model offers: a task names its weights by root, so precision and
// sampling need not be known here.
Result<Graph> weights_of(const Model& model, const Task& task) {
  std::string precision_name = "fp32";
  for (const Shown& s : task.shown)
    if (s.name == "precision") precision_name = s.text;
  VB_ASSIGN(const Precision precision, parse_precision(precision_name));
  VB_ASSIGN(std::optional<TrainingJob> training, training_job_of(model, task.shown));
  if (training) {
    training->job.program.graph.compute_roots();
    return std::move(training->job.program.graph);
  }
  GenerateSettings settings;
  settings.precision = precision;
  const bool whole_audio = model.kind() == ModelKind::silero && !task.program.carries.empty();
  Result<Program> program = model.kind() == ModelKind::llama ? model.generation_program(settings)
                            : whole_audio                    ? silero_program(model.tensors(), 1)
                                                             : model.program(precision);
  if (!program.ok()) return program.status();
  program->graph.compute_roots();
  return std::move(program->graph);
}

Result<int> serve(const Context& context, const ServeFlags& flags) {
  VB_ASSIGN(const auto model, Model::load(flags.model));
  VB_TRY(context.make_backend().status());  // now, not at the first task
  ServeOptions options;
  options.listen = flags.listen;
  if (flags.key.empty()) {
    VB_ASSIGN(options.key, SigningKey::generate());
  } else {
    VB_ASSIGN(options.key, SigningKey::load_or_create(flags.key));
  }
  options.provider.limits = flags.limits;
  options.provider.live_bytes = flags.live_bytes;
  if (!flags.fault.empty()) {
    VB_ASSIGN(options.provider.fault, parse_fault(flags.fault));
  }
  options.make_backend = [&context] { return context.make_backend(); };
  options.load_program = [model](const Task& task) -> Result<Program> {
    VB_ASSIGN(const Graph weights, weights_of(*model, task));
    Result<Program> program = bind_weights(task.program, weights);
    if (!program.ok())
      return program.status().with_context("this provider serves " + model->name());
    return program;
  };
  const std::string key = to_hex(options.key->public_key().bytes);
  VB_TRY(serve_provider(std::move(options), [&](const std::string& address) {
    std::fprintf(stderr, "serving %s on %s with key %s\n", model->name().c_str(), address.c_str(),
                 key.c_str());
    if (context.json) print_result(context, {{"address", address}, {"key", key}}, "");
  }));
  return kDone;
}

struct DisputeFlags {
  std::string task, output;
  std::vector<std::string> providers;
  double budget_s = 60;
  NodeLimits limits;
};

// Seconds; not NaN, and no more than a day.
CLI::Validator budget() {
  const auto check = [](const std::string& text) -> std::string {
    double seconds = 0;
    return CLI::detail::lexical_cast(text, seconds) && seconds > 0 && seconds <= 86400
               ? ""
               : "not a number of seconds above 0, at most 86400: " + printable(text);
  };
  return CLI::Validator(check, "0..86400", "seconds");
}

struct Connected {
  std::vector<std::unique_ptr<RemoteParty>> owned;
  std::vector<Party*> parties;
};

// A provider that cannot be reached takes part all the same: it forfeits.
Connected connect(const Task& task, const std::vector<std::string>& addresses, double budget_s) {
  Connected c;
  for (const std::string& address : addresses) {
    c.owned.push_back(connect_party(
        address, task, std::chrono::milliseconds(static_cast<int64_t>(budget_s * 1000))));
    if (const Status& problem = c.owned.back()->problem(); !problem.ok())
      std::fprintf(stderr, "%s: %s\n", printable(address).c_str(),
                   printable(problem.message()).c_str());
    c.parties.push_back(c.owned.back().get());
  }
  return c;
}

Result<int> run(const Context& context, const DisputeFlags& flags) {
  const std::set<std::string> distinct(flags.providers.begin(), flags.providers.end());
  if (distinct.size() != flags.providers.size() || distinct.size() < 2)
    return usage_error("give two or more providers, each once");
  const Stopwatch watch;
  VB_ASSIGN(const Task task, read_task(flags.task));
  const Connected connected = connect(task, flags.providers, flags.budget_s);
  std::vector<Disputant> disputants;
  for (size_t i = 0; i < flags.providers.size(); ++i)
    disputants.push_back({flags.providers[i], connected.parties[i]});
  VB_ASSIGN(const Verdict verdict, run_dispute(task, disputants, flags.output, {flags.limits}));
  return print_verdict(context, verdict, flags.providers, watch.seconds() * 1000);
}

Result<int> resume(const Context& context, const DisputeFlags& flags) {
  const Stopwatch watch;
  std::vector<std::string> names;
  {
    VB_ASSIGN(const Transcript t, Transcript::open(flags.output));
    names = t.party_names();
  }
  Connected connected;
  const auto connect_all = [&](const TranscriptHeader& header) {
    connected = connect(header.task, names, flags.budget_s);
    return connected.parties;
  };
  VB_ASSIGN(const Verdict verdict, resume_dispute(flags.output, connect_all, {flags.limits}));
  return print_verdict(context, verdict, names, watch.seconds() * 1000);
}

void register_provider(CLI::App& app, Context& context) {
  CLI::App& provider =
      *app.add_subcommand("provider", "Compute tasks for others, and answer for them");
  provider.require_subcommand(1);
  auto flags = std::make_shared<ServeFlags>();
  CLI::App& c = *provider.add_subcommand(
      "serve", "Run tasks that referees send, commit to them, and answer questions about any step");
  c.add_option("--listen", flags->listen, "ADDRESS:PORT; port 0 takes a free one, which is printed")
      ->required();
  c.add_option("--model", flags->model, "The model to serve: a folder or an .onnx file")
      ->required();
  c.add_option(
      "--key", flags->key,
      "File of the signing key; made where it is missing. Default: a new key for this process");
  c.add_option(
      "--inject-fault", flags->fault,
      "STEP:NODE:ELEMENT:BIT: flip a bit of one operator's output, to see a dispute find it");
  add_limit_flags(c, flags->limits);
  c.add_option("--max-run-memory", flags->live_bytes,
               "Bytes that all tensors of one task's run may take at once, weights aside; more is "
               "refused")
      ->check(whole_number(1, uint64_t{1} << 50))
      ->capture_default_str();
  add_backend_flags(c, context);
  add_json_flag(c, context);
  on_run(c, context, [=, &context] { return serve(context, *flags); });
}

// What `run` and `resume` share.
void add_dispute_flags(CLI::App& command, Context& context, DisputeFlags& flags) {
  command
      .add_option("--budget", flags.budget_s,
                  "Seconds that each provider has in all, computing included")
      ->check(budget())
      ->capture_default_str();
  add_limit_flags(command, flags.limits);
  add_json_flag(command, context);
}

void register_dispute_run(CLI::App& dispute, Context& context) {
  auto flags = std::make_shared<DisputeFlags>();
  CLI::App& c =
      *dispute.add_subcommand("run", "Give one task to several providers and settle who is wrong");
  c.add_option("--task", flags->task, "Task file, from `verbatim task create`")->required();
  c.add_option("--provider", flags->providers,
               "ADDRESS:PORT of a provider; give two or more, each once")
      ->required();
  c.add_option("-o,--output", flags->output, "Transcript to write; must not exist yet")->required();
  add_dispute_flags(c, context, *flags);
  on_run(c, context, [=, &context] { return run(context, *flags); });
}

void register_dispute_resume(CLI::App& dispute, Context& context) {
  auto flags = std::make_shared<DisputeFlags>();
  CLI::App& c = *dispute.add_subcommand(
      "resume",
      "Go on with a dispute that was interrupted, with the providers its transcript names");
  c.add_option("transcript", flags->output, "Transcript")->required();
  add_dispute_flags(c, context, *flags);
  on_run(c, context, [=, &context] { return resume(context, *flags); });
}

void register_network(CLI::App& app, CLI::App& dispute, Context& context) {
  register_provider(app, context);
  register_dispute_run(dispute, context);
  register_dispute_resume(dispute, context);
}
#else
void register_network(CLI::App& app, CLI::App& dispute, Context& context) {
  for (CLI::App* c : {app.add_subcommand("provider", "Not in this build"),
                      dispute.add_subcommand("run", "Not in this build"),
                      dispute.add_subcommand("resume", "Not in this build")}) {
    c->allow_extras();
    on_run(*c, context, []() -> Result<int> {
      return unavailable("this build has no network: configure with -DVERBATIM_NET=ON");
    });
  }
}
#endif

void register_task_create(CLI::App& task, Context& context) {
  auto flags = std::make_shared<TaskFlags>();
  flags->run.commit = "full";
  CLI::App& c = *task.add_subcommand(
      "create",
      "Write a task: program, inputs, settings and a nonce; weights are named by their roots");
  c.add_option("model", flags->run.model, "A Hugging Face folder or an .onnx file")->required();
  CLI::Option* text =
      c.add_option("--text", flags->texts, "A sentence to embed; may be given several times");
  CLI::Option* input = c.add_option("--input", flags->inputs, "NAME=FILE, once for each input")
                           ->type_name("NAME=FILE")
                           ->excludes(text);
  CLI::Option* precision =
      c.add_option("--precision", flags->run.precision,
                   "As of `verbatim run`: fp32, bf16, fp16, fp8, s1x1 to s4x4, w8a8, ...");
  c.add_option("--commit", flags->run.commit, "full: every operator; light: per-step state")
      ->check(CLI::IsMember({"light", "full"}))
      ->capture_default_str();
  c.add_option("-o,--output", flags->output, "Task file to write")->required();
  const auto generation = add_generate_flags(c, flags->generate);
  const auto training = add_train_flags(c, flags->train);
  // A task is a training, a generation, an embedding or a run: flags of another one would be lost.
  CLI::Option* text_file = c.get_option("--text-file");
  for (CLI::Option* o : {text, input, precision}) text_file->excludes(o);
  for (CLI::Option* o : training) o->needs(text_file);
  for (CLI::Option* o : generation) o->excludes(text_file)->excludes(text)->excludes(input);
  add_json_flag(c, context);
  on_run(c, context, [=, &context] {
    flags->generates = std::ranges::any_of(generation, [](auto* o) { return o->count() > 0; });
    return create_task(context, *flags);
  });
}

void register_task(CLI::App& app, Context& context) {
  CLI::App& task = *app.add_subcommand("task", "What providers are given");
  task.require_subcommand(1);
  register_task_create(task, context);
  auto path = std::make_shared<std::string>();
  CLI::App& show =
      *task.add_subcommand("show", "Print what a task asks for, and its operators by number");
  show.add_option("file", *path, "Task file")->required();
  add_json_flag(show, context);
  on_run(show, context, [=, &context] { return show_task(context, *path); });
}

}  // namespace

void register_dispute(CLI::App& app, Context& context) {
  register_task(app, context);
  CLI::App& dispute = *app.add_subcommand("dispute", "Settle which of several providers is wrong");
  dispute.require_subcommand(1);
  register_network(app, dispute, context);
  const auto on_transcript = [&](CLI::App& parent, const char* name, const char* help,
                                 Result<int> (*body)(const Context&, const JudgeFlags&)) {
    auto flags = std::make_shared<JudgeFlags>();
    CLI::App& c = *parent.add_subcommand(name, help);
    c.add_option("transcript", flags->transcript, "Transcript of a dispute")->required();
    if (body != dispute_status) add_limit_flags(c, flags->limits);
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return body(context, *flags); });
  };
  on_transcript(dispute, "status", "How far a dispute is", dispute_status);
  on_transcript(dispute, "watch", "Follow a dispute that another process runs, until its verdict",
                watch);
  on_transcript(dispute, "explain", "Every question and answer, and the verdict in sentences",
                explain_file);
  CLI::App& referee = *app.add_subcommand("referee", "Judge disputes");
  referee.require_subcommand(1);
  on_transcript(
      referee, "judge",
      "Judge a transcript again, offline; it must lead to the recorded verdict, byte for byte",
      judge_file);
}

}  // namespace verbatim::cli
