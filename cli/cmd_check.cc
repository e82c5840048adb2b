// selftest, conformance, replay: does this machine compute what the contract says?
#include <algorithm>
#include <filesystem>

#include <verbatim/cli/common.h>
#include <verbatim/cli/conformance.h>
#include <verbatim/cli/selftest.h>
#include <verbatim/core/file.h>
#include <verbatim/repops/replay.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::cli {
namespace {

Result<int> selftest(const Context& context, uint64_t seed) {
  VB_ASSIGN(const auto backend, context.make_backend());
  VB_ASSIGN(const SelftestDigests digests, run_selftest(*backend, seed));
  const auto* golden = golden_digests(seed);
  std::string state = golden == nullptr ? "none for this seed" : "match", text;
  Json groups = Json::object();
  for (const auto& [group, digest] : digests) {
    groups[group] = digest.hex();
    const bool differs =
        golden != nullptr && (!golden->contains(group) || golden->at(group) != digest.hex());
    if (differs) state = "differ";
    text +=
        digest.hex() + "  " + group + (differs ? "  DIFFERS from the golden digest" : "") + "\n";
  }
  const Json json = {{"semantics", kSemanticsVersion},
                     {"backend", backend->name()},
                     {"seed", seed},
                     {"digests", groups},
                     {"golden", state}};
  print_result(context, json,
               text + "golden digests: " + state + "  (" + std::string(backend->name()) +
                   ", seed " + std::to_string(seed) + ")\n");
  return state == "differ" ? kRefuted : kDone;
}

Result<int> conformance(const Context& context, const std::string& dir) {
  VB_ASSIGN(const auto backend, context.make_backend());
  VB_ASSIGN(const ConformanceReport report, run_conformance(dir, *backend));
  Json cases = Json::array();
  std::string text;
  for (const ConformanceCase& c : report.cases) {
    cases.push_back({{"name", c.name}, {"status", c.status}, {"reason", c.reason}});
    if (c.status != "passed") text += c.status + "  " + c.name + ": " + c.reason + "\n";
  }
  const Json json = {{"passed", report.passed},
                     {"failed", report.failed},
                     {"unsupported", report.unsupported},
                     {"cases", cases}};
  text += std::to_string(report.passed) + " passed, " + std::to_string(report.failed) +
          " failed, " + std::to_string(report.unsupported) + " unsupported\n";
  print_result(context, json, text);
  if (report.passed + report.failed == 0)
    return bad_input(
        dir +
        ": no case was run: a folder of cases holds CASE/model.onnx and CASE/test_data_set_0");
  return report.failed == 0 ? kDone : kRefuted;
}

Result<int> replay(const Context& context, const std::vector<std::string>& files) {
  VB_ASSIGN(const auto backend, context.make_backend());
  constexpr size_t kMaxReplayBytes = size_t{1} << 30;
  int64_t passed = 0, failed = 0;
  Json cases = Json::array();
  std::string text;
  for (const std::string& file : files) {
    VB_ASSIGN(const Bytes bytes, read_file(file, kMaxReplayBytes));
    VB_ASSIGN(const Replay r, decode_replay(bytes, file));
    VB_ASSIGN(const std::string difference, run_replay(r, *backend));
    (difference.empty() ? passed : failed)++;
    cases.push_back({{"file", file},
                     {"status", difference.empty() ? "passed" : "failed"},
                     {"reason", difference}});
    if (!difference.empty()) text += file + ": " + difference + "\n";
  }
  text += std::to_string(passed) + " passed, " + std::to_string(failed) + " failed (" +
          std::string(backend->name()) + ")\n";
  print_result(
      context,
      {{"passed", passed}, {"failed", failed}, {"backend", backend->name()}, {"cases", cases}},
      text);
  return failed == 0 ? kDone : kRefuted;
}

}  // namespace

void register_check(CLI::App& app, Context& context) {
  {
    auto seed = std::make_shared<uint64_t>(1);
    CLI::App& c = *app.add_subcommand(
        "selftest",
        "Digest every operator group on inputs made from a seed; equal digests mean equal bits");
    c.add_option("--seed", *seed, "Seed of the inputs; seed 1 has golden digests")
        ->check(whole_number(0, ~uint64_t{0}))
        ->capture_default_str();
    add_backend_flags(c, context);
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return selftest(context, *seed); });
  }
  {
    auto dir = std::make_shared<std::string>();
    CLI::App& c = *app.add_subcommand(
        "conformance", "Run ONNX backend test cases (CASE/model.onnx, CASE/test_data_set_0/*.pb)");
    c.add_option("dir", *dir, "Folder of cases")->required()->check(CLI::ExistingDirectory);
    add_backend_flags(c, context);
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return conformance(context, *dir); });
  }
  {
    auto files = std::make_shared<std::vector<std::string>>();
    CLI::App& c =
        *app.add_subcommand("replay", "Run replay files and compare with the digests they record");
    c.add_option("files", *files, "Replay files (.vreplay)")->required();
    add_backend_flags(c, context);
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return replay(context, *files); });
  }
}

}  // namespace verbatim::cli
