// train: a language model goes on learning, with the same bits everywhere.
#include <cstdio>
#include <filesystem>

#include <verbatim/cli/common.h>
#include <verbatim/cli/outputs.h>
#include <verbatim/cli/runs.h>
#include <verbatim/core/codec.h>
#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/models/safetensors.h>

namespace verbatim::cli {
namespace {

struct Trained {
  std::vector<std::string> names;
  Tensors tensors;
};

// Names and roots, in the order of the names.
Digest parameters_digest(const Trained& t) {
  Writer w;
  for (size_t i = 0; i < t.names.size(); ++i) {
    w.text(t.names[i]);
    w.raw(tensor_root(t.tensors[i]).bytes);
  }
  return tagged_hash("verbatim.parameters.1", w.bytes());
}

// A folder that is a model: the tensors, trained ones as float32, and what else a model is read
// from. It is there once it is whole.
Status save(const std::string& from, const std::string& output, const Model& model,
            const Trained& trained) {
  VB_ASSIGN(TemporaryFolder folder, TemporaryFolder::beside(output));
  const std::string& dir = folder.path();
  std::error_code error;
  TensorMap tensors = model.tensors();
  for (size_t i = 0; i < trained.names.size(); ++i)
    tensors.insert_or_assign(trained.names[i], trained.tensors[i]);
  VB_ASSIGN(const Bytes bytes, encode_safetensors(tensors));
  VB_TRY(write_file(dir + "/model.safetensors", bytes));
  constexpr size_t kMaxFile = size_t{256} << 20;
  for (const std::string name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "tokenizer.model", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt"}) {
    const std::string path = from + "/" + name;
    if (!std::filesystem::exists(path, error)) continue;
    VB_ASSIGN(const Bytes file, read_file(path, kMaxFile));
    VB_TRY(write_file(dir + "/" + name, file));
  }
  return folder.become(output);
}

struct StepFigures {
  Json losses = Json::array(), norms = Json::array();
};

Result<int> train(const Context& context, const RunFlags& run, const TrainFlags& flags,
                  const std::string& output) {
  VB_TRY(check_train_flags(flags));
  VB_TRY(check_run_outputs(run, {flags.text_file}));
  VB_TRY(check_output_folder(output, {run.model}));
  VB_ASSIGN(const auto model, Model::load(run.model));
  VB_ASSIGN(const std::string text, read_text(flags.text_file));
  VB_ASSIGN(TrainingJob training, training_job(*model, flags, text));
  Progress progress("training");
  StepFigures figures;
  Status reading;
  training.job.on_step = [&](uint64_t step, std::span<const Tensor> outputs) {
    const Result<Tensor> losses = outputs[0].on_host(), norms = outputs[1].on_host();
    reading = losses.ok() ? norms.status() : losses.status();
    if (!reading.ok()) return false;
    const float loss = losses->data<float>()[0], norm = norms->data<float>()[0];
    figures.losses.push_back(loss);
    figures.norms.push_back(norm);
    if (!context.json) {
      std::printf("step %llu: loss %.9g, gradient norm %.9g\n",
                  static_cast<unsigned long long>(step), static_cast<double>(loss),
                  static_cast<double>(norm));
      std::fflush(stdout);
    } else {
      progress.update("step " + std::to_string(step + 1) + " of " + std::to_string(flags.steps));
    }
    return true;
  };
  VB_ASSIGN(const Outcome outcome, run_job(context, run, *model, training.job));
  VB_TRY(std::move(reading));
  const auto first = outcome.run.outputs.begin() + static_cast<ptrdiff_t>(training.first_parameter);
  const Trained trained{training.parameters,
                        Tensors(first, first + static_cast<ptrdiff_t>(training.parameters.size()))};
  const std::string digest = parameters_digest(trained).hex();
  if (!output.empty()) VB_TRY(save(run.model, output, *model, trained));
  Json json = {{"steps", outcome.run.steps},      {"losses", figures.losses},
               {"gradient_norms", figures.norms}, {"digest", digest},
               {"backend", outcome.backend},      {"seconds", outcome.seconds}};
  if (!output.empty()) json["output"] = output;
  std::string note = "digest " + digest + "  (" + outcome.backend + ")\n";
  add_commitment(json, note, outcome);
  print_result(context, json, note);
  return kDone;
}

}  // namespace

void register_train(CLI::App& app, Context& context) {
  auto run = std::make_shared<RunFlags>();
  auto flags = std::make_shared<TrainFlags>();
  auto output = std::make_shared<std::string>();
  CLI::App& c = *app.add_subcommand(
      "train",
      "Train a language model on a text in binary32: all of its tensors, with the same bits "
      "everywhere. Prints each step's loss and a digest of the tensors");
  c.add_option("model", run->model, "A Hugging Face folder (Llama type)")->required();
  add_train_flags(c, *flags);
  c.get_option("--text-file")->required();
  c.add_option("--output", *output, "Write the trained model to the new folder DIR")
      ->type_name("DIR");
  CLI::Option* receipt =
      c.add_option("--receipt", run->receipt,
                   "Write a receipt of this run to FILE; it holds the text, at most 1 MiB")
          ->type_name("FILE");
  c.add_option("--commit", run->commit,
               "What the receipt commits to: light (per-step state) or full (every operator)")
      ->check(CLI::IsMember({"light", "full"}))
      ->needs(receipt);
  add_backend_flags(c, context);
  add_json_flag(c, context);
  on_run(c, context, [=, &context] { return train(context, *run, *flags, *output); });
}

}  // namespace verbatim::cli
