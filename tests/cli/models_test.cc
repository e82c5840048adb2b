// Real models: the same bits in every backend, with any number of threads, alone or in a batch; the
// published text; the embedding that ONNX Runtime gives (tests/oracle/minilm_onnxruntime.py
// compares).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/model.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

std::shared_ptr<const Model> model_in(const char* variable) {
  const char* path = std::getenv(variable);
  if (path == nullptr) return nullptr;
  auto model = Model::load(path);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return model.ok() ? *model : nullptr;
}

std::vector<std::string> backends() {
  std::vector<std::string> names;
  for (const BackendInfo& info : list_backends())
    if (info.missing.empty()) names.push_back(info.name);
  return names;
}

Tensor embed(const Model& model, const std::vector<std::string>& texts, const std::string& backend,
             const Precision& precision = {}) {
  const Program program = *model.embedding_program(precision);
  return run_program(program, **make_backend(backend), *model.embedding_inputs(texts))->outputs[0];
}

const std::vector<std::string> kTexts = {"The same bits everywhere.",
                                         "Anyone can check the result.", "short",
                                         "A much longer sentence, which makes the others carry "
                                         "padding that must not change a bit of them."};

TEST(MiniLm, OneDigestInEveryBackendThreadCountAndBatch) {
  const auto model = model_in("VERBATIM_MINILM");
  if (!model) GTEST_SKIP() << "VERBATIM_MINILM names no folder";
  const Tensor want = embed(*model, kTexts, "reference");
  for (const std::string& backend : backends())
    for (int threads : {1, 2, 5}) {
      if (backend == "reference" && threads == 5) continue;  // it takes a second a text
      set_thread_count(threads);
      EXPECT_TRUE(identical(embed(*model, kTexts, backend), want))
          << backend << ", " << threads << " threads";
      for (size_t i = 0; i < kTexts.size(); ++i) {
        const Tensor alone = embed(*model, {kTexts[i]}, backend);
        const auto row = want.data<float>().subspan(i * 384, 384);
        EXPECT_TRUE(std::equal(row.begin(), row.end(), alone.data<float>().begin(),
                               [](float a, float b) { return bits_of(a) == bits_of(b); }))
            << backend << ": text " << i << " alone differs from the batch";
      }
    }
  set_thread_count(2);
}

TEST(MiniLm, SlicedPrecisionIsOneDigestAndCloseToFp32) {
  const auto model = model_in("VERBATIM_MINILM");
  if (!model) GTEST_SKIP() << "VERBATIM_MINILM names no folder";
  const Tensor fp32 = embed(*model, {kTexts[0]}, "auto");
  const Tensor want = embed(*model, {kTexts[0]}, "reference", {2, 2});
  for (const std::string& backend : backends())
    EXPECT_TRUE(identical(embed(*model, {kTexts[0]}, backend, {2, 2}), want)) << backend;
  double dot = 0;
  for (size_t i = 0; i < 384; ++i)
    dot += static_cast<double>(fp32.data<float>()[i]) * want.data<float>()[i];
  EXPECT_GT(dot, 0.9999);
}

TEST(Stories, GreedyTextIsThePublishedOneInEveryBackend) {
  const auto model = model_in("VERBATIM_STORIES");
  if (!model) GTEST_SKIP() << "VERBATIM_STORIES names no folder";
  GenerateSettings settings;
  settings.max_tokens = 200;
  const Program program = *model->generation_program(settings);
  const std::vector<int64_t> prompt = *model->prompt_tokens("");
  ASSERT_EQ(prompt, std::vector<int64_t>{1});
  for (const std::string& backend : backends()) {
    const Result<RunResult> run =
        run_program(program, **make_backend(backend), *model->generation_inputs(prompt, settings));
    ASSERT_TRUE(run.ok()) << run.status().message();
    std::vector<int64_t> tokens = prompt;
    for (const Tensors& step : run->step_outputs) tokens.push_back(step[0].data<int64_t>()[0]);
    const std::vector<int64_t> first(tokens.begin(), tokens.begin() + 14);
    EXPECT_EQ(first, (std::vector<int64_t>{1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315,
                                           421, 395}));
    const std::string text = *model->tokenizer()->decode(tokens);
    EXPECT_TRUE(
        text.starts_with("Once upon a time, there was a little girl named Lily. She loved to play "
                         "outside in the park. One day, she saw "
                         "a big, red ball. She wanted to play with it, but it was too high."))
        << text;
  }
}

// The logits that Transformers gives after the prompt, to within rounding.
TEST(Stories, LogitsAgreeWithTransformers) {
  const auto model = model_in("VERBATIM_STORIES");
  if (!model) GTEST_SKIP() << "VERBATIM_STORIES names no folder";
  GenerateSettings settings;
  settings.max_tokens = 1;
  const std::vector<int64_t> prompt =
      *model->prompt_tokens("Once upon a time, there was a little girl.");
  EXPECT_EQ(prompt, (std::vector<int64_t>{1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315,
                                          421, 426}));
  const Program program = *model->generation_program(settings);
  const RunResult run =
      *run_program(program, **make_backend("auto"), *model->generation_inputs(prompt, settings));
  const float want[] = {-7.89009f, 4.34166f, -7.89172f, -7.89003f, -7.88993f};
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(run.outputs[1].data<float>()[i], want[i], 2e-5);
  EXPECT_EQ(run.outputs[0].data<int64_t>()[0], 338);
}

}  // namespace
}  // namespace verbatim
