#include <verbatim/cli/lock.h>

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include <verbatim/core/philox.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/json.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::cli {
namespace {

constexpr const char* kFormat = "verbatim.lock.1";
constexpr size_t kMaxInputs = 4096, kMaxCases = 1024;
// Of all inputs while they are made, 8 for each element: a lock is a file from anybody.
constexpr uint64_t kMaxInputBytes = uint64_t{1} << 30, kElementBytes = 8;

// --- which inputs

// The symbol of a dimension of the program's input `i`: ONNX's own, or what the model builders
// mean.
std::string symbol_of(const Model& model, const GraphInput& in, size_t i, size_t axis) {
  std::string symbol;
  if (model.kind() == ModelKind::onnx)
    symbol = model.onnx().dims[i][axis];
  else if (model.kind() == ModelKind::silero)
    symbol = "batch";
  else
    symbol = in.dims.size() == 2 && axis == 0                          ? "batch"
             : in.dims.size() == 2 || model.kind() == ModelKind::llama ? "tokens"
                                                                       : "batch";
  return symbol.empty() ? in.name + "." + std::to_string(axis) : symbol;
}

// The least number of rows of the tables (constants that a Gather reads) that an integer value
// indexes, directly or reshaped.
std::optional<int64_t> table_rows(const Graph& graph, ValueId input) {
  constexpr std::string_view kSame[] = {"Cast",    "Unsqueeze", "Squeeze", "Reshape",
                                        "Flatten", "Transpose", "Identity"};
  std::set<ValueId> same = {input};
  std::map<ValueId, const Initializer*> constants;
  for (const Initializer& init : graph.initializers) constants.emplace(init.value, &init);
  std::optional<int64_t> least;
  for (const Node& node : graph.nodes) {
    if (node.inputs.empty()) continue;
    if (same.contains(node.inputs[0]) && std::ranges::find(kSame, node.op) != std::end(kSame))
      same.insert(node.outputs[0]);
    if (node.op != "Gather" || node.inputs.size() < 2 || !same.contains(node.inputs[1])) continue;
    const auto table = constants.find(node.inputs[0]);
    const Result<int64_t> axis = node.attributes.get<int64_t>("axis", 0);
    if (table == constants.end() || !axis.ok()) continue;
    const Shape& shape = table->second->tensor.shape();
    const int64_t at = *axis < 0 ? *axis + shape.rank() : *axis;
    if (at >= 0 && at < shape.rank())
      least = std::min(least.value_or(shape[static_cast<int>(at)]), shape[static_cast<int>(at)]);
  }
  return least;
}

class InputChooser {
 public:
  InputChooser(const Model& model, const Graph& graph, LockSettings settings)
      : model_(model), graph_(graph), settings_(std::move(settings)) {}

  Result<std::vector<LockInput>> choose() {
    std::vector<LockInput> inputs;
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      VB_ASSIGN(LockInput in, input(graph_.inputs[i], i));
      inputs.push_back(std::move(in));
    }
    std::string symbols;
    for (const auto& [name, size] : sizes_) symbols += (symbols.empty() ? "" : ", ") + name;
    for (const auto& [name, size] : settings_.dims)
      if (!sizes_.contains(name))
        return usage_error("no open dimension '" + printable(name) + "'" +
                           (symbols.empty() ? "" : ": there are " + printable(symbols)));
    for (const auto& [name, range] : settings_.ranges)
      if (std::ranges::none_of(graph_.inputs, [&](const GraphInput& in) {
            return in.name == name && !is_float(in.dtype);
          }))
        return usage_error("no integer input '" + printable(name) + "'");
    return inputs;
  }

  // An error of a run on the inputs, with the open dimensions that got a size by default.
  Status explain(const Status& status) const {
    std::string unset;
    for (const auto& [name, size] : sizes_)
      if (!settings_.dims.contains(name))
        unset += (unset.empty() ? "" : ", ") + name + " = " + std::to_string(size);
    if (status.ok() || unset.empty()) return status;
    return {status.code(), status.message() + " (open dimensions had no size and got " +
                               printable(unset) + ": give them one with --dim NAME=N)"};
  }

 private:
  Result<LockInput> input(const GraphInput& in, size_t i) {
    LockInput made{in.name, in.dtype, in.dims, false, -1, 1};
    for (size_t axis = 0; axis < in.dims.size(); ++axis) {
      if (in.dims[axis] >= 0) continue;
      const std::string symbol = symbol_of(model_, in, i, axis);
      const auto given = settings_.dims.find(symbol);
      const int64_t usual = axis == 0 || symbol.starts_with("batch") ? 2 : 16;
      made.shape[axis] =
          sizes_.emplace(symbol, given == settings_.dims.end() ? usual : given->second)
              .first->second;
    }
    if (is_float(in.dtype)) return made;
    made.low = 0;
    made.high = table_rows(graph_, in.value).value_or(2) - 1;
    // What the builders' inputs mean beyond their type.
    if (model_.kind() == ModelKind::llama && in.name == "positions") made.ascending = true;
    if (model_.kind() == ModelKind::bert && in.name == "lengths") {
      made.low = 1;
      made.high = sizes_.at("tokens");  // input_ids came before
    }
    if (const auto range = settings_.ranges.find(in.name); range != settings_.ranges.end())
      std::tie(made.low, made.high) = range->second;
    return made;
  }

  const Model& model_;
  const Graph& graph_;
  LockSettings settings_;
  std::map<std::string, int64_t> sizes_;  // of dimensions, by symbol
};

// --- making them

Result<Tensor> cast(const Tensor& t, DType to) {
  if (t.dtype() == to) return t;
  Node node;
  node.op = "Cast";
  node.attributes.set("to", static_cast<int64_t>(to));
  node.outputs = {0};
  VB_ASSIGN(const Tensors out, evaluate_reference(node, {&t, 1}));
  return out[0];
}

Result<Tensor> make_input(const LockInput& in, uint64_t n, uint64_t seed) {
  Result<Shape> shape = Shape::of(in.shape);
  if (!shape.ok()) return shape.status().with_context("input '" + printable(in.name) + "'");
  const auto random = [&](int64_t i) { return philox_u64(seed, static_cast<uint64_t>(i), n); };
  if (is_float(in.dtype)) {
    VB_ASSIGN(Tensor t, Tensor::allocate(DType::f32, *shape));
    const auto out = t.mutable_data<float>();
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(random(static_cast<int64_t>(i)) >> 40) * 0x1p-23f - 1.0f;
    return cast(t, in.dtype);
  }
  if (in.low > in.high) return usage_error("input '" + printable(in.name) + "' has an empty range");
  VB_ASSIGN(Tensor t, Tensor::allocate(DType::i64, *shape));
  const auto out = t.mutable_data<int64_t>();
  // The whole range of 64 bits has 2^64 values: 0 of them, modulo that.
  const uint64_t count = static_cast<uint64_t>(in.high) - static_cast<uint64_t>(in.low) + 1;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t u = random(static_cast<int64_t>(i));
    out[i] =
        in.ascending
            ? static_cast<int64_t>(i)
            : static_cast<int64_t>(static_cast<uint64_t>(in.low) + (count == 0 ? u : u % count));
  }
  return cast(t, in.dtype);
}

