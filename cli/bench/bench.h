// verbatim-bench: our kernels and their peers in one process, taking turns.
//
// A case names one piece of work. It is prepared for a number of threads, which gives contenders:
// ways of doing that work once. Their samples alternate, so that what disturbs the machine disturbs
// all of them; the medians are compared.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <verbatim/core/status.h>
#include <verbatim/repops/backend.h>

namespace verbatim::bench {

struct Contender {
  std::string name, version, kernel;  // kernel: the instruction set that it runs
  std::function<void()> run;
  std::function<void(int)> set_threads = nullptr;  // absent: what the case says holds
  // How long so many runs take, where the contender times them itself.
  std::function<double(int64_t times)> seconds = nullptr;
};

// What the machine can do at most for the work of a case.
enum class Limit {
  none,
  float_operations,
  integer_operations,
  read_bandwidth,
  sha256,
  gpu_float_operations,
  gpu_copy_bandwidth  // what is read and what is written
};

struct Match {
  Contender ours;
  std::vector<Contender> peers;
  double work = 0;   // of one run: 1 for "GFLOP/s" and 1e9 operations
  std::string unit;  // 1e9 of something, a second
  Limit limit = Limit::none;
  // Called once after a run of every contender: what is wrong with their results.
  std::function<Status()> check = nullptr;
};

struct Case {
  std::string name, shape;
  // An error of code unavailable: the case cannot be run here, and is skipped.
  std::function<Result<Match>(Backend&)> prepare;
};

struct Settings {
  int samples = 21;
  double seconds = 0.02;  // least length of a sample
};

// A line of the report: ours against one peer, or alone where peer_name is empty.
struct Row {
  std::string name, shape;
  int threads = 1;
  double ours = 0, peer = 0;  // in `unit`
  std::string peer_name, peer_version, peer_kernel, unit, ours_kernel;
  double limit = 0;            // in `unit`; 0: not known
  std::string device, driver;  // of a GPU
  double ratio() const { return peer > 0 ? ours / peer : 0; }
};

Result<std::vector<Row>> measure(const Case& c, Backend& backend, int threads,
                                 const Settings& settings);

// The machine's own limit, measured once for each number of threads: operations or bytes a second.
double measured_limit(Limit limit, int threads);

void add_product_cases(std::vector<Case>& cases);
void add_convolution_cases(std::vector<Case>& cases);
void add_attention_cases(std::vector<Case>& cases);
void add_reduction_cases(std::vector<Case>& cases);
void add_hash_cases(std::vector<Case>& cases);
void add_low_bit_cases(std::vector<Case>& cases);
// What the cases of whole models need; they are skipped where it is not there.
struct ModelFiles {
  std::string minilm;  // the folder of a MiniLM-type model
  std::string llama;   // and of a Llama-type one
  std::string python;  // an interpreter that has ONNX Runtime's package, or on a GPU PyTorch's
};
void add_committed_cases(std::vector<Case>& cases, const ModelFiles& files);
void add_model_cases(std::vector<Case>& cases, const ModelFiles& files);

std::string to_json(const std::vector<Row>& rows);
std::string to_table(const std::vector<Row>& rows);
// Rate against case, one line for each contender and the limit, as SVG.
std::string to_svg(const std::vector<Row>& rows, const std::string& title);

}  // namespace verbatim::bench
