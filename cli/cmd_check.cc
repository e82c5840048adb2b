// selftest, conformance, replay, prove: does this machine compute what the contract says?
#include <algorithm>
#include <filesystem>

#include <verbatim/cli/common.h>
#include <verbatim/cli/conformance.h>
#include <verbatim/cli/prove.h>
#include <verbatim/core/file.h>
#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/replay.h>
#include <verbatim/repops/selftest.h>
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

Result<std::vector<Unary>> functions_named(const std::vector<std::string>& names) {
  std::vector<Unary> functions;
  std::string known;
  for (int i = 0; i < kUnaryCount; ++i) {
    const auto f = static_cast<Unary>(i);
    known += (i == 0 ? "" : ", ") + std::string(name_of(f));
    if (names.empty() || std::ranges::find(names, name_of(f)) != names.end())
      functions.push_back(f);
  }
  for (const std::string& name : names)
    if (std::ranges::find(functions, name, [](Unary f) { return name_of(f); }) == functions.end())
      return usage_error("no function '" + name + "': there are " + known);
  return functions;
}

Result<int> prove_functions(const Context& context, const std::vector<std::string>& names,
                            const std::string& range_text, bool oracle) {
  VB_ASSIGN(const std::vector<Unary> functions, functions_named(names));
  InputRange range;
  if (!range_text.empty()) {
    VB_ASSIGN(range, parse_input_range(range_text));
  }
  if (context.threads > 0) set_thread_count(context.threads);
  VB_ASSIGN(const auto prover, make_unary_prover(context.backend, oracle ? proven : kNoOracle));
  Json json = Json::object();
  std::string text;
  bool right = true;
  for (const Unary f : functions) {
    const std::string name(name_of(f));
    Progress progress(name);
    const Stopwatch watch;
    const auto show = [&](uint64_t done) {
      const double left =
          watch.seconds() / static_cast<double>(done) * static_cast<double>(range.count - done);
      progress.update(std::to_string(100 * done / range.count) + " %, " +
                      std::to_string(static_cast<int64_t>(left)) + " s left");
    };
    VB_ASSIGN(const UnaryProof proof, prove_unary(*prover, f, range, show));
    json[name] = {{"inputs", proof.inputs},
                  {"wrong", oracle ? Json(proof.wrong) : Json()},
                  {"digest", proof.digest.hex()},
                  {"backend", prover->name()}};
    text += proof.digest.hex() + "  " + name + ": " + std::to_string(proof.inputs) + " inputs" +
            (oracle ? ", " + std::to_string(proof.wrong) + " wrong" : ", not judged");
    if (proof.first_wrong) {
      const std::string bits = element_hex(DType::f32, *proof.first_wrong);
      json[name]["first_wrong"] = bits;
      text += ", the first of bits " + bits;
    }
    text += "\n";
    right = right && proof.wrong == 0;
  }
  print_result(context, json, text);
  return right ? kDone : kRefuted;
}

void register_prove(CLI::App& app, Context& context) {
  CLI::App& prove = *app.add_subcommand("prove", "Check functions on every input there is");
  prove.require_subcommand(1);
  auto names = std::make_shared<std::vector<std::string>>();
  auto range = std::make_shared<std::string>();
  auto no_oracle = std::make_shared<bool>(false);
  CLI::App& c = *prove.add_subcommand(
      "unary",
      "All 2^32 inputs of the unary functions, each result against a double-double value that must "
      "be clear of every boundary of rounding");
  c.add_option("--function", *names, "Only this function (again for more)");
  c.add_option("--range", *range, "FIRST:COUNT: only the inputs of these bits; 0x for hexadecimal");
  c.add_flag("--no-oracle", *no_oracle, "Digest the results without judging them: much faster");
  add_backend_flags(c, context);
  c.get_option("--backend")
      ->description(
          "What computes: as for run, or cuda. The oracle runs beside it (2^32 inputs of one "
          "function: seconds on a GPU, about an hour of one core)");
  add_json_flag(c, context);
  on_run(c, context,
         [=, &context] { return prove_functions(context, *names, *range, !*no_oracle); });
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
  register_prove(app, context);
}

}  // namespace verbatim::cli
