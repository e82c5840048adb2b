#include <verbatim/repops/models/model.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/models/json.h>
#include <verbatim/repops/onnx/import.h>

namespace verbatim {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr size_t kMaxOnnxBytes = size_t{2} << 30;  // protobuf's own limit

// Reads configuration files and remembers their bytes: they are a part of the model's identity.
class ConfigFolder {
 public:
  ConfigFolder(std::string path, Writer& read) : path_(std::move(path)), read_(read) {}

  bool has(const std::string& file) const {
    std::error_code error;  // a loop of links is not there
    return std::filesystem::exists(path_ + "/" + file, error);
  }
  Result<Json> object(const std::string& file) {
    return json(file, [](const Json& j) { return j.is_object(); });
  }
  Result<Json> array(const std::string& file) {
    return json(file, [](const Json& j) { return j.is_array(); });
  }

 private:
  template <class Check>
  Result<Json> json(const std::string& file, Check check) {
    const std::string path = path_ + "/" + file;
    VB_ASSIGN(const Bytes bytes, read_file(path, kMaxConfigBytes));
    read_.text(file);
    read_.blob(bytes);
    VB_ASSIGN(Json parsed, parse_json(as_chars(bytes), path));
    if (!check(parsed)) return bad_input(path + ": not the kind of JSON value that stands here");
    return parsed;
  }
  std::string path_;
  Writer& read_;
};

struct SizeField {
  const char* key;
  int64_t* value;
  int64_t otherwise;  // 0: required
};

Status read_sizes(const Json& json, const std::string& source, std::span<const SizeField> fields) {
  constexpr int64_t kMaxSize = int64_t{1} << 31;
  for (const SizeField& f : fields) {
    VB_ASSIGN(*f.value, json_get<int64_t>(json, f.key, f.otherwise, source));
    if (*f.value < 1 || *f.value > kMaxSize)
      return bad_input(source + ": '" + f.key + "' must be a positive number");
  }
  return {};
}

// What bounds the work of building a graph, beyond what the tensors' own sizes do.
Status check_bounds(const ModelConfig& c, const std::string& source) {
  constexpr int64_t kMaxLayers = 4096, kMaxHeadSize = 1 << 16;
  if (c.num_hidden_layers > kMaxLayers || c.head_dim > kMaxHeadSize)
    return over_limit(source + ": more than " + std::to_string(kMaxLayers) +
                      " layers, or heads above " + std::to_string(kMaxHeadSize));
  if (!std::isfinite(c.norm_eps) || c.norm_eps < 0)
    return bad_input(source + ": the normalisation's epsilon must be a number of at least 0");
  return {};
}

// A setting that this implementation has one value for: another one would change results, so it is
// refused.
template <class T>
Status require_value(const Json& json, const char* key, T value, const std::string& source) {
  VB_ASSIGN(const T have, json_get<T>(json, key, value, source));
  if (have != value) return unsupported(source + ": this value of '" + key + "' is not supported");
  return {};
}

Status parse_bert(const Json& json, const std::string& source, ModelConfig& c) {
  const SizeField fields[] = {{"hidden_size", &c.hidden_size, 0},
                              {"intermediate_size", &c.intermediate_size, 0},
                              {"num_hidden_layers", &c.num_hidden_layers, 0},
                              {"num_attention_heads", &c.num_attention_heads, 0},
                              {"vocab_size", &c.vocab_size, 0},
                              {"max_position_embeddings", &c.max_position_embeddings, 0}};
  VB_TRY(read_sizes(json, source, fields));
  VB_TRY(require_value<std::string>(json, "hidden_act", "gelu", source));
  VB_TRY(require_value<std::string>(json, "position_embedding_type", "absolute", source));
  VB_TRY(require_value<int64_t>(json, "type_vocab_size", 2, source));
  VB_ASSIGN(c.norm_eps, json_get<float>(json, "layer_norm_eps", 1e-12f, source));
  if (c.hidden_size % c.num_attention_heads != 0)
    return bad_input(source + ": hidden_size is not a multiple of num_attention_heads");
  c.max_seq_length = c.max_position_embeddings;
  return check_bounds(c, source);
}

Status parse_eos(const Json& json, const std::string& source, ModelConfig& c) {
  const auto eos = json.find("eos_token_id");
  if (eos == json.end() || eos->is_null()) return {};
  if (eos->is_number_integer()) {
    c.eos_token_ids = {eos->get<int64_t>()};
    return {};
  }
  if (!eos->is_array() ||
      !std::ranges::all_of(*eos, [](const Json& j) { return j.is_number_integer(); }))
    return bad_input(source + ": eos_token_id is neither a number nor a list of numbers");
  c.eos_token_ids = eos->get<std::vector<int64_t>>();
  if (c.eos_token_ids.size() > 1) return unsupported(source + ": several eos_token_id");
  return {};
}

Status parse_llama(const Json& json, const std::string& source, ModelConfig& c) {
  const SizeField fields[] = {{"hidden_size", &c.hidden_size, 0},
                              {"intermediate_size", &c.intermediate_size, 0},
                              {"num_hidden_layers", &c.num_hidden_layers, 0},
                              {"num_attention_heads", &c.num_attention_heads, 0},
                              {"vocab_size", &c.vocab_size, 0},
                              {"max_position_embeddings", &c.max_position_embeddings, 2048}};
  VB_TRY(read_sizes(json, source, fields));
  const SizeField derived[] = {
      {"num_key_value_heads", &c.num_key_value_heads, c.num_attention_heads},
      {"head_dim", &c.head_dim, std::max<int64_t>(1, c.hidden_size / c.num_attention_heads)}};
  VB_TRY(read_sizes(json, source, derived));
  VB_TRY(require_value<std::string>(json, "hidden_act", "silu", source));
  if (json.contains("rope_scaling") && !json["rope_scaling"].is_null())
    return unsupported(source + ": rope_scaling");
  VB_ASSIGN(c.norm_eps, json_get<float>(json, "rms_norm_eps", 1e-6f, source));
  VB_ASSIGN(c.rope_theta, json_get<float>(json, "rope_theta", 10000.0f, source));
  VB_ASSIGN(c.tie_word_embeddings, json_get<bool>(json, "tie_word_embeddings", false, source));
  VB_ASSIGN(c.attention_bias, json_get<bool>(json, "attention_bias", false, source));
  VB_ASSIGN(c.mlp_bias, json_get<bool>(json, "mlp_bias", false, source));
  if (!std::isfinite(c.rope_theta) || !(c.rope_theta > 0))
    return bad_input(source + ": rope_theta must be a positive number");
  if (c.head_dim % 2 != 0) return bad_input(source + ": head_dim must be even");
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    return bad_input(source + ": num_attention_heads is not a multiple of num_key_value_heads");
  VB_TRY(check_bounds(c, source));
  return parse_eos(json, source, c);
}

// Sentence Transformers' modules.json: Transformer, Pooling and perhaps Normalize.
Status parse_modules(ConfigFolder& folder, const std::string& source, ModelConfig& c) {
  if (folder.has("sentence_bert_config.json")) {
    VB_ASSIGN(const Json json, folder.object("sentence_bert_config.json"));
    VB_ASSIGN(const int64_t length,
              json_get<int64_t>(json, "max_seq_length", c.max_position_embeddings, source));
    if (length < 2) return bad_input(source + "/sentence_bert_config.json: max_seq_length below 2");
    c.max_seq_length = std::min(length, c.max_position_embeddings);
  }
  if (!folder.has("modules.json")) return {};
  VB_ASSIGN(const Json modules, folder.array("modules.json"));
  for (const Json& module : modules) {
    if (!module.is_object())
      return bad_input(source + "/modules.json: a module that is not an object");
    VB_ASSIGN(const std::string type, json_get<std::string>(module, "type", "", source));
    VB_ASSIGN(const std::string path, json_get<std::string>(module, "path", "", source));
    if (type == "sentence_transformers.models.Normalize") {
      c.normalize = true;
    } else if (type == "sentence_transformers.models.Pooling") {
      if (path.find("..") != std::string::npos || path.starts_with('/'))
        return bad_input(source + "/modules.json: path outside the folder");
      VB_ASSIGN(const Json pooling, folder.object(path + "/config.json"));
      VB_ASSIGN(const bool mean,
                json_get<bool>(pooling, "pooling_mode_mean_tokens", false, source));
      VB_ASSIGN(c.cls_pooling, json_get<bool>(pooling, "pooling_mode_cls_token", false, source));
      if (mean == c.cls_pooling)
        return unsupported(source + ": pooling must be the mean or the first token");
    } else if (type != "sentence_transformers.models.Transformer") {
      return unsupported(source + "/modules.json: module " + printable(type));
    }
  }
  return {};
}

}  // namespace

