// verbatim-bench [PREFIX]: how fast our kernels are beside the libraries that people use now.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <fstream>
#include <iostream>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/gpu.h>
#include <verbatim/cli/bench/peers.h>
#include <verbatim/core/cpu.h>
#include <verbatim/core/parallel.h>
#include <verbatim/kernels/backend.h>

namespace {

using namespace verbatim;
using namespace verbatim::bench;

constexpr int kFailed = 1, kUsage = 64, kUnavailable = 69;

constexpr const char* kAbout =
    "Our kernels and their peers, taking turns: medians of the rates, and their "
    "ratio (above 1 where ours is faster).\n\n"
    "  verbatim-bench                       everything, on 1 thread and on all\n"
    "  verbatim-bench gemm_f32 --threads 1  one family of cases\n"
    "  verbatim-bench gemm --plot gemm.svg --json\n"
    "  verbatim-bench --list\n"
    "  verbatim-bench --backend cuda        the GPU's own cases, and committed runs\n\n"
    "Peers: OpenBLAS, oneDNN, Eigen, and ONNX Runtime for whole models; cuBLAS and cuBLASLt on a "
    "GPU. What a peer can prepare once for constant weights is not "
    "timed, nor is ours. The limit is\n"
    "measured too: multiply-adds in registers, reading memory (on a GPU copying it), one stream of "
    "SHA-256 a thread.\n\n"
    "VERBATIM_CPU_DISABLE=amx_int8 (or avx512_vnni,amx_int8; verbatim doctor names all) measures "
    "without, oneDNN too.";

struct Options {
  std::string prefix, backend = "auto", plot;
  ModelFiles files{"", "", "python3"};
  std::vector<int> threads;
  bool json = false, list = false;
  Settings settings;
};

std::vector<Row> run(const std::vector<Case>& cases, const Options& o, Backend& backend,
                     int& failures) {
  std::vector<Row> rows;
  for (const Case& c : cases) {
    for (const int threads : o.threads) {
      std::fprintf(stderr, "\r%-70s",
                   (c.name + " " + c.shape + ", threads " + std::to_string(threads)).c_str());
      const Result<std::vector<Row>> measured = measure(c, backend, threads, o.settings);
      if (measured.ok()) {
        rows.insert(rows.end(), measured->begin(), measured->end());
      } else {
        const bool skipped = measured.status().code() == StatusCode::unavailable;
        std::fprintf(stderr, "\nverbatim-bench: %s%s %s: %s\n", skipped ? "skipped: " : "",
                     c.name.c_str(), c.shape.c_str(), measured.status().message().c_str());
        failures += skipped ? 0 : 1;
      }
    }
  }
  std::fprintf(stderr, "\r%-70s\r", "");
  return rows;
}

void define(CLI::App& app, Options& o) {
  app.add_option("prefix", o.prefix,
                 "Cases whose name and shape start so: gemm_f32, \"gemm_f32 512\"");
  app.add_option("--backend", o.backend, "auto, reference, avx2, avx512, neon, cuda")
      ->capture_default_str();
  app.add_option("--threads", o.threads, "Numbers of threads (default: 1 and all)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  app.add_option("--samples", o.settings.samples, "Samples of each contender")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--seconds", o.settings.seconds, "Least length of a sample")
      ->check(CLI::Range(0.0, 60.0))
      ->capture_default_str();
  app.add_option("--minilm", o.files.minilm, "Model folder for the cases of whole models")
      ->envname("VERBATIM_MINILM")
      ->type_name("FOLDER");
  app.add_option("--llama", o.files.llama, "The same of a Llama-type model")
      ->envname("VERBATIM_LLAMA")
      ->type_name("FOLDER");
  app.add_option(
         "--python", o.files.python,
         "Python that has ONNX Runtime, for whole models, or PyTorch and Transformers, on a GPU")
      ->envname("VERBATIM_PYTHON")
      ->type_name("PROGRAM")
      ->capture_default_str();
  app.add_option("--plot", o.plot, "Draw the rates into this SVG file");
  app.add_flag("--json", o.json, "One JSON document on standard output");
  app.add_flag("--list", o.list, "Name the cases, run nothing");
}

// Those of the processor or of the GPU that `o` chooses.
std::vector<Case> chosen_cases(const Options& o, bool of_gpu) {
  std::vector<Case> cases;
  if (of_gpu) {
    gpu::add_cases(cases, o.files);
    add_committed_cases(cases, o.files);
  } else {
    add_product_cases(cases);
    add_attention_cases(cases);
    add_convolution_cases(cases);
    add_reduction_cases(cases);
    add_hash_cases(cases);
    add_low_bit_cases(cases);
    add_committed_cases(cases, o.files);
    add_model_cases(cases, o.files);
  }
  std::erase_if(cases,
                [&](const Case& c) { return !(c.name + " " + c.shape).starts_with(o.prefix); });
  if (cases.empty())
    std::fprintf(stderr, "verbatim-bench: no case starts with '%s'; --list names them\n",
                 o.prefix.c_str());
  return cases;
}

int list(const Options& o) {
  const std::vector<Case> cases = chosen_cases(o, o.backend == "cuda");
  for (const Case& c : cases) std::printf("%s %s\n", c.name.c_str(), c.shape.c_str());
  return cases.empty() ? kUsage : 0;
}

// What it runs on: the head of the report.
std::string heading_of(const gpu::Description& d) {
  char clocks[64];
  std::snprintf(clocks, sizeof clocks, "%.0f MHz under load, at most %.0f", d.clock, d.most_clock);
  return d.name + ", driver " + d.driver + ", multiprocessors at " + clocks;
}

int report(const Options& o, const std::vector<Row>& rows, const std::string& heading) {
  std::fputs((o.json ? to_json(rows) : heading + "\n\n" + to_table(rows)).c_str(), stdout);
  if (o.plot.empty()) return 0;
  std::ofstream file(o.plot);
  file << to_svg(rows, o.prefix.empty() ? "verbatim-bench" : o.prefix);
  if (file.flush()) return 0;
  std::fprintf(stderr, "verbatim-bench: cannot write %s\n", o.plot.c_str());
  return kUnavailable;
}

// The device's own time is measured, and whole runs, which one thread of the host drives.
int run_on_gpu(Options& o, const std::vector<Case>& cases, Backend& backend) {
  const Result<gpu::Description> device = gpu::describe();
  require(device.status());
  const std::string heading = heading_of(*device);
  std::fprintf(stderr, "%s\n", heading.c_str());
  for (const std::string& absent : gpu::absent_peers())
    std::fprintf(stderr, "not compared with %s\n", absent.c_str());
  o.threads = {1};
  int failures = 0;
  std::vector<Row> rows = run(cases, o, backend, failures);
  for (Row& r : rows) {
    r.device = device->name;
    r.driver = device->driver;
  }
  const int reported = report(o, rows, heading);
  return reported != 0 ? reported : failures == 0 ? 0 : kFailed;
}

int run_on_processor(Options& o, const std::vector<Case>& cases, Backend& backend) {
  if (o.threads.empty()) {
    o.threads = {1};
    if (thread_count() > 1) o.threads.push_back(thread_count());
  }
  for (const std::string& absent : absent_peers())
    std::fprintf(stderr, "not compared with %s\n", absent.c_str());
  int failures = 0;
  const std::vector<Row> rows = run(cases, o, backend, failures);
  const int reported = report(o, rows, cpu_model_name());
  return reported != 0 ? reported : failures == 0 ? 0 : kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(kAbout, "verbatim-bench");
  Options o;
  define(app, o);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  if (o.list) return list(o);
  limit_onednn();
  const Result<std::unique_ptr<Backend>> backend = make_backend(o.backend);
  if (!backend.ok()) {
    std::fprintf(stderr, "verbatim-bench: %s\n", backend.status().message().c_str());
    return kUnavailable;
  }
  const bool of_gpu = (*backend)->name() == "cuda";
  const std::vector<Case> cases = chosen_cases(o, of_gpu);
  if (cases.empty()) return kUsage;
  return (of_gpu ? run_on_gpu : run_on_processor)(o, cases, **backend);
}
