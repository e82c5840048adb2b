// Real models: the same bits in every backend, with any number of threads, alone or in a batch; the
// published text; the embedding that ONNX Runtime gives (tests/oracle/minilm_onnxruntime.py
// compares).
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <chrono>
#include <cmath>
#include <cstdlib>

#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/autodiff.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/model.h>
#include <verbatim/repops/models/silero.h>
#include <verbatim/repops/semantics.h>
#include <verbatim/repops/training.h>
#include <verbatim/verify/provider.h>
#include <verbatim/verify/referee.h>

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

// All 101 tensors that the encoder uses have gradients, and along them the loss changes by their
// squared norm.
TEST(MiniLm, GradientsSayHowTheLossChanges) {
  const auto model = model_in("VERBATIM_MINILM");
  if (!model) GTEST_SKIP() << "VERBATIM_MINILM names no folder";
  const Program program = *model->embedding_program({});
  const Tensors inputs = *model->embedding_inputs({kTexts[0], kTexts[2]});
  GraphEditor e(program.graph);
  Tensor target = *Tensor::zeros(DType::f32, Shape{2, 384});
  for (int i = 0; i < 2 * 384; ++i) target.mutable_data<float>()[i] = i % 7 == 0 ? 0.1f : -0.02f;
  const ValueId loss =
      mean_squared_error(e, program.graph.outputs[0].value, e.constant("target", target));
  const Graph graph = *e.finish();
  std::vector<ValueId> wrt;
  for (const Initializer& init : graph.initializers)
    if (model->tensors().contains(init.name)) wrt.push_back(init.value);
  EXPECT_EQ(wrt.size(), 101u);
  const Result<Graph> differentiated = differentiate(graph, loss, wrt);
  ASSERT_TRUE(differentiated.ok()) << differentiated.status().message();
  const auto evaluate = [&](const Graph& g) {
    const auto backend = *make_backend("auto");
    return *Executor::create(g, *backend)->run_step(0, inputs);
  };
  const Tensors gradients = evaluate(*differentiated);
  double square = 0;
  for (size_t i = 1; i < gradients.size(); ++i)
    for (const float v : gradients[i].data<float>()) square += double{v} * v;
  // Steps of 2 % of the loss either way: rounding is a thousand times less.
  const double start = gradients[0].data<float>()[0], step = 0.02 * start / square;
  double side[2];
  for (int s = 0; s < 2; ++s) {
    Graph moved = *differentiated;
    moved.outputs.resize(1);
    for (size_t i = 0; i < wrt.size(); ++i)
      for (Initializer& init : moved.initializers) {
        if (init.value != wrt[i]) continue;
        Tensor t = *Tensor::allocate(DType::f32, init.shape);
        for (int64_t k = 0; k < t.elements(); ++k)
          t.mutable_data<float>()[k] =
              static_cast<float>(init.tensor.data<float>()[k] +
                                 (s == 0 ? -step : step) * gradients[i + 1].data<float>()[k]);
        init.tensor = t;
      }
    side[s] = evaluate(moved)[0].data<float>()[0];
  }
  EXPECT_NEAR((side[1] - side[0]) / (2 * step) / square, 1.0, 0.01);
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

// Models that other people published, under ../shared/data/models.
class SharedModels : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("VERBATIM_SHARED_DATA");
    if (data == nullptr) GTEST_SKIP() << "VERBATIM_SHARED_DATA names no folder";
    folder_ = std::string(data) + "/models/";
  }
  std::shared_ptr<const Model> load(const std::string& file) {
    auto model = Model::load(folder_ + file);
    EXPECT_TRUE(model.ok()) << model.status().message();
    return model.ok() ? *model : nullptr;
  }
  // The outputs, once every backend has given the reference's bits with each number of threads; a
  // slow model's (a program takes half a minute) with one of them.
  static Tensors run(const Program& program, const Tensors& inputs, bool slow = false) {
    const Result<RunResult> want = run_program(program, **make_backend("reference"), inputs);
    EXPECT_TRUE(want.ok()) << want.status().message();
    if (!want.ok()) return {};
    for (const std::string& backend : backends())
      for (int threads : {1, 2, 5}) {
        if (backend == "reference" && (slow || threads != 2)) continue;
        if (slow && threads != (backend == "avx2" ? 2 : 5)) continue;
        set_thread_count(threads);
        const RunResult have = *run_program(program, **make_backend(backend), inputs);
        for (size_t i = 0; i < have.outputs.size(); ++i)
          EXPECT_TRUE(identical(have.outputs[i], want->outputs[i]))
              << program.graph.outputs[i].name << ": " << backend << ", " << threads << " threads";
      }
    set_thread_count(2);
    return want->outputs;
  }
  // A sweep with an envelope: not speech, and nothing that repeats.
  static Tensor audio(int64_t samples) {
    std::vector<float> v(static_cast<size_t>(samples));
    uint32_t phase = 0;
    for (size_t i = 0; i < v.size(); ++i) {
      phase += static_cast<uint32_t>(i * 977 % 300000000);
      const float triangle = static_cast<float>(static_cast<int32_t>(phase)) * 0x1p-31f;
      v[i] = triangle * static_cast<float>(i % 4000) / 4000.0f;
    }
    return *Tensor::from<float>(Shape{samples}, v);
  }

 private:
  std::string folder_;
};

