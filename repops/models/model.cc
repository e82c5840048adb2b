#include <verbatim/repops/models/model.h>

#include <filesystem>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/models/config.h>
#include <verbatim/repops/models/silero.h>

namespace verbatim {
namespace {

constexpr size_t kMaxOnnxBytes = size_t{2} << 30;  // protobuf's own limit

// A folder on disk.
class ConfigFolder final : public ConfigFiles {
 public:
  explicit ConfigFolder(std::string path) : path_(std::move(path)) {}
  bool has(const std::string& file) const override {
    std::error_code error;  // a loop of links is not there
    return std::filesystem::exists(path_ + "/" + file, error);
  }
  Result<Bytes> read(const std::string& file) const override {
    return read_file(path_ + "/" + file, kMaxConfigBytes);
  }

 private:
  std::string path_;
};

// "a=1,b=2" as a map.
Result<std::map<std::string, std::string>> parse_settings(const std::string& text) {
  std::map<std::string, std::string> settings;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.size(), text.find(',', begin));
    const std::string setting = text.substr(begin, end - begin);
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0 ||
        !settings.emplace(setting.substr(0, equals), setting.substr(equals + 1)).second)
      return usage_error("inputs are fixed by NAME=VALUE, once each, not by '" +
                         printable(setting) + "'");
    begin = end + 1;
  }
  return settings;
}

}  // namespace

std::string Precision::name() const {
  if (is_fp32()) return "fp32";
  if (operands == DType::bf16) return "bf16";
  if (operands == DType::f16) return "fp16";
  if (operands == DType::f8e4m3) return precise ? "fp8-precise" : "fp8";
  if (weight_bits > 0) return "w" + std::to_string(weight_bits) + "a8";
  return "s" + std::to_string(activation_slices) + "x" + std::to_string(weight_slices);
}

Result<Precision> parse_precision(std::string_view name) {
  const auto digit = [&](size_t i) { return name[i] >= '1' && name[i] <= '4'; };
  if (name.size() == 4 && name[0] == 's' && name[2] == 'x' && digit(1) && digit(3))
    return Precision{.activation_slices = name[1] - '0', .weight_slices = name[3] - '0'};
  for (const Precision& p :
       {Precision{}, Precision{.operands = DType::bf16}, Precision{.operands = DType::f16},
        Precision{.operands = DType::f8e4m3}, Precision{.operands = DType::f8e4m3, .precise = true},
        Precision{.weight_bits = 8}, Precision{.weight_bits = 4}, Precision{.weight_bits = 3},
        Precision{.weight_bits = 2}, Precision{.weight_bits = 1}})
    if (name == p.name()) return p;
  return usage_error(
      "unknown precision '" + printable(name) +
      "': use fp32, bf16, fp16, fp8, fp8-precise, s1x1 to s4x4, or w8a8, w4a8, w3a8, w2a8, w1a8");
}

Result<std::shared_ptr<const Model>> Model::load(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const std::shared_ptr<Model> model(new Model());
  model->name_ = printable(std::filesystem::path(trimmed).filename().string());
  std::error_code error;
  const size_t fixed = trimmed.rfind(".onnx:");
  if (std::filesystem::is_directory(trimmed, error)) {
    VB_TRY(model->load_folder(trimmed));
  } else if (trimmed.ends_with(".onnx")) {
    VB_TRY(model->load_onnx(trimmed, ""));
  } else if (fixed != std::string::npos) {
    VB_TRY(model->load_onnx(trimmed.substr(0, fixed + 5), trimmed.substr(fixed + 6)));
  } else if (!std::filesystem::exists(trimmed, error)) {
    return unavailable(path + ": no such file or folder");
  } else if (trimmed.ends_with(".safetensors")) {
    VB_TRY(model->load_tensors(trimmed));
  } else {
    return bad_input(path + ": neither a folder with a model, nor an .onnx or .safetensors file");
  }
  return std::shared_ptr<const Model>(model);
}

Status Model::load_folder(const std::string& path) {
  const ConfigFolder folder(path);
  if (!folder.has("config.json") && folder.has("model.safetensors"))
    return load_tensors(path + "/model.safetensors");
  VB_ASSIGN(ParsedConfig parsed, parse_config(folder, path));
  kind_ = parsed.kind;
  config_ = std::move(parsed.config);
  config_bytes_ = std::move(parsed.bytes);
  VB_ASSIGN(tensors_, load_safetensors(path));
  if (!folder.has("tokenizer.json") && !folder.has("vocab.txt")) return {};
  VB_ASSIGN(tokenizer_, load_tokenizer(path));
  return {};
}

Status Model::load_tensors(const std::string& path) {
  VB_ASSIGN(const auto file, MappedFile::open(path));
  VB_ASSIGN(tensors_, parse_safetensors(file->bytes(), path, file));
  if (!is_silero(tensors_))
    return unsupported(path +
                       ": no config.json stands beside it, and its tensors are not those of a "
                       "model that is known by their names (Silero VAD)");
  kind_ = ModelKind::silero;
  return {};
}

Status Model::load_onnx(const std::string& path, const std::string& settings) {
  kind_ = ModelKind::onnx;
  VB_ASSIGN(const auto fixed, parse_settings(settings));
  VB_ASSIGN(const auto file, MappedFile::open(path));
  if (file->bytes().size() > kMaxOnnxBytes) return over_limit(path + ": above 2 GiB");
  const std::string folder = std::filesystem::path(path).parent_path().string();
  VB_ASSIGN(onnx_, import_onnx_model(file->bytes(), path, folder.empty() ? "." : folder, fixed));
  for (const Initializer& init : onnx_.graph.initializers) tensors_.emplace(init.name, init.tensor);
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
    Graph graph = onnx_.graph;
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
    case ModelKind::silero:
      break;
  }
  if (!precision.is_fp32())
    return unsupported(name_ + " runs as it is: --precision is for BERT and Llama folders");
  Program program;
  if (kind_ == ModelKind::silero) {
    VB_ASSIGN(program.graph, silero_graph(tensors_));
    return program;
  }
  program.graph = onnx_.graph;
  return program;
}

Result<Program> Model::speech_program(const Tensor& audio) const {
  VB_ASSIGN(const Tensors inputs, speech_inputs(audio));
  return silero_program(tensors_, (inputs[0].dim(1) - kSileroContext) / kSileroChunk);
}

Result<Tensors> Model::speech_inputs(const Tensor& audio) const {
  if (kind_ != ModelKind::silero)
    return usage_error(name_ + " is not a speech detector (Silero VAD's safetensors)");
  return silero_inputs(audio);
}

}  // namespace verbatim
