// lock: a model's digests in a file, and whether they still hold.
#include <charconv>

#include <verbatim/cli/common.h>
#include <verbatim/cli/lock.h>
#include <verbatim/cli/outputs.h>
#include <verbatim/core/file.h>

namespace verbatim::cli {
namespace {

struct LockFlags {
  std::string model, output, check, precision = "fp32";
  std::vector<std::string> dims, ranges;
  std::vector<uint64_t> seeds = {1, 2};
};

Result<int64_t> integer(const std::string& text, const std::string& flag) {
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || last != end)
    return usage_error("not a whole number: '" + printable(flag) + "'");
  return value;
}

// "NAME=TEXT"
Result<std::pair<std::string, std::string>> named(const std::string& flag, const char* form) {
  const size_t equals = flag.rfind('=');
  if (equals == std::string::npos || equals == 0)
    return usage_error(std::string("it takes ") + form + ", not '" + printable(flag) + "'");
  return std::pair(flag.substr(0, equals), flag.substr(equals + 1));
}

Result<LockSettings> settings_of(const LockFlags& flags) {
  LockSettings settings;
  settings.precision = flags.precision;
  settings.seeds = flags.seeds;
  if (const auto twice = find_repeated(settings.seeds))
    return usage_error("--seed " + std::to_string(*twice) + " is given twice");
  for (const std::string& flag : flags.dims) {
    VB_ASSIGN(const auto dim, named(flag, "--dim NAME=N"));
    VB_ASSIGN(settings.dims[dim.first], integer(dim.second, flag));
    if (settings.dims[dim.first] < 0)
      return usage_error("a dimension is at least 0: '" + printable(flag) + "'");
  }
  for (const std::string& flag : flags.ranges) {
    VB_ASSIGN(const auto range, named(flag, "--range INPUT=LOW:HIGH"));
    const size_t colon = range.second.find(':');
    if (colon == std::string::npos)
      return usage_error("it takes --range INPUT=LOW:HIGH, not '" + printable(flag) + "'");
    VB_ASSIGN(const int64_t low, integer(range.second.substr(0, colon), flag));
    VB_ASSIGN(const int64_t high, integer(range.second.substr(colon + 1), flag));
    if (low > high) return usage_error("an empty range: '" + printable(flag) + "'");
    settings.ranges[range.first] = {low, high};
  }
  return settings;
}

Result<int> check(const Context& context, const Model& model, const std::string& path,
                  Backend& backend) {
  constexpr size_t kMaxLockBytes = size_t{64} << 20;
  VB_ASSIGN(const Bytes bytes, read_file(path, kMaxLockBytes));
  VB_ASSIGN(const Lock lock, parse_lock(as_chars(bytes), path));
  const Result<std::vector<LockDifference>> checked = check_lock(lock, model, backend);
  if (!checked.ok()) return checked.status().with_context(path);
  const std::vector<LockDifference>& found = *checked;
  Json differences = Json::array();
  std::string text;
  for (const LockDifference& d : found) {
    differences.push_back({{"what", d.what},
                           {"name", d.name},
                           {"locked", d.locked},
                           {"now", d.now},
                           {"said", d.said}});
    text += d.said + "\n";
  }
  if (found.empty())
    text = "the model is the locked one: " + std::to_string(lock.tensors.size()) +
           " tensors, outputs for " + std::to_string(lock.cases.size()) + " seed(s)  (" +
           std::string(backend.name()) + ")\n";
  print_result(
      context,
      {{"equal", found.empty()}, {"backend", backend.name()}, {"differences", differences}}, text);
  return found.empty() ? kDone : kRefuted;
}

Result<int> lock(const Context& context, const LockFlags& flags) {
  VB_ASSIGN(const LockSettings settings, settings_of(flags));
  VB_TRY(check_output_file(flags.output, {flags.model}));
  VB_ASSIGN(const auto backend, context.make_backend());
  VB_ASSIGN(const auto model, Model::load(flags.model));
  if (!flags.check.empty()) return check(context, *model, flags.check, *backend);
  VB_ASSIGN(const Lock made, make_lock(*model, settings, *backend));
  const std::string text = lock_text(made);
  if (flags.output.empty()) {
    print_result(context, Json::parse(text), text);
    return kDone;
  }
  VB_TRY(write_file(flags.output, as_bytes(text)));
  print_result(context, {{"file", flags.output}, {"root", made.root.hex()}},
               "root " + made.root.hex() + "  " + flags.output + "\n");
  return kDone;
}

}  // namespace

void register_lock(CLI::App& app, Context& context) {
  auto flags = std::make_shared<LockFlags>();
  CLI::App& c = *app.add_subcommand(
      "lock", "Write down what a model is and computes, or check that it still is and does");
  c.add_option("model", flags->model, "A model folder, an .onnx or a .safetensors file")
      ->required();
  CLI::Option* output =
      c.add_option("-o,--output", flags->output, "File to write; default: standard output")
          ->type_name("FILE");
  CLI::Option* check =
      c.add_option("--check", flags->check,
                   "Check FILE instead: exit code 1, and what differs in plain words")
          ->type_name("FILE");
  check->excludes(output);
  for (CLI::Option* o :
       {c.add_option("--precision", flags->precision, "As in run"),
        c.add_option("--dim", flags->dims,
                     "NAME=N: the size of a dimension that the model leaves open (INPUT.AXIS where "
                     "it has no name). Default: 2 "
                     "for the first of an input, else 16")
            ->type_name("NAME=N"),
        c.add_option("--range", flags->ranges,
                     "INPUT=LOW:HIGH: what an integer input holds. Default: what the table that it "
                     "indexes has, else 0:1")
            ->type_name("INPUT=LOW:HIGH"),
        c.add_option("--seed", flags->seeds, "Seed of inputs, again for more. Default: 1 and 2")
            ->check(whole_number(0, ~uint64_t{0}))})
    check->excludes(o);
  add_backend_flags(c, context);
  add_json_flag(c, context);
  on_run(c, context, [=, &context] { return lock(context, *flags); });
}

}  // namespace verbatim::cli
