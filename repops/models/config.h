// A model's configuration: config.json, and modules.json and what it names for sentence embeddings.
#pragma once

#include <string>

#include <verbatim/core/codec.h>
#include <verbatim/repops/models/model.h>

namespace verbatim {

// The files of a model's folder by their names in it: on disk, or in memory.
class ConfigFiles {
 public:
  virtual ~ConfigFiles() = default;
  virtual bool has(const std::string& file) const = 0;
  virtual Result<Bytes> read(const std::string& file) const = 0;  // at most kMaxConfigBytes
};
inline constexpr size_t kMaxConfigBytes = 1 << 20;

struct ParsedConfig {
  ModelKind kind = ModelKind::bert;
  ModelConfig config;
  Bytes bytes;  // every file that was read, with its name
};

// Errors name `source`, the file and where it is wrong; unsupported for settings that would change
// results and that this library does not have.
Result<ParsedConfig> parse_config(const ConfigFiles& files, const std::string& source);

}  // namespace verbatim
