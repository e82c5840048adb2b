#include <verbatim/cli/conformance.h>

#include <algorithm>
#include <filesystem>

#include <verbatim/core/file.h>
#include <verbatim/core/fp_guard.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/onnx/import.h>
#include <verbatim/repops/ops/number.h>

namespace verbatim {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFileBytes = size_t{1} << 30;
constexpr double kRelative = 1e-3, kAbsolute = 1e-7;

bool close(double have, double want, double absolute) {
  if (have == want || (is_nan(have) && is_nan(want))) return true;
  const double distance = have > want ? have - want : want - have;
  return distance <= absolute + kRelative * (want < 0 ? -want : want);
}

// What is wanted of a Fourier transform was computed by one in binary32: where waves cancel, it is
// off by as much as the greatest element's rounding.
double absolute_tolerance(const Graph& graph, const Tensor& want) {
  const auto transforms = [](const Node& n) { return n.op == "DFT"; };
  if (want.dtype() != DType::f32 || std::ranges::none_of(graph.nodes, transforms)) return kAbsolute;
  double greatest = 0;
  for (const float v : want.data<float>())
    greatest = std::max(greatest, static_cast<double>(v < 0 ? -v : v));
  return kAbsolute + 0x1p-24 * greatest;
}

// Empty where `have` is what was wanted.
std::string difference(const Tensor& have, const Tensor& want, double absolute) {
  if (have.dtype() != want.dtype() || !(have.shape() == want.shape()))
    return "is " + have.describe() + ", expected " + want.describe();
  return visit_dtype<std::string>(have.dtype(), "undefined", [&](auto type) -> std::string {
    using T = decltype(type);
    for (int64_t i = 0; i < have.elements(); ++i) {
      const auto a = load(have.data<T>()[i]), b = load(want.data<T>()[i]);
      bool same = a == b;
      if constexpr (std::is_floating_point_v<Compute<T>>) same = close(a, b, absolute);
      if (!same)
        return "element " + std::to_string(i) + " is " + std::to_string(a) + ", expected " +
               std::to_string(b);
    }
    return "";
  });
}

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// PREFIX_0.pb, PREFIX_1.pb, ... as far as they go.
Result<std::vector<NamedTensor>> read_tensors(const fs::path& folder, const std::string& prefix) {
  std::vector<NamedTensor> tensors;
  for (int i = 0;; ++i) {
    const fs::path path = folder / (prefix + std::to_string(i) + ".pb");
    if (!fs::exists(path)) return tensors;
    VB_ASSIGN(const Bytes bytes, read_file(path.string(), kMaxFileBytes));
    NamedTensor t;
    VB_ASSIGN(t.name, parse_onnx_tensor_name(bytes, path.string()));
    VB_ASSIGN(t.tensor, parse_onnx_tensor(bytes, path.string()));
    tensors.push_back(std::move(t));
  }
}

// Cases older than ONNX's bfloat16 keep its truncated bits in uint16 tensors: not what their models
// say.
Status check_type(const Tensor& given, DType dtype) {
  if (dtype == DType::bf16 && given.dtype() == DType::u16)
    return unsupported("the case keeps bfloat16 in uint16 tensors");
  return {};
}

// The graph's inputs in its order: by position where the counts agree, by name where the file also
// gives inputs with defaults.
Result<Tensors> match_inputs(const Graph& graph, const std::vector<NamedTensor>& given) {
  Tensors inputs;
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const auto named = std::ranges::find(given, graph.inputs[i].name, &NamedTensor::name);
    if (given.size() == graph.inputs.size())
      inputs.push_back(given[i].tensor);
    else if (named != given.end())
      inputs.push_back(named->tensor);
    else
      return bad_input("no data for input '" + graph.inputs[i].name + "'");
    VB_TRY(check_type(inputs.back(), graph.inputs[i].dtype));
  }
  return inputs;
}

// Fails with `bad_input` where an output differs.
Status run_data_set(const Graph& graph, const Executor& executor, const fs::path& folder) {
  VB_ASSIGN(const std::vector<NamedTensor> given, read_tensors(folder, "input_"));
  VB_ASSIGN(const std::vector<NamedTensor> want, read_tensors(folder, "output_"));
  VB_ASSIGN(const Tensors inputs, match_inputs(graph, given));
  VB_ASSIGN(const Tensors have, executor.run_step(0, inputs));
  if (want.empty() || have.size() != want.size())
    return bad_input(std::to_string(have.size()) + " outputs, expected " +
                     std::to_string(want.size()));
  for (size_t i = 0; i < have.size(); ++i) {
    VB_TRY(check_type(want[i].tensor, have[i].dtype()));
    const std::string reason =
        difference(have[i], want[i].tensor, absolute_tolerance(graph, want[i].tensor));
    if (!reason.empty()) return bad_input("output '" + graph.outputs[i].name + "' " + reason);
  }
  return {};
}

Status run_case(const fs::path& folder, Backend& backend) {
  const std::string model = (folder / "model.onnx").string();
  VB_ASSIGN(const Bytes bytes, read_file(model, kMaxFileBytes));
  VB_ASSIGN(const Graph graph, import_onnx(bytes, model, folder.string()));
  VB_ASSIGN(const Executor executor, Executor::create(graph, backend));
  int sets = 0;
  for (;; ++sets) {
    const fs::path data = folder / ("test_data_set_" + std::to_string(sets));
    if (!fs::exists(data)) break;
    VB_TRY(run_data_set(graph, executor, data));
  }
  return sets == 0 ? bad_input("no test_data_set_0") : Status();
}

}  // namespace

Result<ConformanceReport> run_conformance(const std::string& dir, Backend& backend) {
  std::error_code error;
  std::vector<fs::path> folders;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error))
    if (fs::exists(it->path() / "model.onnx")) folders.push_back(it->path());
  if (error) return unavailable(dir + ": " + error.message());
  std::ranges::sort(folders);
  // In a wrong mode no case is any good or bad.
  const FloatWatch watch;
  const FloatGuard guard;
  VB_TRY(watch.check());
  ConformanceReport report;
  for (const fs::path& folder : folders) {
    const Status status = run_case(folder, backend);
    VB_TRY(watch.check());
    ConformanceCase c{printable(folder.filename().string()), "passed", status.message()};
    if (status.code() == StatusCode::unsupported)
      c.status = "unsupported";
    else if (!status.ok())
      c.status = "failed";
    (c.status == "passed"   ? report.passed
     : c.status == "failed" ? report.failed
                            : report.unsupported)++;
    report.cases.push_back(std::move(c));
  }
  return report;
}

}  // namespace verbatim
