#include <verbatim/cli/common.h>

#include <unistd.h>

#include <cstdio>
#include <new>

#include <verbatim/core/codec.h>
#include <verbatim/core/fp_guard.h>
#include <verbatim/core/parallel.h>
#include <verbatim/kernels/backend.h>

namespace verbatim::cli {
namespace {

std::string scaled(double n, const char* const* units, int count, double base) {
  int u = 0;
  while (n >= base && u + 1 < count) {
    n /= base;
    ++u;
  }
  char text[32];
  std::snprintf(text, sizeof text, u == 0 ? "%.0f %s" : "%.2f %s", n, units[u]);
  return text;
}

// "verbatim dispute run"
std::string path_of(const CLI::App* command) {
  const CLI::App* parent = command->get_parent();
  return parent == nullptr ? command->get_name() : path_of(parent) + " " + command->get_name();
}

// Our own code throws nothing, the libraries below it may: memory that ran out is a limit, not a
// crash.
Result<int> guarded(const std::function<Result<int>()>& body) {
  try {
    VB_TRY(check_float_assertion());
    return body();
  } catch (const std::bad_alloc&) {
    return over_limit("out of memory");
  } catch (const std::exception& error) {
    return internal_error(error.what());
  }
}

}  // namespace

Result<std::unique_ptr<Backend>> Context::make_backend() const {
  if (threads > 0) set_thread_count(threads);
  return verbatim::make_backend(backend);
}

void add_json_flag(CLI::App& command, Context& context) {
  command.add_flag("--json", context.json, "Print one JSON document on stdout");
}

void add_backend_flags(CLI::App& command, Context& context) {
  command.add_option("--backend", context.backend,
                     "reference, avx2, avx512, neon or cuda; exits 69 where it cannot run. "
                     "Default: VERBATIM_BACKEND, else the fastest here");
  command
      .add_option("--threads", context.threads,
                  "Threads to use; the result never depends on it. Default: all")
      ->check(CLI::Range(1, 1024));
}

void on_run(CLI::App& command, Context& context, std::function<Result<int>()> body) {
  command.callback([&command, &context, body = std::move(body)] {
    const Result<int> result = guarded(body);
    if (result.ok()) {
      context.exit_code = *result;
      return;
    }
    context.exit_code = exit_code(result.status().code());
    // Messages quote names from files: what a terminal would obey must not reach it.
    std::fprintf(stderr, "%s: %s\n", path_of(&command).c_str(),
                 printable(result.status().message()).c_str());
  });
}

void print_result(const Context& context, const Json& json, const std::string& text) {
  const std::string out =
      context.json ? json.dump(-1, ' ', false, Json::error_handler_t::replace) : text;
  std::fputs(out.c_str(), stdout);
  if (out.empty() || out.back() != '\n') std::fputc('\n', stdout);
  std::fflush(stdout);
}

Progress::Progress(std::string what)
    : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

void Progress::update(const std::string& state) {
  if (!terminal_) return;
  shown_ = true;
  std::fprintf(stderr, "\r\033[K%s: %s", what_.c_str(), state.c_str());
  std::fflush(stderr);
}

std::string format_count(double n) {
  constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  return scaled(n, kUnits, 5, 1000);
}

std::string format_bytes(double n) {
  constexpr const char* kUnits[] = {"bytes", "kB", "MB", "GB", "TB"};
  return scaled(n, kUnits, 5, 1000);
}

}  // namespace verbatim::cli
