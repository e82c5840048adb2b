// Files: bounded reads, memory maps, writes that appear whole or not at all.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

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
// Writes to a temporary neighbour, syncs it and renames it over `path`.
Status write_file(const std::string& path, ByteView bytes);

}  // namespace verbatim
