// run, embed, generate: a model's results, and their receipts.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <limits>
#include <set>

#include <verbatim/cli/common.h>
#include <verbatim/cli/outputs.h>
#include <verbatim/cli/runs.h>
#include <verbatim/core/file.h>
#include <verbatim/core/npy.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim::cli {
namespace {

void add_run_flags(CLI::App& command, Context& context, RunFlags& flags) {
  command
      .add_option("model", flags.model,
                  "A Hugging Face folder (BERT or Llama type), an .onnx file, of which "
                  "FILE.onnx:NAME=VALUE "
                  "fixes an input, or Silero VAD's .safetensors")
      ->required();
  command.add_option("--precision", flags.precision,
                     "fp32; bf16, fp16, fp8, fp8-precise: as Hopper's tensor cores compute; s1x1 "
                     "to s4x4: exact products of "
                     "that many int8 slices (activations x weights); w8a8, w4a8, w3a8, w2a8, w1a8: "
                     "int8 activations and attention, "
                     "weights of so many bits");
  CLI::Option* receipt =
      command.add_option("--receipt", flags.receipt, "Write a receipt of this run to FILE")
          ->type_name("FILE");
  command
      .add_option("--commit", flags.commit,
                  "What the receipt commits to: light (per-step state) or full (every operator)")
      ->check(CLI::IsMember({"light", "full"}))
      ->needs(receipt);
  command
      .add_option("--trace", flags.trace,
                  "Store every operator's outputs in the new folder DIR, for `verbatim trace diff`")
      ->type_name("DIR");
  add_backend_flags(command, context);
  add_json_flag(command, context);
}

// The files of the outputs, in their order: checked before anything is computed.
Result<std::vector<std::string>> output_files(const Graph& graph, const std::string& dir,
                                              const std::vector<std::string>& reads) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) return unavailable(dir + ": " + error.message());
  std::vector<std::string> paths;
  std::set<std::string> taken;
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    std::string file = npy_file_name(graph.outputs[i].name);
    // "a/b" and "a_b" would share a file: the later one gets its number.
    if (!taken.insert(file).second)
      taken.insert(file.replace(file.size() - 4, 4, "_" + std::to_string(i) + ".npy"));
    paths.push_back(dir + "/" + file);
    VB_TRY(check_output_file(paths.back(), reads));
  }
  return paths;
}

// All of them are written before the first takes its place.
Status write_outputs(const std::string& dir, const std::vector<std::string>& paths,
                     const Tensors& outputs) {
  VB_ASSIGN(const TemporaryFolder written, TemporaryFolder::beside(dir + "/outputs"));
  const auto temporary = [&](size_t i) { return written.path() + "/" + std::to_string(i); };
  for (size_t i = 0; i < paths.size(); ++i) VB_TRY(write_npy(temporary(i), outputs[i]));
  for (size_t i = 0; i < paths.size(); ++i) {
    std::error_code error;
    std::filesystem::rename(temporary(i), paths[i], error);
    if (error) return unavailable(paths[i] + ": cannot replace: " + error.message());
  }
  return {};
}

Result<int> run_model(const Context& context, const RunFlags& flags,
                      const std::vector<std::string>& input_flags, const std::string& output_dir) {
  std::vector<std::string> reads = input_files(input_flags);
  VB_TRY(check_run_outputs(flags, reads));
  VB_ASSIGN(const auto model, Model::load(flags.model));
  VB_ASSIGN(Job job, model_job(*model, flags, input_flags));
  const Graph& graph = job.program.graph;
  reads.push_back(flags.model);
  VB_ASSIGN(const std::vector<std::string> paths, output_files(graph, output_dir, reads));
  VB_ASSIGN(const Outcome outcome, run_job(context, flags, *model, job));
  VB_TRY(write_outputs(output_dir, paths, outcome.run.outputs));
  Json outputs = Json::object();
  std::string text;
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string digest = tensor_root(outcome.run.outputs[i]).hex();
    outputs[printable(graph.outputs[i].name)] = {{"file", paths[i]}, {"digest", digest}};
    text += digest + "  " + paths[i] + "\n";
  }
  Json json = {{"outputs", outputs}, {"backend", outcome.backend}, {"seconds", outcome.seconds}};
  add_commitment(json, text, outcome);
  print_result(context, json, text);
  return kDone;
}

