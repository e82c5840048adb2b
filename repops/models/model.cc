#include <verbatim/repops/models/model.h>

#include <filesystem>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/models/config.h>
#include <verbatim/repops/onnx/import.h>

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
  const ConfigFolder folder(path);
  VB_ASSIGN(ParsedConfig parsed, parse_config(folder, path));
  kind_ = parsed.kind;
  config_ = std::move(parsed.config);
  config_bytes_ = std::move(parsed.bytes);
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
  if (!precision.is_fp32())
    return unsupported("an ONNX file runs as it is: --precision is for model folders");
  Program program;
  program.graph = onnx_graph_;
  return program;
}

}  // namespace verbatim
