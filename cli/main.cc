// The command line: verbatim COMMAND ...
#include <cstdio>
#include <cstdlib>

#include <verbatim/cli/common.h>
#include <verbatim/repops/semantics.h>

namespace {

constexpr const char* kAbout =
    "Machine learning that computes the same bits on every machine, and lets anyone check it.\n\n"
    "Run a model and keep a receipt:\n"
    "  verbatim embed MODEL --text \"Hello\" --receipt hello.vreceipt\n"
    "  verbatim receipt verify hello.vreceipt --model MODEL\n"
    "Settle a dispute between providers that disagree:\n"
    "  verbatim task create MODEL --text \"Hello\" -o hello.vtask\n"
    "  verbatim provider serve --listen 127.0.0.1:7001 --model MODEL     (one process each)\n"
    "  verbatim dispute run --task hello.vtask --provider 127.0.0.1:7001 --provider 127.0.0.1:7002 "
    "-o hello.vtranscript\n"
    "  verbatim referee judge hello.vtranscript\n"
    "Check this machine:\n"
    "  verbatim doctor; verbatim selftest";

constexpr const char* kFooter =
    "Exit codes: 0 done, settled or verified; 1 refuted, mismatch or failed cases; 2 could not "
    "check; 3 forfeit;\n"
    "64 wrong usage; 65 bad input; 69 something needed is not available.";

}  // namespace

int main(int argc, char** argv) {
  // gRPC logs on its own what our errors say; a user who wants that sets the variable.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);
  CLI::App app(kAbout, "verbatim");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", "verbatim 0.1.0, numeric semantics version " +
                                        std::to_string(verbatim::kSemanticsVersion));
  app.option_defaults()->always_capture_default(false);
  verbatim::cli::Context context;
  verbatim::cli::register_run(app, context);
  verbatim::cli::register_model(app, context);
  verbatim::cli::register_lock(app, context);
  verbatim::cli::register_eval(app, context);
  verbatim::cli::register_train(app, context);
  verbatim::cli::register_check(app, context);
  verbatim::cli::register_receipt(app, context);
  verbatim::cli::register_dispute(app, context);
  verbatim::cli::register_doctor(app, context);
  verbatim::cli::register_completion(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error, std::cout, std::cerr);
    return code == 0 ? 0 : verbatim::cli::kUsage;
  }
  // A result that did not reach its reader is no success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fputs("verbatim: cannot write to standard output\n", stderr);
    return 69;
  }
  return context.exit_code;
}
