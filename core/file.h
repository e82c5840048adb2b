// Files: bounded reads, memory maps, files and folders that appear whole or not at all.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <verbatim/core/codec.h>
#include <verbatim/core/status.h>

namespace verbatim {

// A read-only map, unmapped when the last reference goes.
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ByteView bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(const std::byte* data, size_t size, std::string path)
      : data_(data), size_(size), path_(std::move(path)) {}
  const std::byte* data_;
  size_t size_;
  std::string path_;
};

// The whole file; an error where it is larger than max_size.
Result<Bytes> read_file(const std::string& path, size_t max_size);
// Writes to a temporary neighbour, syncs it and renames it over `path`, which is missing or a
// regular file.
Status write_file(const std::string& path, ByteView bytes);
// Whether write_file() could: asked before what it will write is computed. Changes nothing.
Status check_writable(const std::string& path);

// A folder under a name of its own until it is whole.
//
//   VB_ASSIGN(TemporaryFolder folder, TemporaryFolder::beside("out"));
//   VB_TRY(write_file(folder.path() + "/a", bytes));
//   VB_TRY(folder.become("out"));  // else it is removed, with what it holds
class TemporaryFolder {
 public:
  // An empty folder next to `path`; makes the folders above.
  static Result<TemporaryFolder> beside(const std::string& path);
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  TemporaryFolder& operator=(TemporaryFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~TemporaryFolder();

  const std::string& path() const { return path_; }
  // Renames it. Replaces nothing but an empty folder.
  Status become(const std::string& path);

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;  // "": it has become another
};
// Whether a TemporaryFolder could become `path`: nothing is there, or an empty folder.
Status check_new_folder(const std::string& path);

}  // namespace verbatim
