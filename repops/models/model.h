// Models: files in, programs out.
//
//   VB_ASSIGN(auto model, Model::load("all-MiniLM-L6-v2"));            // a Hugging Face folder, or
//   an .onnx file VB_ASSIGN(Program program, model->embedding_program(Precision{}));
//   VB_ASSIGN(Tensors inputs, model->embedding_inputs({"Hello"}));
//   VB_ASSIGN(RunResult result, run_program(program, *backend, inputs));
//
// A program holds the weights it needs, by reference to the mapped file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/safetensors.h>
#include <verbatim/repops/models/tokenizer.h>
#include <verbatim/repops/onnx/import.h>
#include <verbatim/repops/ops/sampling.h>

namespace verbatim {

// In what arithmetic a model's linear layers and attention run (docs/numerics.md): ordered binary32
// (family A); exact products of int8 slices, with ordered attention (B); rotated int8 activations
// with weights of 8 to 2 bits and int8 attention (B); or products and attention of 16-bit or fp8
// operands as Hopper's tensor cores compute them (C). Everything else is binary32.
struct Precision {
  int activation_slices = 0, weight_slices = 0;  // "s2x2"
  int weight_bits = 0;                           // "w8a8"
  DType operands = DType::undefined;  // "bf16", "fp16"; e4m3 for "fp8", whose attention is of bf16
  bool precise = false;               // "fp8-precise"; all of them unset: "fp32"
  bool is_fp32() const {
    return activation_slices == 0 && weight_bits == 0 && operands == DType::undefined;
  }
  std::string name() const;
};
// "fp32", "bf16", "fp16", "fp8", "fp8-precise", "s1x1" to "s4x4", "w8a8", "w4a8", "w3a8", "w2a8",
// "w1a8".
Result<Precision> parse_precision(std::string_view name);

enum class ModelKind : uint8_t { onnx, bert, llama, silero };

struct GenerateSettings {
  int64_t max_tokens = 64;  // new ones
  SamplingSettings sampling;
  Precision precision;
};

// What config.json says, checked. Field names are Hugging Face's.
struct ModelConfig {
  int64_t hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0, num_attention_heads = 0,
          num_key_value_heads = 0, head_dim = 0;
  int64_t vocab_size = 0, max_position_embeddings = 0;
  float norm_eps = 0, rope_theta = 10000.0f;
  bool tie_word_embeddings = false, attention_bias = false, mlp_bias = false;
  std::vector<int64_t> eos_token_ids;
  // Sentence embeddings (modules.json of Sentence Transformers)
  bool cls_pooling = false, normalize = false;
  int64_t max_seq_length = 0;
};

class Model {
 public:
  // A folder with config.json and safetensors (BERT or Llama), a folder without config.json or a
  // .safetensors file whose tensors are a known model's (Silero VAD), or an ONNX file. For the
  // latter "FILE.onnx:NAME=VALUE,..." fixes inputs of one element.
  static Result<std::shared_ptr<const Model>> load(const std::string& path);

  ModelKind kind() const { return kind_; }
  const std::string& name() const { return name_; }  // the last part of the path: for people
  const ModelConfig& config() const { return config_; }
  const TensorMap& tensors() const { return tensors_; }
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }  // nullptr: an ONNX file has none

  // One digest of everything the model's results depend on: tensors by name, configuration files,
  // tokenizer.
  Digest root() const;
  std::map<std::string, Digest> tensor_roots() const;

  // An ONNX file's names for the values of program() and for its inputs' dimensions.
  const OnnxModel& onnx() const { return onnx_; }

  // One evaluation of the whole model: the ONNX graph, the sentence embedding, or one chunk of
  // audio. Precision other than fp32 is for folders.
  Result<Program> program(const Precision& precision) const;

  // BERT: inputs input_ids int64 [B, T] and lengths int64 [B]; output embeddings float32 [B,
  // hidden].
  Result<Program> embedding_program(const Precision& precision) const;
  Result<Tensors> embedding_inputs(const std::vector<std::string>& texts) const;

  // Llama: a step takes tokens [1, T], positions [T] and the KV cache, and yields the next token;
  // see llama.cc.
  Result<Program> generation_program(const GenerateSettings& settings) const;
  // Llama: one step that takes tokens int64 [1, T] and positions int64 [T], and yields the logits
  // float32 [1, T, vocabulary] after each of them.
  Result<Program> scoring_program(const Precision& precision) const;
  // Silero: a step for each chunk of audio float32 [N] or [B, N]; see silero.h.
  Result<Program> speech_program(const Tensor& audio) const;
  Result<Tensors> speech_inputs(const Tensor& audio) const;

  Result<std::vector<int64_t>> prompt_tokens(
      std::string_view prompt) const;  // an empty prompt is the BOS token
  Result<Tensors> generation_inputs(const std::vector<int64_t>& tokens,
                                    const GenerateSettings& settings) const;

 private:
  Model() = default;
  Status load_folder(const std::string& path);
  Status load_tensors(const std::string& path);
  Status load_onnx(const std::string& path, const std::string& settings);

  ModelKind kind_ = ModelKind::onnx;
  std::string name_;
  ModelConfig config_;
  Bytes config_bytes_;  // every configuration file that was read, with its name: a part of the
                        // model's identity
  TensorMap tensors_;
  std::unique_ptr<Tokenizer> tokenizer_;
  OnnxModel onnx_;
};

}  // namespace verbatim