Status check_input_sizes(const std::vector<LockInput>& inputs) {
  uint64_t bytes = 0;
  for (const LockInput& in : inputs) {
    const std::string who = "input '" + printable(in.name) + "'";
    const Result<Shape> shape = Shape::of(in.shape);
    if (!shape.ok()) return shape.status().with_context(who);
    const auto elements = static_cast<uint64_t>(shape->elements());
    if (elements > (kMaxInputBytes - bytes) / kElementBytes)
      return over_limit(who + " has " + std::to_string(elements) +
                        " elements: all inputs of a lock may take at most " +
                        std::to_string(kMaxInputBytes) + " bytes, " +
                        std::to_string(kElementBytes) + " for each element");
    bytes += elements * kElementBytes;
  }
  return {};
}

Result<Tensors> make_inputs(const std::vector<LockInput>& inputs, uint64_t seed) {
  VB_TRY(check_input_sizes(inputs));
  Tensors tensors;
  for (size_t n = 0; n < inputs.size(); ++n) {
    VB_ASSIGN(Tensor t, make_input(inputs[n], n, seed));
    tensors.push_back(std::move(t));
  }
  return tensors;
}

Result<LockCase> run_case(const Program& program, const Tensors& inputs, uint64_t seed,
                          Backend& backend) {
  VB_ASSIGN(const RunResult run, run_program(program, backend, inputs));
  LockCase made{seed, {}};
  for (size_t i = 0; i < run.outputs.size(); ++i)
    made.outputs.emplace(program.graph.outputs[i].name, tensor_root(run.outputs[i]));
  return made;
}

