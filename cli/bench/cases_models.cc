// Whole models against ONNX Runtime: sentence embeddings (minilm_f32, minilm_w8a8), and decoders
// (llama_f32, llama_w8a8, llama_w4a8 of a folder that is given; llama1b_f32 and so on of random
// weights, two layers of the shape of a model of 10^9 parameters). A decoder's rows are "prefill
// N", a prompt of N tokens, and "decode N", one token after N others; "recorded" where the step is
// (Executor::record()). On a GPU they stand beside Transformers, which has a CUDA graph for each.
#include <cstdio>
#include <fstream>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/gpu.h>
#include <verbatim/cli/bench/model_peer.h>
#include <verbatim/core/file.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/models/model.h>

namespace verbatim::bench {
namespace {

constexpr const char* kOnnxRuntime = "ONNX Runtime fp32";

// Our side: a prepared program, one step of which is a run. The backend is its own, so that packed
// weights go with it.
struct Runner {
  Program program;
  Tensors inputs, outputs;
  std::unique_ptr<Backend> backend;
  std::optional<Executor> executor;
  bool in_place = false;                   // outputs stay where the backend computed them
  std::unique_ptr<RecordedStep> recorded;  // if there is one, it is run

  Status prepare(const Backend& like) {
    VB_ASSIGN(backend, make_backend(like.name()));
    VB_ASSIGN(executor, Executor::create(program.graph, *backend));
    return {};
  }
  Status run() {
    VB_ASSIGN(outputs, recorded != nullptr ? recorded->run(inputs)
                       : in_place          ? executor->run_step_in_place(0, inputs)
                                           : executor->run_step(0, inputs));
    return {};
  }
};

// `result`: which output is ONNX Runtime's first.
Match match_of(const Backend& backend, const std::shared_ptr<Runner>& runner,
               const std::shared_ptr<ModelPeer>& peer, int64_t tokens, size_t result,
               double least_cosine) {
  Match match;
  match.ours = {
      .name = "Verbatim", .version = "", .kernel = std::string(backend.name()), .run = [runner] {
        require(runner->run());
      }};
  match.peers = {ModelPeer::contender(peer)};
  match.work = static_cast<double>(tokens);
  match.unit = "tokens/s";
  match.check = [=]() -> Status {
    const Tensor& ours = runner->outputs[result];
    VB_ASSIGN(const std::vector<float> theirs, peer->output());
    return check_cosines(ours.data<float>(), theirs, ours.dim(1), least_cosine);
  };
  return match;
}

struct Kind {
  const char *name, *precision;
  double least_cosine;  // of our results and ONNX Runtime's in binary32
};

// --- sentence embeddings

struct Texts {
  int64_t count, tokens;
};

Result<Match> embedding(const Backend& backend, const ModelFiles& files, const Kind& kind,
                        const Texts& texts) {
  VB_ASSIGN(const std::shared_ptr<const Model> model, load_model(files.minilm));
  VB_ASSIGN(const Precision precision, parse_precision(kind.precision));
  const auto runner = std::make_shared<Runner>();
  VB_ASSIGN(runner->program, model->embedding_program(precision));
  VB_ASSIGN(runner->inputs, random_tokens(*model, texts.count, texts.tokens));
  VB_TRY(runner->prepare(backend));
  VB_ASSIGN(const auto peer,
            ModelPeer::start(files.python, "onnxruntime_minilm.py", kOnnxRuntime, files.minilm,
                             {std::to_string(texts.count), std::to_string(texts.tokens)},
                             runner->inputs[0].data<int64_t>()));
  return match_of(backend, runner, peer, texts.count * texts.tokens, 0, kind.least_cosine);
}

// --- decoders

// The folder of a decoder with random weights, made when it is first asked for.
class RandomDecoder {
 public:
  Result<std::string> folder() {
    if (!folder_) VB_TRY(make());
    return folder_->path();
  }

 private:
  static constexpr int64_t kHidden = 2048, kMiddle = 8192, kKeys = 512, kVocabulary = 8192;
  static constexpr int kLayers = 2;
  static constexpr const char* kConfig =
      R"({"model_type": "llama", "hidden_act": "silu", "hidden_size": 2048,
          "intermediate_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 32,
          "num_key_value_heads": 8, "vocab_size": 8192, "max_position_embeddings": 2048,
          "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": true})";