TEST_F(SharedModels, MagikaIsOneDigest) {
  const auto model = load("magika_standard_v3_3.onnx");
  std::vector<int32_t> bytes(2 * 2048);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<int32_t>(i * i * 31 % 257);
  const Tensors out = run(*model->program({}), {*Tensor::from<int32_t>(Shape{2, 2048}, bytes)});
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].shape(), (Shape{2, 214}));
}

TEST_F(SharedModels, SuperResolutionIsOneDigest) {
  const auto model = load("super_resolution.onnx");
  const Tensor x = *audio(224 * 224).reshaped(Shape{1, 1, 224, 224});
  const Tensors out = run(*model->program({}), {x}, true);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].shape(), (Shape{1, 1, 672, 672}));
}

// The two files hold different weights for one network: with the ONNX file's weights the builder's
// graph gives the bits of the file's own.
TEST_F(SharedModels, SileroIsOneNetworkInTwoFormats) {
  const auto onnx = load("silero_vad_op18_ifless.onnx:sr=16000"),
             folder = load("silero_vad_16k.safetensors");
  ASSERT_TRUE(onnx && folder);
  EXPECT_EQ(folder->kind(), ModelKind::silero);
  TensorMap renamed = {{"stft_conv.weight", onnx->tensors().at("model.stft.forward_basis_buffer")},
                       {"final_conv.weight", onnx->tensors().at("model.decoder.decoder.2.weight")},
                       {"final_conv.bias", onnx->tensors().at("model.decoder.decoder.2.bias")}};
  for (const std::string part : {"weight", "bias"})
    for (int i = 0; i < 4; ++i)
      renamed.emplace(
          "conv" + std::to_string(i + 1) + "." + part,
          onnx->tensors().at("model.encoder." + std::to_string(i) + ".reparam_conv." + part));
  for (const std::string part : {"weight_ih", "weight_hh", "bias_ih", "bias_hh"})
    renamed.emplace("lstm_cell." + part, onnx->tensors().at("model.decoder.rnn." + part));
  Program same;
  same.graph = *silero_graph(renamed);
  const Tensor samples = *audio(3 * 576).reshaped(Shape{3, 576}),
               state = *audio(2 * 3 * 128).reshaped(Shape{2, 3, 128});
  const Tensors a = run(*onnx->program({}), {samples, state}), b = run(same, {samples, state}),
                c = run(*folder->program({}), {samples, state});
  ASSERT_EQ(a.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(identical(a[i], b[i])) << "output " << i;
    EXPECT_FALSE(identical(a[i], c[i])) << "output " << i;
  }
}

// A program over a recording gives what its chunks give one by one, context and state handed on.
TEST_F(SharedModels, SileroCarriesItsStateOverChunks) {
  const auto model = load("silero_vad_16k.safetensors");
  const int64_t samples = 3 * kSileroChunk + 100;
  const Tensor recording = audio(samples);
  const Tensors whole = run(*model->speech_program(recording), *model->speech_inputs(recording));
  ASSERT_EQ(whole.size(), 3u);
  ASSERT_EQ(whole[0].shape(), (Shape{1, 4}));
  std::vector<float> padded(static_cast<size_t>(kSileroContext + 4 * kSileroChunk));
  std::ranges::copy(recording.data<float>(), padded.begin() + kSileroContext);
  Tensor state = *Tensor::zeros(DType::f32, Shape{2, 1, 128});
  for (size_t chunk = 0; chunk < 4; ++chunk) {
    const auto part = std::span(padded).subspan(chunk * 512, 576);
    const Tensors step = run_program(*model->program({}), **make_backend("auto"),
                                     Tensors{*Tensor::from<float>(Shape{1, 576}, part), state})
                             ->outputs;
    EXPECT_EQ(bits_of(step[0].data<float>()[0]), bits_of(whole[0].data<float>()[chunk])) << chunk;
    state = step[1];
  }
  EXPECT_TRUE(identical(state, whole[1]));
  EXPECT_FALSE(model->speech_inputs(*Tensor::zeros(DType::f32, Shape{0})).ok());
  EXPECT_FALSE(model->speech_inputs(*Tensor::zeros(DType::i64, Shape{5})).ok());
}