std::string Precision::name() const {
  if (activation_slices == 0) return "fp32";
  return "s" + std::to_string(activation_slices) + "x" + std::to_string(weight_slices);
}

Result<Precision> parse_precision(std::string_view name) {
  if (name == "fp32") return Precision{};
  const auto digit = [&](size_t i) { return name[i] >= '1' && name[i] <= '4'; };
  if (name.size() == 4 && name[0] == 's' && name[2] == 'x' && digit(1) && digit(3))
    return Precision{name[1] - '0', name[3] - '0'};
  for (std::string_view later :
       {"bf16", "fp16", "fp8", "fp8-precise", "w8a8", "w4a8", "w3a8", "w2a8"})
    if (name == later)
      return unsupported("precision " + std::string(name) +
                         " is not implemented yet: use fp32 or s1x1 to s4x4");
  return usage_error("unknown precision '" + printable(name) + "': use fp32 or s1x1 to s4x4");
}

Result<std::shared_ptr<const Model>> Model::load(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const std::shared_ptr<Model> model(new Model());
  model->name_ = printable(std::filesystem::path(trimmed).filename().string());
  std::error_code error;
  if (std::filesystem::is_directory(trimmed, error)) {
    VB_TRY(model->load_folder(trimmed));
  } else if (trimmed.ends_with(".onnx")) {
    VB_TRY(model->load_onnx(trimmed));
  } else if (!std::filesystem::exists(trimmed, error)) {
    return unavailable(path + ": no such file or folder");
  } else {
    return bad_input(path + ": neither a folder with config.json nor an .onnx file");
  }
  return std::shared_ptr<const Model>(model);
}

