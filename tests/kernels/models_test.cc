// Whole models on a GPU: the reference's bits in every step, and no node that computes with floats
// leaves the device.
#include <algorithm>
#include <cstdlib>
#include <set>

#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/model.h>

#include "kernels/compare.h"
#include "support/small_transformer.h"

namespace verbatim::test {
namespace {

bool is_there(const Tensor& t) {
  return !t.defined() || !is_float(t.dtype()) || t.device() != nullptr;
}

// Operators that gave floats on the host.
class HostNodes final : public TraceSink {
 public:
  explicit HostNodes(const Graph& graph) : graph_(graph) {}
  Status on_node(uint64_t, int32_t node, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs) override {
    const std::string& op = graph_.nodes[static_cast<size_t>(node)].op;
    // Numbers that were integers of the host, such as positions.
    if (op == "Cast" && !is_float(inputs[0].dtype())) return {};
    // What the GPU has no kernel for: these, and binary64.
    if (op == "Pad" || op == "Pow" || inputs[0].dtype() == DType::f64) return {};
    if (!std::ranges::all_of(outputs, is_there)) {
      std::string title = op + " of";
      for (const Tensor& t : inputs) title += " " + t.describe();
      titles_.insert(title);
    }
    return {};
  }
  Status on_step_end(uint64_t, std::span<const Tensor>, std::span<const Tensor>) override {
    return {};
  }
  const std::set<std::string>& titles() const { return titles_; }

 private:
  const Graph& graph_;
  std::set<std::string> titles_;
};

class ModelsTest : public OnBackend {
 protected:
  void expect_reference(const Program& program, const Tensors& inputs) {
    HostNodes host(program.graph);
    RunOptions options;
    options.sink = &host;
    const RunResult have = *run_program(program, *backend_, inputs, options),
                    want = *run_program(program, *make_reference_backend(), inputs);
    ASSERT_EQ(have.steps, want.steps);
    ASSERT_EQ(have.step_outputs.size(), want.step_outputs.size());
    for (size_t step = 0; step < want.step_outputs.size(); ++step)
      for (size_t i = 0; i < want.step_outputs[step].size(); ++i)
        EXPECT_EQ(tensor_root(*have.step_outputs[step][i].on_host()),
                  tensor_root(want.step_outputs[step][i]));
    for (size_t i = 0; i < want.outputs.size(); ++i)
      EXPECT_EQ(tensor_root(*have.outputs[i].on_host()), tensor_root(want.outputs[i]));
    if (has_warp_groups(*backend_)) {
      EXPECT_EQ(host.titles(), std::set<std::string>());
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, ModelsTest, ::testing::Values("cuda"),
                         [](const auto& info) { return info.param; });

TEST_P(ModelsTest, Llama) {
  const char* folder = std::getenv("VERBATIM_STORIES");
  if (folder == nullptr) GTEST_SKIP() << "VERBATIM_STORIES names no folder";
  const auto model = *Model::load(folder);
  for (const std::string name : {"fp32", "s2x2", "w8a8", "w4a8", "bf16", "fp16", "fp8"}) {
    SCOPED_TRACE(name);
    GenerateSettings settings;
    settings.max_tokens = 3;
    settings.precision = *parse_precision(name);
    const Program program = *model->generation_program(settings);
    const Tensors inputs = *model->generation_inputs(*model->prompt_tokens("Once upon"), settings);
    expect_reference(program, inputs);
  }
}

// A recorded step chooses the next token as the step does, at a position that the host counts.
TEST_P(ModelsTest, LlamaRecorded) {
  const char* folder = std::getenv("VERBATIM_STORIES");
  if (folder == nullptr) GTEST_SKIP() << "VERBATIM_STORIES names no folder";
  const auto model = *Model::load(folder);
  const auto reference = make_reference_backend();
  for (const std::string name : {"fp32", "w8a8", "bf16"}) {
    SCOPED_TRACE(name);
    GenerateSettings settings;
    settings.max_tokens = 1;
    settings.precision = *parse_precision(name);
    settings.sampling.temperature = 0.7f;
    const Program program = *model->generation_program(settings);
    Tensors inputs = *model->generation_inputs(*model->prompt_tokens("Once upon a time"), settings);
    const Executor executor = *Executor::create(program.graph, *backend_),
                   wanted = *Executor::create(program.graph, *reference);
    const auto step = *executor.record(inputs);
    if (has_warp_groups(*backend_)) {
      EXPECT_GT(step->recorded_nodes(), 30);
    }
    for (const int64_t last : {3, 300}) {
      inputs[0].mutable_data<int64_t>().back() = last;
      const Tensors have = *step->run(inputs), want = *wanted.run_step(0, inputs);
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_TRUE(identical(*have[i].on_host(), want[i])) << "output " << i;
    }
  }
}

TEST_P(ModelsTest, Bert) {
  const char* folder = std::getenv("VERBATIM_MINILM");
  if (folder == nullptr) GTEST_SKIP() << "VERBATIM_MINILM names no folder";
  const auto model = *Model::load(folder);
  for (const std::string name : {"fp32", "w8a8", "bf16"}) {
    SCOPED_TRACE(name);
    const Program program = *model->embedding_program(*parse_precision(name));
    expect_reference(program, *model->embedding_inputs({"Hello", "Same bits everywhere"}));
  }
}

TEST_P(ModelsTest, Training) {
  for (const Optimizer optimizer : {Optimizer::sgd, Optimizer::adamw}) {
    const SmallTraining small = small_training(optimizer, 2);
    expect_reference(small.training.program, small.inputs);
  }
}

// Models that other people published.
TEST_P(ModelsTest, Published) {
  const char* data = std::getenv("VERBATIM_SHARED_DATA");
  if (data == nullptr) GTEST_SKIP() << "VERBATIM_SHARED_DATA names no folder";
  const auto program = [&](const std::string& file) {
    return *(*Model::load(std::string(data) + "/models/" + file))->program(Precision{});
  };
  Random r(1);
  expect_reference(program("silero_vad_16k.safetensors"),
                   {floats(r, {1, 576}, Fill::ordinary), floats(r, {2, 1, 128}, Fill::ordinary)});
  std::vector<int32_t> bytes(2048);
  for (int32_t& b : bytes) b = static_cast<int32_t>(r.below(257));
  expect_reference(program("magika_standard_v3_3.onnx"),
                   {*Tensor::from<int32_t>(Shape{1, 2048}, bytes)});
}

}  // namespace
}  // namespace verbatim::test
