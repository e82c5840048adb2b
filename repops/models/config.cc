#include <verbatim/repops/models/config.h>

#include <algorithm>
#include <cmath>

#include <verbatim/repops/models/json.h>

namespace verbatim {
namespace {

// Reads configuration files and remembers their bytes: they are a part of the model's identity.
class ConfigReader {
 public:
  ConfigReader(const ConfigFiles& files, std::string source, Writer& read)
      : files_(files), source_(std::move(source)), read_(read) {}

  bool has(const std::string& file) const { return files_.has(file); }
  Result<Json> object(const std::string& file) {
    return json(file, [](const Json& j) { return j.is_object(); });
  }
  Result<Json> array(const std::string& file) {
    return json(file, [](const Json& j) { return j.is_array(); });
  }

 private:
  template <class Check>
  Result<Json> json(const std::string& file, Check check) {
    const std::string path = source_ + "/" + file;
    VB_ASSIGN(const Bytes bytes, files_.read(file));
    read_.text(file);
    read_.blob(bytes);
    VB_ASSIGN(Json parsed, parse_json(as_chars(bytes), path));
    if (!check(parsed)) return bad_input(path + ": not the kind of JSON value that stands here");
    return parsed;
  }
  const ConfigFiles& files_;
  std::string source_;
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
Status parse_modules(ConfigReader& folder, const std::string& source, ModelConfig& c) {
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

Result<ParsedConfig> parse_config(const ConfigFiles& files, const std::string& source) {
  Writer read;
  ConfigReader folder(files, source, read);
  VB_ASSIGN(const Json json, folder.object("config.json"));
  const std::string file = source + "/config.json";
  VB_ASSIGN(const std::string type, json_get<std::string>(json, "model_type", "", file));
  ParsedConfig parsed;
  if (type == "bert") {
    parsed.kind = ModelKind::bert;
    VB_TRY(parse_bert(json, file, parsed.config));
    VB_TRY(parse_modules(folder, source, parsed.config));
  } else if (type == "llama") {
    parsed.kind = ModelKind::llama;
    VB_TRY(parse_llama(json, file, parsed.config));
  } else {
    return unsupported(file + ": model_type '" + printable(type) +
                       "'; bert and llama are supported");
  }
  parsed.bytes = read.take();
  return parsed;
}

}  // namespace verbatim
