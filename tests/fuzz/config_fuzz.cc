// libFuzzer target for model configurations. The input is a config.json and, after NUL bytes, a
// modules.json, a sentence_bert_config.json and a pooling configuration: what is accepted is within
// the bounds that building a graph relies on.
#include <verbatim/repops/models/config.h>

#include <cmath>
#include <cstdlib>
#include <string_view>

namespace {

using namespace verbatim;

class Parts final : public ConfigFiles {
 public:
  explicit Parts(std::string_view input) : input_(input) {}
  bool has(const std::string& file) const override { return part(file).has_value(); }
  Result<Bytes> read(const std::string& file) const override {
    const auto text = part(file);
    if (!text) return unavailable(file + ": no such file");
    const ByteView bytes = as_bytes(*text);
    return Bytes(bytes.begin(), bytes.end());
  }

 private:
  std::optional<std::string_view> part(const std::string& file) const {
    const int index = file == "config.json"                 ? 0
                      : file == "modules.json"              ? 1
                      : file == "sentence_bert_config.json" ? 2
                                                            : 3;
    std::string_view rest = input_;
    for (int i = 0; i < index; ++i) {
      const size_t nul = rest.find('\0');
      if (nul == std::string_view::npos) return std::nullopt;
      rest.remove_prefix(nul + 1);
    }
    return rest.substr(0, rest.find('\0'));
  }
  std::string_view input_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Parts files({reinterpret_cast<const char*>(data), size});
  const Result<ParsedConfig> parsed = parse_config(files, "fuzz");
  if (!parsed.ok()) return 0;
  const ModelConfig& c = parsed->config;
  const bool fine = c.hidden_size > 0 && c.num_attention_heads > 0 && c.num_hidden_layers > 0 &&
                    c.num_hidden_layers <= 4096 && c.vocab_size > 0 && std::isfinite(c.norm_eps) &&
                    c.norm_eps >= 0 && std::isfinite(c.rope_theta) && c.rope_theta > 0;
  const bool llama = c.num_key_value_heads > 0 && c.head_dim > 0 && c.head_dim % 2 == 0 &&
                     c.num_attention_heads % c.num_key_value_heads == 0;
  if (!fine || (parsed->kind == ModelKind::llama && !llama)) std::abort();
  return 0;
}