Status Model::load_folder(const std::string& path) {
  Writer read;
  ConfigFolder folder(path, read);
  VB_ASSIGN(const Json config, folder.object("config.json"));
  const std::string source = path + "/config.json";
  VB_ASSIGN(const std::string type, json_get<std::string>(config, "model_type", "", source));
  if (type == "bert") {
    kind_ = ModelKind::bert;
    VB_TRY(parse_bert(config, source, config_));
    VB_TRY(parse_modules(folder, path, config_));
  } else if (type == "llama") {
    kind_ = ModelKind::llama;
    VB_TRY(parse_llama(config, source, config_));
  } else {
    return unsupported(source + ": model_type '" + printable(type) +
                       "'; bert and llama are supported");
  }
  config_bytes_ = read.take();
  VB_ASSIGN(tensors_, load_safetensors(path));
  if (!folder.has("tokenizer.json") && !folder.has("vocab.txt")) return {};
  VB_ASSIGN(tokenizer_, load_tokenizer(path));
  return {};
}

Status Model::load_onnx(const std::string& path) {
  kind_ = ModelKind::onnx;
  VB_ASSIGN(const auto file, MappedFile::open(path));
  if (file->bytes().size() > kMaxOnnxBytes) return over_limit(path + ": above 2 GiB");
  const std::string folder = std::filesystem::path(path).parent_path().string();
  VB_ASSIGN(onnx_graph_, import_onnx(file->bytes(), path, folder.empty() ? "." : folder));
  for (const Initializer& init : onnx_graph_.initializers) tensors_.emplace(init.name, init.tensor);
  return {};
}

std::map<std::string, Digest> Model::tensor_roots() const {
  std::map<std::string, Digest> roots;
  for (const auto& [name, tensor] : tensors_) roots.emplace(name, tensor_root(tensor));
  return roots;
}

Digest Model::root() const {
  Writer w;
  w.blob(config_bytes_);
  w.text(tokenizer_ ? sha256(as_bytes(tokenizer_->canonical_bytes())).hex() : "");
  for (const auto& [name, root] : tensor_roots()) {
    w.blob(as_bytes(name));
    w.raw(root.bytes);
  }
  if (kind_ == ModelKind::onnx) {
    Graph graph = onnx_graph_;
    graph.compute_roots();
    w.raw(program_root(graph).bytes);
  }
  return tagged_hash("verbatim.model.1", w.bytes());
}

Result<Program> Model::program(const Precision& precision) const {
  switch (kind_) {
    case ModelKind::bert:
      return embedding_program(precision);
    case ModelKind::llama:
      return usage_error(name_ + " is a language model: use `verbatim generate`");
    case ModelKind::onnx:
      break;
  }
  if (precision.activation_slices != 0)
    return unsupported("an ONNX file runs as it is: --precision is for model folders");
  Program program;
  program.graph = onnx_graph_;
  return program;
}

}  // namespace verbatim
