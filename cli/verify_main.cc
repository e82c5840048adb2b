// verbatim-verify: judges receipts and transcripts. Small, static, without network, threads or fast
// kernels: what it decides rests on the scalar reference alone.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <new>

#include <verbatim/cli/options.h>
#include <verbatim/cli/verdicts.h>
#include <verbatim/verify/dispute.h>

namespace {

using namespace verbatim;

int fail(const Status& status) {
  std::fprintf(stderr, "verbatim-verify: %s\n", printable(status.message()).c_str());
  return exit_code(status.code());
}

void print(bool json, const nlohmann::ordered_json& document, const std::string& text) {
  std::fputs(
      (json ? document.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n"
            : text)
          .c_str(),
      stdout);
}

int judge_transcript(const std::string& path, const NodeLimits& limits, bool json) {
  const auto start = std::chrono::steady_clock::now();
  const Result<Transcript> transcript = Transcript::open(path);
  if (!transcript.ok()) return fail(transcript.status());
  const Result<Verdict> verdict = judge(*transcript, {limits});
  if (!verdict.ok()) return fail(verdict.status());
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  const std::vector<std::string> names = transcript->party_names();
  print(json, cli::verdict_json(*verdict, names, {ms, cli::peak_rss_bytes()}),
        cli::verdict_text(*verdict, names));
  return exit_code(verdict->outcome);
}

int validate(const std::string& path, bool json) {
  const Result<Receipt> receipt = read_receipt(path);
  if (!receipt.ok()) return fail(receipt.status());
  const ReceiptReport report = validate_receipt(*receipt);
  print(json, cli::report_json(report), cli::report_text(report));
  return cli::report_exit_code(report);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Judges Verbatim receipts and dispute transcripts, offline.", "verbatim-verify");
  app.require_subcommand(1);
  bool json = false;
  std::string path;
  NodeLimits limits = cli::judging_limits();
  int code = 0;
  CLI::App& transcript = *app.add_subcommand(
      "transcript", "Judge a dispute again and compare with its recorded verdict, byte for byte");
  CLI::App& receipt =
      *app.add_subcommand("receipt", "Check a receipt's form, hashes and signature");
  for (CLI::App* c : {&transcript, &receipt}) {
    c->add_option("file", path, "The file")->required();
    c->add_flag("--json", json, "Print one JSON document on stdout");
  }
  cli::add_limit_flags(transcript, limits);
  transcript.callback([&] { code = judge_transcript(path, limits, json); });
  receipt.callback([&] { code = validate(path, json); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  } catch (const std::bad_alloc&) {
    return fail(over_limit("out of memory"));
  } catch (const std::exception& error) {
    return fail(internal_error(error.what()));
  }
  // A verdict that did not reach its reader is none.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    return fail(unavailable("cannot write to standard output"));
  return code;
}
