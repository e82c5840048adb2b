// A job is a program with its inputs, as the flags of run, embed and generate (and of task create
// and receipt verify, which take the same) describe it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <verbatim/cli/common.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/model.h>
#include <verbatim/verify/committer.h>
#include <verbatim/verify/task.h>

namespace verbatim::cli {

struct RunFlags {
  std::string model, precision = "fp32", receipt, commit = "light", trace;
};

struct GenerateFlags {
  std::string prompt;
  int64_t max_tokens = 64;
  float temperature = 0;
  int64_t top_k = 0;
  float top_p = 1, min_p = 0;
  uint64_t seed = 0;
};
// The options, so that a command may say what they go with.
std::vector<CLI::Option*> add_generate_flags(CLI::App& command, GenerateFlags& flags);

struct TrainFlags {
  std::string text_file, optimizer = "adamw";
  uint32_t steps = 10;
  int64_t batch = 4, window = 128;
  float learning_rate = 1e-3f, weight_decay = 0, momentum = 0, clip = 1;
};
// Those besides --text-file, which they are about.
std::vector<CLI::Option*> add_train_flags(CLI::App& command, TrainFlags& flags);
// Usage errors that depend on values: to be asked first.
Status check_train_flags(const TrainFlags& flags);

struct Job {
  Program program;
  Tensors inputs;
  std::string model_name;
  std::vector<std::pair<std::string, std::string>>
      shown;  // what a person is told of the task: bound by it
  std::function<bool(uint64_t, std::span<const Tensor>)> on_step;
};
Result<Job> model_job(const Model& model, const RunFlags& flags,
                      const std::vector<std::string>& input_flags);
Result<Job> embedding_job(const Model& model, const RunFlags& flags,
                          const std::vector<std::string>& texts);
Result<Job> generation_job(const Model& model, const RunFlags& flags,
                           const GenerateFlags& generate);

// A language model trained on a text: all of its tensors, a step for each batch of it.
struct TrainingJob {
  Job job;
  std::vector<std::string> parameters;  // the outputs from first_parameter on
  size_t first_parameter = 0;
};
Result<TrainingJob> training_job(const Model& model, const TrainFlags& flags,
                                 const std::string& text);
// The program of a training that a receipt or task describes by what it shows; nothing where it
// describes something else.
Result<std::optional<TrainingJob>> training_job_of(const Model& model,
                                                   const std::vector<Shown>& shown);
// A text of at most 64 MiB, all of it UTF-8.
Result<std::string> read_text(const std::string& path);

// The job that a receipt or task describes by what it shows; tensors that it does not show come
// from --input flags.
Result<Job> job_of_receipt(const Model& model, const std::vector<Shown>& shown,
                           const std::vector<std::string>& input_flags);

struct Outcome {
  RunResult run;
  std::string backend;
  double seconds = 0;
  std::string receipt_file, trace_note;
  std::optional<Digest> receipt_root;
  // Counted where there is a receipt: what all operators cost by a referee's count (run_limited),
  // and the bytes of their outputs.
  uint64_t operations = 0, bytes_written = 0;
};
// Whether the receipt and trace that the flags ask for can be written, and replace nothing that is
// read: the model, and `reads`. To be asked first.
Status check_run_outputs(const RunFlags& flags, std::vector<std::string> reads);
// Runs a job with what the flags ask for: a receipt, a trace.
Result<Outcome> run_job(const Context& context, const RunFlags& flags, const Model& model,
                        Job& job);

// The receipt and trace of a run, for both kinds of output.
void add_commitment(Json& json, std::string& text, const Outcome& outcome);

// The task of a job, with a fresh nonce. Hashes the model's weights, and fills the roots of the
// job's own graph.
Result<Task> task_of(Job& job, const Model& model, CommitLevel level);

}  // namespace verbatim::cli
