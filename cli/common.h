// What all commands share: global flags, how results and errors are shown, progress.
//
// stdout carries results only: one JSON document with --json, else text for people. Prose, progress
// and errors go to stderr, and progress only to a terminal.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include <verbatim/cli/options.h>
#include <verbatim/core/status.h>
#include <verbatim/repops/backend.h>

namespace verbatim::cli {

using Json = nlohmann::ordered_json;

// Exit codes that are verdicts, not errors (interfaces: 0 done or verified, 1 refuted or failed
// cases, 2 could not check, 3 forfeit).
enum ExitCode : int { kDone = 0, kRefuted = 1, kNoVerdict = 2, kForfeit = 3, kUsage = 64 };

struct Context {
  bool json = false;
  std::string backend;  // "": VERBATIM_BACKEND, else the best that runs here
  int threads = 0;      // 0: all
  int exit_code = 0;

  Result<std::unique_ptr<Backend>> make_backend() const;
};

// The flags --json, --backend and --threads, which a subcommand asks for one by one.
void add_json_flag(CLI::App& command, Context& context);
void add_backend_flags(CLI::App& command, Context& context);

// Sets what the command does. A Status it returns is printed as an error and becomes the exit code.
void on_run(CLI::App& command, Context& context, std::function<Result<int>()> body);

// Prints one JSON document, or the text where --json is not given.
void print_result(const Context& context, const Json& json, const std::string& text);

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// A line on stderr that is rewritten in place; nothing where stderr is not a terminal.
class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  void update(const std::string& state);

 private:
  std::string what_;
  bool terminal_;
  bool shown_ = false;
};

std::string format_count(double n);  // "1.23 G"
std::string format_bytes(double n);  // "4.56 MB"

// Each registers its commands.
void register_run(CLI::App& app, Context& context);         // run, embed, generate
void register_model(CLI::App& app, Context& context);       // model digest
void register_lock(CLI::App& app, Context& context);        // lock
void register_eval(CLI::App& app, Context& context);        // eval
void register_train(CLI::App& app, Context& context);       // train
void register_check(CLI::App& app, Context& context);       // selftest, conformance, replay, prove
void register_receipt(CLI::App& app, Context& context);     // receipt, trace
void register_dispute(CLI::App& app, Context& context);     // task, provider, dispute, referee
void register_doctor(CLI::App& app, Context& context);      // doctor
void register_completion(CLI::App& app, Context& context);  // completion

}  // namespace verbatim::cli