  Status add(const std::string& name, const Shape& shape) {
    VB_ASSIGN(Tensor t, random_tensor(shape, tensors_.size()));
    for (float& v : t.mutable_data<float>()) v = shape.rank() == 1 ? 1.0f : 0.02f * v;
    tensors_.emplace(name, std::move(t));
    return {};
  }
  Status make() {
    VB_TRY(add("model.embed_tokens.weight", {kVocabulary, kHidden}));
    VB_TRY(add("model.norm.weight", {kHidden}));
    for (int i = 0; i < kLayers; ++i) {
      const std::string name = "model.layers." + std::to_string(i) + ".";
      VB_TRY(add(name + "input_layernorm.weight", {kHidden}));
      VB_TRY(add(name + "self_attn.q_proj.weight", {kHidden, kHidden}));
      VB_TRY(add(name + "self_attn.k_proj.weight", {kKeys, kHidden}));
      VB_TRY(add(name + "self_attn.v_proj.weight", {kKeys, kHidden}));
      VB_TRY(add(name + "self_attn.o_proj.weight", {kHidden, kHidden}));
      VB_TRY(add(name + "post_attention_layernorm.weight", {kHidden}));
      VB_TRY(add(name + "mlp.gate_proj.weight", {kMiddle, kHidden}));
      VB_TRY(add(name + "mlp.up_proj.weight", {kMiddle, kHidden}));
      VB_TRY(add(name + "mlp.down_proj.weight", {kHidden, kMiddle}));
    }
    const char* const where = std::getenv("TMPDIR");
    VB_ASSIGN(TemporaryFolder made,
              TemporaryFolder::beside(std::string(where != nullptr ? where : "/tmp") + "/llama"));
    VB_ASSIGN(const Bytes weights, encode_safetensors(std::exchange(tensors_, {})));
    VB_TRY(write_file(made.path() + "/model.safetensors", weights));
    VB_TRY(write_file(made.path() + "/config.json", as_bytes(std::string_view(kConfig))));
    folder_ = std::move(made);
    return {};
  }

  TensorMap tensors_;
  std::optional<TemporaryFolder> folder_;
};

struct Step {
  int64_t past, tokens;
};

// A step of `step.tokens` tokens after those before, of which we make keys and values ourselves;
// they and the results stay where they are computed.
Result<std::shared_ptr<Runner>> decoder(const Backend& backend, const Model& model,
                                        const Kind& kind, const Step& step,
                                        std::span<const int64_t> ids) {
  const auto runner = std::make_shared<Runner>();
  runner->in_place = true;
  GenerateSettings settings;
  settings.max_tokens = 1;
  VB_ASSIGN(settings.precision, parse_precision(kind.precision));
  VB_ASSIGN(runner->program, model.generation_program(settings));
  VB_TRY(runner->prepare(backend));
  const size_t first = static_cast<size_t>(step.past > 0 ? step.past : step.tokens);
  VB_ASSIGN(runner->inputs, model.generation_inputs({ids.begin(), ids.begin() + first}, settings));
  if (step.past == 0) return runner;
  VB_TRY(runner->run());
  for (const Carry& c : runner->program.carries)
    runner->inputs[c.input] = runner->outputs[c.output];
  VB_ASSIGN(runner->inputs[0], Tensor::from<int64_t>(Shape{1, step.tokens}, ids.subspan(first)));
  return runner;
}

Result<Match> decoding(const Backend& backend, const ModelFiles& files, const std::string& folder,
                       const Kind& kind, const Step& step) {
  VB_ASSIGN(const std::shared_ptr<const Model> model, load_model(folder));
  VB_ASSIGN(const Tensors random, random_tokens(*model, 1, step.past + step.tokens));
  const std::span<const int64_t> ids = random[0].data<int64_t>();
  VB_ASSIGN(const auto runner, decoder(backend, *model, kind, step, ids));
  VB_ASSIGN(const auto peer, ModelPeer::start(files.python, "onnxruntime_llama.py", kOnnxRuntime,
                                              folder, {std::to_string(step.past)}, ids));
  return match_of(backend, runner, peer, step.tokens, 1, kind.least_cosine);
}