// --- the file

Result<Digest> digest_of(const verbatim::Json& object, const std::string& key,
                         const std::string& source) {
  VB_ASSIGN(const std::string hex, json_get<std::string>(object, key.c_str(), "", source));
  const Result<Digest> digest = digest_from_hex(hex);
  return digest.ok() ? digest : digest.status().with_context(source + ": '" + printable(key) + "'");
}

Result<std::map<std::string, Digest>> digests_of(const verbatim::Json& parent, const char* key,
                                                 const std::string& source) {
  const auto it = parent.find(key);
  if (it == parent.end() || !it->is_object())
    return bad_input(source + ": no object '" + key + "'");
  std::map<std::string, Digest> digests;
  for (const auto& [name, value] : it->items()) {
    VB_ASSIGN(const Digest digest, digest_of(*it, name, source + ": " + key));
    digests.emplace(name, digest);
  }
  return digests;
}

Result<std::vector<verbatim::Json>> list_of(const verbatim::Json& parent, const char* key,
                                            size_t most, const std::string& source) {
  const auto it = parent.find(key);
  if (it == parent.end() || !it->is_array()) return bad_input(source + ": no list '" + key + "'");
  if (it->size() > most)
    return over_limit(source + ": '" + key + "' has more than " + std::to_string(most) +
                      " entries");
  for (const verbatim::Json& entry : *it)
    if (!entry.is_object())
      return bad_input(source + ": '" + key + "' holds something else than objects");
  return std::vector<verbatim::Json>(it->begin(), it->end());
}

// What a lock says beyond what this version knows might matter.
Status only_keys(const verbatim::Json& object, std::initializer_list<std::string_view> keys,
                 const std::string& where) {
  for (const auto& [key, value] : object.items())
    if (std::ranges::find(keys, key) == keys.end())
      return bad_input(where + ": unknown key '" + printable(key) + "'");
  return {};
}

DType dtype_named(std::string_view name) {
  constexpr int64_t kMaxOnnxType = 64;
  for (int64_t n = 1; n < kMaxOnnxType; ++n)
    if (name_of(dtype_from_onnx(n)) == name) return dtype_from_onnx(n);
  return DType::undefined;
}

Result<LockInput> parse_input(const verbatim::Json& json, const std::string& source) {
  LockInput in;
  VB_ASSIGN(in.name, json_get<std::string>(json, "name", "", source));
  VB_ASSIGN(const std::string type, json_get<std::string>(json, "dtype", "", source));
  const std::string where = source + ": input '" + printable(in.name) + "'";
  VB_TRY(only_keys(json, {"name", "dtype", "shape", "rule", "low", "high"}, where));
  in.dtype = dtype_named(type);
  if (in.dtype == DType::undefined)
    return bad_input(where + " has no type '" + printable(type) + "'");
  const auto shape = json.find("shape");
  if (shape == json.end() || !shape->is_array() || shape->size() > kMaxRank)
    return bad_input(where + " has no shape");
  for (const verbatim::Json& d : *shape) {
    const std::optional<int64_t> size = json_integer<int64_t>(d);
    if (!size) return bad_input(where + ": '" + printable(d.dump()) + "' is no dimension");
    in.shape.push_back(*size);
  }
  VB_ASSIGN(const std::string rule, json_get<std::string>(json, "rule", "", source));
  if (rule != "uniform" && rule != "ascending")
    return bad_input(where + " has no rule '" + printable(rule) + "'");
  in.ascending = rule == "ascending";
  VB_ASSIGN(in.low, json_get<int64_t>(json, "low", -1, where));
  VB_ASSIGN(in.high, json_get<int64_t>(json, "high", 1, where));
  return in;
}