class LocalParty final : public Party {
 public:
  explicit LocalParty(Provider& provider) : provider_(provider) {}
  const PublicKey& key() const override { return provider_.key(); }
  Result<SignedAnswer> ask(ByteView request) override { return provider_.answer(request); }

 private:
  Provider& provider_;
};

// How many elements, of which type, the first output of each node has in each step.
struct Outputs final : TraceSink {
  std::vector<std::vector<std::pair<int64_t, DType>>> steps;
  Status on_node(uint64_t step, int32_t, std::span<const Tensor>,
                 std::span<const Tensor> outputs) override {
    steps.resize(step + 1);
    steps.back().emplace_back(outputs[0].elements(), outputs[0].dtype());
    return {};
  }
  Status on_step_end(uint64_t, std::span<const Tensor>, std::span<const Tensor>) override {
    return {};
  }
};

// A whole generation, one bit of it wrong somewhere: refuted at that element of that operator. A
// hundred cases, or as many as a minute has room for.
TEST(Stories, AWrongBitAnywhereInAGenerationIsFoundExactlyThere) {
  const auto model = model_in("VERBATIM_STORIES");
  if (!model) GTEST_SKIP() << "VERBATIM_STORIES names no folder";
  GenerateSettings settings;
  settings.max_tokens = 200;
  Task task;
  task.level = CommitLevel::full;
  task.model_name = "stories260K";
  task.program = *model->generation_program(settings);
  task.program.graph.compute_roots();
  task.inputs = *model->generation_inputs(*model->prompt_tokens(""), settings);
  const auto provider = [&](uint8_t seed, std::optional<Fault> fault) {
    ProviderOptions options;
    options.fault = fault;
    return *Provider::create(task, task.program, *make_backend("auto"),
                             *SigningKey::from_seed({std::byte{seed}}), options);
  };
  Outputs made;
  RunOptions options;
  options.sink = &made;
  ASSERT_TRUE(run_program(task.program, **make_backend("auto"), task.inputs, options).ok());
  ASSERT_GE(made.steps.size(), 100u);
  const auto honest = provider(1, std::nullopt);

  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  int cases = 0, broken = 0, games = 0;
  rc::check([&] {
    if (std::chrono::steady_clock::now() > deadline) return;
    const auto below = [](uint64_t n) {
      return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<uint64_t>(0, n));
    };
    const uint64_t step = below(made.steps.size()), node = below(made.steps[step].size());
    const auto [elements, dtype] = made.steps[step][node];
    if (elements == 0) return;
    const Fault fault{step, static_cast<int32_t>(node),
                      static_cast<int64_t>(below(static_cast<uint64_t>(elements))),
                      dtype == DType::boolean ? 0 : static_cast<int>(below(8 * size_of(dtype)))};
    const auto liar = provider(2, fault);
    // A wrong index may lead nowhere: then there is no result to dispute.
    if (!liar->run().ok()) return static_cast<void>(++broken);
    LocalParty a(*liar), b(*honest);
    const Verdict v =
        *settle(task, std::vector<Party*>{&a, &b}, sha256(as_bytes(std::to_string(games++))));
    RC_ASSERT(v.winners == std::vector<uint32_t>{1});
    RC_ASSERT(v.refuted.size() == 1u);
    const Where& where = *v.refuted[0].where;
    RC_ASSERT(where.step == fault.step);
    RC_ASSERT(where.node == fault.node);
    RC_ASSERT(where.output == 0);
    RC_ASSERT(where.element == fault.element);
    const auto bits = [](const std::string& hex) { return std::stoull(hex, nullptr, 16); };
    RC_ASSERT((bits(where.claimed_bits) ^ bits(where.true_bits)) == uint64_t{1} << fault.bit);
    ++cases;
  });
  RecordProperty("cases", cases);
  RecordProperty("broken", broken);
  EXPECT_GE(cases, 5) << broken << " faults stopped the run";
}

}  // namespace
}  // namespace verbatim