Result<int> embed(const Context& context, const RunFlags& flags,
                  const std::vector<std::string>& texts) {
  VB_TRY(check_run_outputs(flags, {}));
  VB_ASSIGN(const auto model, Model::load(flags.model));
  VB_ASSIGN(Job job, embedding_job(*model, flags, texts));
  VB_ASSIGN(const Outcome outcome, run_job(context, flags, *model, job));
  const Tensor& e = outcome.run.outputs[0];
  const auto values = e.data<float>();
  const size_t width = static_cast<size_t>(e.dim(1));
  Json rows = Json::array();
  std::string text;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto row = values.subspan(i * width, width);
    rows.push_back(std::vector<float>(row.begin(), row.end()));
    char start[96];
    std::snprintf(start, sizeof start, "[%.6f, %.6f, %.6f, ... %zu values]", row[0], row[1 % width],
                  row[2 % width], width);
    text += std::string(start) + "  " + printable(texts[i]) + "\n";
  }
  const std::string digest = tensor_root(e).hex();
  text += "digest " + digest + "  (" + outcome.backend + ")\n";
  Json json = {{"embeddings", rows},
               {"digest", digest},
               {"backend", outcome.backend},
               {"seconds", outcome.seconds}};
  add_commitment(json, text, outcome);
  print_result(context, json, text);
  return kDone;
}

// Prints text as it comes. Decoding all tokens again for each is quadratic, and nothing beside a
// step of any model.
class Streamer {
 public:
  Streamer(const Model& model, std::vector<int64_t> tokens, bool quiet)
      : model_(model), tokens_(std::move(tokens)), quiet_(quiet) {}

  Status show() {
    VB_ASSIGN(const std::string text, model_.tokenizer()->decode(tokens_));
    // The last bytes may be a character under way: shown once they are whole, or at the end.
    if (!quiet_ && text.size() > shown_ && is_valid_utf8(std::string_view(text).substr(shown_))) {
      print(std::string_view(text).substr(shown_));
      std::fflush(stdout);
      shown_ = text.size();
    }
    text_ = text;
    return {};
  }
  Status add(int64_t token) {
    tokens_.push_back(token);
    return show();
  }
  void finish() {
    if (!quiet_) print(text_.substr(std::min(shown_, text_.size())) + "\n");
  }
  const std::string& text() const { return text_; }
  const std::vector<int64_t>& tokens() const { return tokens_; }

 private:
  // A model may write escape sequences: a terminal gets none of them, a pipe gets every byte.
  void print(std::string_view text) const {
    std::string safe;
    for (size_t begin = 0; terminal_ && begin < text.size();) {
      const size_t end = std::min(text.size(), text.find_first_of("\n\t", begin));
      safe += printable(text.substr(begin, end - begin));
      if (end < text.size()) safe += text[end];
      begin = end + 1;
    }
    const std::string_view out = terminal_ ? std::string_view(safe) : text;
    std::fwrite(out.data(), 1, out.size(), stdout);
  }
  const Model& model_;
  std::vector<int64_t> tokens_;
  bool quiet_;
  bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
  std::string text_;
  size_t shown_ = 0;
};