LockDifference differs(const char* what, const std::string& name, const Digest* locked,
                       const Digest* now) {
  LockDifference d{what, name, locked ? locked->hex() : "", now ? now->hex() : "", ""};
  const std::string subject = std::string(what) + " '" + printable(name) + "'";
  d.said = !now      ? subject + " is gone"
           : !locked ? subject + " is new"
                     : subject + " is another: " + d.now + ", locked " + d.locked;
  return d;
}

void compare(const char* what, const std::string& prefix,
             const std::map<std::string, Digest>& locked, const std::map<std::string, Digest>& now,
             std::vector<LockDifference>& differences) {
  for (const auto& [name, digest] : locked) {
    const auto it = now.find(name);
    const Digest* have = it == now.end() ? nullptr : &it->second;
    if (have == nullptr || *have != digest)
      differences.push_back(differs(what, prefix + name, &digest, have));
  }
  for (const auto& [name, digest] : now)
    if (!locked.contains(name))
      differences.push_back(differs(what, prefix + name, nullptr, &digest));
}

void compare_model(const Lock& lock, const Model& model, std::vector<LockDifference>& found) {
  compare("tensor", "", lock.tensors, model.tensor_roots(), found);
  const Digest root = model.root();
  if (root != lock.root)
    found.push_back({"model", "", lock.root.hex(), root.hex(),
                     found.empty() ? "the model is another, though its tensors are the locked "
                                     "ones: its configuration, tokenizer or graph has changed"
                                   : "so the model is another"});
}

LockDifference not_computed(const char* what, const std::string& name, const std::string& subject,
                            const Status& why) {
  return {what, name, "", "", subject + " cannot be computed: " + printable(why.message())};
}

}  // namespace

std::optional<uint64_t> find_repeated(std::vector<uint64_t> seeds) {
  std::ranges::sort(seeds);
  const auto at = std::ranges::adjacent_find(seeds);
  return at == seeds.end() ? std::nullopt : std::optional(*at);
}

Result<Program> locked_program(const Model& model, const std::string& precision_name) {
  VB_ASSIGN(const Precision precision, parse_precision(precision_name));
  return model.kind() == ModelKind::llama ? model.scoring_program(precision)
                                          : model.program(precision);
}

Result<Lock> make_lock(const Model& model, const LockSettings& settings, Backend& backend) {
  VB_ASSIGN(const Program program, locked_program(model, settings.precision));
  Lock lock;
  lock.semantics = kSemanticsVersion;
  lock.precision = settings.precision;
  lock.root = model.root();
  lock.tensors = model.tensor_roots();
  InputChooser chooser(model, program.graph, settings);
  VB_ASSIGN(lock.inputs, chooser.choose());
  for (const uint64_t seed : settings.seeds) {
    VB_ASSIGN(const Tensors inputs, make_inputs(lock.inputs, seed));
    Result<LockCase> made = run_case(program, inputs, seed, backend);
    if (!made.ok()) return chooser.explain(made.status());
    lock.cases.push_back(*std::move(made));
  }
  return lock;
}

