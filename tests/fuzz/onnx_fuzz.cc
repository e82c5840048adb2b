// ONNX models from outside: importing any bytes gives a graph or an error, and so does running the
// graph that was imported. The first byte chooses between a model and a tensor.
#include <cstdint>

#include <verbatim/repops/executor.h>
#include <verbatim/repops/onnx/import.h>
#include <verbatim/verify/limits.h>

namespace {

using namespace verbatim;

constexpr size_t kMaxTensorBytes = size_t{1} << 14;  // keeps one run short
constexpr size_t kMaxNodes = 64;

void run(const Graph& graph) {
  Tensors inputs;
  for (const GraphInput& in : graph.inputs) {
    std::vector<int64_t> dims = in.dims;
    for (int64_t& d : dims) d = d < 0 ? 2 : d;
    const Result<Shape> shape = Shape::of(dims);
    if (!shape.ok()) return;
    Result<Tensor> t = Tensor::zeros(in.dtype, *shape);
    if (!t.ok()) return;
    for (size_t i = 0; i < t->byte_size(); ++i)
      t->mutable_bytes()[i] =
          static_cast<std::byte>(in.dtype == DType::boolean ? i % 2 : i * 37 % 251);
    inputs.push_back(*std::move(t));
  }
  constexpr NodeLimits kLimits{1 << 22, kMaxTensorBytes, 1 << 20};
  const auto backend = limited(make_reference_backend(), {kLimits, kLimits});
  const Result<Executor> executor = Executor::create(graph, *backend);
  if (executor.ok()) (void)executor->run_step(0, inputs).ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  set_max_tensor_bytes(kMaxTensorBytes);
  if (size == 0) return 0;
  const ByteView bytes = std::as_bytes(std::span(data + 1, size - 1));
  if (data[0] % 2 != 0) {
    (void)parse_onnx_tensor(bytes, "fuzz").ok();
    return 0;
  }
  const Result<Graph> graph = import_onnx(bytes, "fuzz", "/nonexistent");
  if (graph.ok() && graph->nodes.size() <= kMaxNodes) run(*graph);
  return 0;
}
