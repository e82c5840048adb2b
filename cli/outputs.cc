#include <verbatim/cli/outputs.h>

#include <algorithm>
#include <filesystem>

#include <verbatim/core/file.h>

namespace verbatim::cli {
namespace {

namespace fs = std::filesystem;

// FILE.onnx of FILE.onnx:NAME=VALUE
std::string file_of_model(const std::string& path) {
  std::error_code error;
  const size_t fixed = path.rfind(".onnx:");
  return fixed == std::string::npos || fs::exists(path, error) ? path : path.substr(0, fixed + 5);
}

bool same(const std::string& a, const std::string& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

// Whether the file, by whatever links, is within the folder.
bool within(const std::string& file, const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error) || !fs::exists(file, error)) return false;
  const fs::path inner = fs::canonical(file, error);
  if (error) return false;
  const fs::path outer = fs::canonical(folder, error);
  return !error && std::ranges::mismatch(outer, inner).in1 == outer.end();
}

}  // namespace

Status check_output_file(const std::string& path, const std::vector<std::string>& reads) {
  if (path.empty()) return {};
  for (const std::string& read : reads) {
    if (same(path, file_of_model(read)))
      return usage_error(path + " is what is read: name another file to write");
    if (within(path, read) && fs::is_regular_file(path))
      return usage_error(path + " is a file of " + read + ", which is read: name another to write");
  }
  return check_writable(path);
}

Status check_output_folder(const std::string& path, const std::vector<std::string>& reads) {
  if (path.empty()) return {};
  for (const std::string& read : reads)
    if (same(path, read))
      return usage_error(path + " is what is read: name another folder to write");
  VB_TRY(check_new_folder(path));
  return TemporaryFolder::beside(path).status();
}

std::vector<std::string> input_files(const std::vector<std::string>& input_flags) {
  std::vector<std::string> files;
  for (const std::string& flag : input_flags)
    if (const size_t equals = flag.find('='); equals != std::string::npos)
      files.push_back(flag.substr(equals + 1));
  return files;
}

}  // namespace verbatim::cli