// With the bits of the processor's best backend: all logits of the step.
Result<Match> decoding_on_gpu(const Backend& backend, const std::string& python,
                              const std::string& folder, const Kind& kind, const Step& step,
                              bool recorded) {
  VB_ASSIGN(const std::shared_ptr<const Model> model, load_model(folder));
  VB_ASSIGN(const Tensors random, random_tokens(*model, 1, step.past + step.tokens));
  const std::span<const int64_t> ids = random[0].data<int64_t>();
  VB_ASSIGN(const auto runner, decoder(backend, *model, kind, step, ids));
  if (recorded) {  // on other tokens
    const std::vector<int64_t> others(static_cast<size_t>(step.tokens), 1);
    Tensors inputs = runner->inputs;
    VB_ASSIGN(inputs[0], Tensor::from<int64_t>(Shape{1, step.tokens}, std::span(others)));
    VB_ASSIGN(runner->recorded, runner->executor->record(inputs));
  }
  VB_TRY(runner->run());
  VB_ASSIGN(const Tensor ours, runner->outputs[1].on_host());
  VB_ASSIGN(const std::unique_ptr<Backend> processor, make_processor_backend());
  VB_ASSIGN(const auto there, decoder(*processor, *model, kind, step, ids));
  VB_TRY(there->run());
  if (!identical(ours, there->outputs[1]))
    return internal_error(std::string(kind.precision) + ": the logits' bits are not those of " +
                          std::string(processor->name()));
  // Who generates waits for the next token, and so for the step.
  const auto run = [runner] {
    require(runner->run());
    gpu::wait();
  };
  Match match;
  match.ours = {"Verbatim", "", std::string(backend.name()), run};
  match.work = static_cast<double>(step.tokens);
  match.unit = "tokens/s";
  const std::string type = kind.precision == std::string("fp32") ? "float32" : "bfloat16";
  const auto peer = ModelPeer::start(python, "transformers_llama.py", "Transformers " + type,
                                     folder, {type, std::to_string(step.past)}, ids);
  if (peer.status().code() == StatusCode::unavailable) {
    std::fprintf(stderr, "\nnot compared: %s\n", peer.status().message().c_str());
    return match;
  }
  VB_TRY(peer.status());
  match.peers = {ModelPeer::contender(*peer)};
  match.check = [ours, kind, peer = *peer]() -> Status {
    VB_ASSIGN(const std::vector<float> theirs, peer->output());
    return check_cosines(ours.data<float>(), theirs, ours.dim(1), kind.least_cosine);
  };
  return match;
}

std::string name_of(const Step& s) {
  return s.past == 0 ? "prefill " + std::to_string(s.tokens) : "decode " + std::to_string(s.past);
}

}  // namespace

void add_model_cases(std::vector<Case>& cases, const ModelFiles& files) {
  for (const Kind& kind : {Kind{"minilm_f32", "fp32", 0.9999}, Kind{"minilm_w8a8", "w8a8", 0.998}})
    for (const Texts t : {Texts{1, 16}, Texts{1, 128}, Texts{8, 128}})
      cases.push_back({kind.name, shape_text({t.count, t.tokens}),
                       [=](Backend& backend) { return embedding(backend, files, kind, t); }});
  for (const Kind& kind : {Kind{"llama_f32", "fp32", 0.9999}, Kind{"llama_w8a8", "w8a8", 0.99},
                           Kind{"llama_w4a8", "w4a8", 0.9}})
    for (const Step s : {Step{0, 128}, Step{128, 1}})
      cases.push_back({kind.name, name_of(s), [=](Backend& backend) {
                         return decoding(backend, files, files.llama, kind, s);
                       }});
  const auto random = std::make_shared<RandomDecoder>();
  for (const Kind& kind : {Kind{"llama1b_f32", "fp32", 0.9999}, Kind{"llama1b_w8a8", "w8a8", 0.99},
                           Kind{"llama1b_w4a8", "w4a8", 0.9}})
    for (const Step s : {Step{0, 128}, Step{128, 1}})
      cases.push_back({kind.name, name_of(s), [=](Backend& backend) -> Result<Match> {
                         VB_ASSIGN(const std::string folder, random->folder());
                         return decoding(backend, files, folder, kind, s);
                       }});
}

void add_decoder_cases(std::vector<Case>& cases, const std::string& python) {
  const auto random = std::make_shared<RandomDecoder>();
  for (const Kind& kind : {Kind{"llama1b_f32", "fp32", 0.9999}, Kind{"llama1b_bf16", "bf16", 0.999},
                           Kind{"llama1b_w8a8", "w8a8", 0.99}, Kind{"llama1b_w4a8", "w4a8", 0.9}})
    for (const Step s : {Step{0, 1024}, Step{1024, 1}})
      for (const bool recorded : {false, true})
        cases.push_back({kind.name, name_of(s) + (recorded ? " recorded" : ""),
                         [=](Backend& backend) -> Result<Match> {
                           VB_ASSIGN(const std::string folder, random->folder());
                           return decoding_on_gpu(backend, python, folder, kind, s, recorded);
                         }});
}

}  // namespace verbatim::bench