std::string lock_text(const Lock& lock) {
  Json tensors = Json::object(), inputs = Json::array(), cases = Json::array();
  for (const auto& [name, digest] : lock.tensors) tensors[name] = digest.hex();
  for (const LockInput& in : lock.inputs) {
    Json json = {{"name", in.name},
                 {"dtype", name_of(in.dtype)},
                 {"shape", in.shape},
                 {"rule", in.ascending ? "ascending" : "uniform"}};
    if (!is_float(in.dtype) && !in.ascending) json.update({{"low", in.low}, {"high", in.high}});
    inputs.push_back(std::move(json));
  }
  for (const LockCase& c : lock.cases) {
    Json outputs = Json::object();
    for (const auto& [name, digest] : c.outputs) outputs[name] = digest.hex();
    cases.push_back({{"seed", c.seed}, {"outputs", outputs}});
  }
  const Json json = {
      {"format", kFormat},       {"semantics", lock.semantics}, {"precision", lock.precision},
      {"root", lock.root.hex()}, {"tensors", tensors},          {"inputs", inputs},
      {"cases", cases}};
  return json.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

Result<Lock> parse_lock(std::string_view text, const std::string& source) {
  VB_ASSIGN(const verbatim::Json json, parse_json(text, source));
  if (!json.is_object()) return bad_input(source + ": not a JSON object");
  VB_ASSIGN(const std::string format, json_get<std::string>(json, "format", "", source));
  if (format != kFormat) return bad_input(source + ": its format is not " + kFormat);
  VB_TRY(only_keys(json, {"format", "semantics", "precision", "root", "tensors", "inputs", "cases"},
                   source));
  Lock lock;
  VB_ASSIGN(lock.semantics, json_get<uint32_t>(json, "semantics", 0, source));
  VB_ASSIGN(lock.precision, json_get<std::string>(json, "precision", "", source));
  if (!parse_precision(lock.precision).ok())
    return bad_input(source + ": no precision '" + printable(lock.precision) + "'");
  VB_ASSIGN(lock.root, digest_of(json, "root", source));
  VB_ASSIGN(lock.tensors, digests_of(json, "tensors", source));
  VB_ASSIGN(const auto inputs, list_of(json, "inputs", kMaxInputs, source));
  for (const verbatim::Json& in : inputs) {
    VB_ASSIGN(LockInput parsed, parse_input(in, source));
    lock.inputs.push_back(std::move(parsed));
  }
  VB_ASSIGN(const auto cases, list_of(json, "cases", kMaxCases, source));
  if (cases.empty()) return bad_input(source + ": a lock without a case proves nothing");
  for (const verbatim::Json& c : cases) {
    LockCase parsed;
    VB_TRY(only_keys(c, {"seed", "outputs"}, source + ": cases"));
    if (!c.contains("seed")) return bad_input(source + ": a case has no seed");
    VB_ASSIGN(parsed.seed, json_get<uint64_t>(c, "seed", 0, source));
    VB_ASSIGN(parsed.outputs, digests_of(c, "outputs", source));
    lock.cases.push_back(std::move(parsed));
  }
  std::vector<uint64_t> seeds;
  for (const LockCase& c : lock.cases) seeds.push_back(c.seed);
  if (const auto twice = find_repeated(seeds))
    return bad_input(source + ": seed " + std::to_string(*twice) + " has two cases");
  return lock;
}

Result<std::vector<LockDifference>> check_lock(const Lock& lock, const Model& model,
                                               Backend& backend) {
  std::vector<LockDifference> found;
  if (lock.semantics != kSemanticsVersion) {
    // Whatever else differs follows from it.
    const std::string locked = std::to_string(lock.semantics),
                      now = std::to_string(kSemanticsVersion);
    found.push_back(
        {"semantics", "", locked, now,
         "the numeric semantics are version " + now + ", the lock's are version " + locked});
    return found;
  }
  compare_model(lock, model, found);
  const bool same_model = found.empty();
  const Result<Program> program = locked_program(model, lock.precision);
  if (!program.ok()) {
    if (same_model) return program.status();
    found.push_back(not_computed("program", "", "the model", program.status()));
    return found;
  }
  const auto same_name = [](const LockInput& a, const GraphInput& b) { return a.name == b.name; };
  if (!std::ranges::equal(lock.inputs, program->graph.inputs, same_name)) {
    found.push_back(
        {"input", "", "", "",
         "the model's inputs are others than the lock's: its outputs were not compared"});
    return found;
  }
  for (const LockCase& c : lock.cases) {
    const std::string seed = "seed " + std::to_string(c.seed);
    VB_ASSIGN(const Tensors inputs, make_inputs(lock.inputs, c.seed));
    const Result<LockCase> now = run_case(*program, inputs, c.seed, backend);
    if (now.ok())
      compare("output", seed + ": ", c.outputs, now->outputs, found);
    else if (same_model)
      return now.status().with_context(seed);
    else
      found.push_back(not_computed("output", seed, "outputs of " + seed, now.status()));
  }
  return found;
}

}  // namespace verbatim::cli