Result<int> generate(const Context& context, const RunFlags& flags,
                     const GenerateFlags& generate_flags) {
  VB_TRY(check_run_outputs(flags, {}));
  VB_ASSIGN(const auto model, Model::load(flags.model));
  VB_ASSIGN(Job job, generation_job(*model, flags, generate_flags));
  VB_ASSIGN(const std::vector<int64_t> prompt, model->prompt_tokens(generate_flags.prompt));
  Streamer stream(*model, prompt, context.json);
  VB_TRY(stream.show());
  Status decoding;
  job.on_step = [&](uint64_t, std::span<const Tensor> outputs) {
    decoding = stream.add(outputs[0].data<int64_t>()[0]);
    return decoding.ok();
  };
  VB_ASSIGN(const Outcome outcome, run_job(context, flags, *model, job));
  VB_TRY(std::move(decoding));
  stream.finish();
  VB_ASSIGN(
      const Tensor all,
      Tensor::from<int64_t>(Shape{static_cast<int64_t>(stream.tokens().size())}, stream.tokens()));
  const double rate = static_cast<double>(outcome.run.steps) / outcome.seconds;
  const std::string digest = tensor_root(all).hex();
  Json json = {{"text", stream.text()},
               {"tokens", stream.tokens()},
               {"digest", digest},
               {"tokens_per_s", rate},
               {"backend", outcome.backend}};
  std::string note;
  add_commitment(json, note, outcome);
  if (context.json)
    print_result(context, json, "");
  else
    std::fprintf(stderr, "digest %s  (%s, %.1f tokens/s)\n%s", digest.c_str(),
                 outcome.backend.c_str(), rate, note.c_str());
  return kDone;
}

}  // namespace

std::vector<CLI::Option*> add_generate_flags(CLI::App& command, GenerateFlags& flags) {
  return {
      command.add_option("--prompt", flags.prompt,
                         "Text to go on from; empty: the beginning-of-sequence token"),
      command.add_option("--max-tokens", flags.max_tokens, "New tokens at most")
          ->check(whole_number(1, kMaxSteps))
          ->capture_default_str(),
      command.add_option("--temperature", flags.temperature, "0: always the likeliest token")
          ->check(CLI::Range(0.0, 1e9))
          ->capture_default_str(),
      command.add_option("--top-k", flags.top_k, "Draw among the K likeliest tokens only; 0: all")
          ->check(whole_number(0, std::numeric_limits<int64_t>::max())),
      command
          .add_option("--top-p", flags.top_p,
                      "Draw among the likeliest tokens that make up this share")
          ->check(CLI::Range(0.0, 1.0)),
      command
          .add_option("--min-p", flags.min_p,
                      "Drop tokens below this share of the likeliest one's weight")
          ->check(CLI::Range(0.0, 1.0)),
      command.add_option("--seed", flags.seed, "Seed of the draws, 0 to 2^64 - 1")
          ->check(whole_number(0, ~uint64_t{0}))
          ->capture_default_str()};
}

void register_run(CLI::App& app, Context& context) {
  {
    auto flags = std::make_shared<RunFlags>();
    auto inputs = std::make_shared<std::vector<std::string>>();
    auto dir = std::make_shared<std::string>(".");
    CLI::App& c = *app.add_subcommand(
        "run", "Run a model on .npy or ONNX .pb tensors and write its outputs as .npy files");
    add_run_flags(c, context, *flags);
    c.add_option("--input", *inputs, "NAME=FILE, once for each input of the model")
        ->type_name("NAME=FILE");
    c.add_option("--output-dir", *dir, "Folder for the outputs; made where it is missing")
        ->type_name("DIR");
    on_run(c, context, [=, &context] { return run_model(context, *flags, *inputs, *dir); });
  }
  {
    auto flags = std::make_shared<RunFlags>();
    auto texts = std::make_shared<std::vector<std::string>>();
    CLI::App& c = *app.add_subcommand("embed", "Turn sentences into vectors");
    add_run_flags(c, context, *flags);
    c.add_option(
         "--text", *texts,
         "A sentence; may be given several times. A sentence's bits do not depend on the others")
        ->required();
    on_run(c, context, [=, &context] { return embed(context, *flags, *texts); });
  }
  {
    auto flags = std::make_shared<RunFlags>();
    auto generate_flags = std::make_shared<GenerateFlags>();
    CLI::App& c = *app.add_subcommand(
        "generate", "Write on from a prompt with a language model; prompt and text go to stdout");
    add_run_flags(c, context, *flags);
    add_generate_flags(c, *generate_flags);
    on_run(c, context, [=, &context] { return generate(context, *flags, *generate_flags); });
  }
}

}  // namespace verbatim::cli
