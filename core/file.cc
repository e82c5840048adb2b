#include <verbatim/core/file.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace verbatim {
namespace {

struct FileDescriptor {
  int fd;
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Status failed(const std::string& path, const char* what) {
  return unavailable(path + ": cannot " + what + ": " + std::strerror(errno));
}

Result<size_t> size_of_regular_file(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return failed(path, "stat");
  if (!S_ISREG(info.st_mode)) return bad_input(path + ": not a regular file");
  return static_cast<size_t>(info.st_size);
}

Status write_all(int fd, ByteView bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed(path, "write");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

std::string temporary_name(const std::string& path) {
  return path + ".tmp" + std::to_string(::getpid());
}

// A rename would put a file in the place of a device or pipe.
Status check_replaceable(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return unavailable(path + ": cannot replace: not a regular file");
  return {};
}

// Without a "/" at its end, which rename() would take for a folder that must be there.
std::string trimmed(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return failed(path, "open");
  VB_ASSIGN(const size_t size, size_of_regular_file(file.fd, path));
  const void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (data == MAP_FAILED) return failed(path, "map");
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(static_cast<const std::byte*>(data), size, path));
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<Bytes> read_file(const std::string& path, size_t max_size) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return failed(path, "open");
  VB_ASSIGN(const size_t size, size_of_regular_file(file.fd, path));
  if (size > max_size)
    return over_limit(path + ": " + std::to_string(size) + " bytes, above the limit of " +
                      std::to_string(max_size));
  Bytes bytes(size);
  for (size_t done = 0; done < size;) {
    const ssize_t n = ::read(file.fd, bytes.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(path, "read");
    if (n == 0) return bad_input(path + ": shrank while it was read");
    done += static_cast<size_t>(n);
  }
  return bytes;
}

Status write_file(const std::string& path, ByteView bytes) {
  VB_TRY(check_replaceable(path));
  const std::string temporary = temporary_name(path);
  {
    const FileDescriptor file{
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
    if (file.fd < 0) return failed(temporary, "create");
    Status status = write_all(file.fd, bytes, temporary);
    if (status.ok() && ::fsync(file.fd) != 0) status = failed(temporary, "sync");
    if (!status.ok()) {
      ::unlink(temporary.c_str());
      return status;
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    Status status = failed(path, "replace");
    ::unlink(temporary.c_str());
    return status;
  }
  return {};
}

Status check_writable(const std::string& path) {
  VB_TRY(check_replaceable(path));
  const std::string temporary = temporary_name(path);
  const FileDescriptor file{
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (file.fd < 0) return failed(path, "write");
  ::unlink(temporary.c_str());
  return {};
}

Result<TemporaryFolder> TemporaryFolder::beside(const std::string& path) {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(trimmed(path)).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, error);
  if (error) return unavailable(parent.string() + ": cannot create: " + error.message());
  for (int n = 0;; ++n) {
    const std::string name = temporary_name(trimmed(path)) + "." + std::to_string(n);
    if (::mkdir(name.c_str(), 0777) == 0) return TemporaryFolder(name);
    if (errno != EEXIST || n == 1000) return failed(path, "create");
  }
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  if (!path_.empty()) std::filesystem::remove_all(path_, error);
}

Status TemporaryFolder::become(const std::string& path) {
  VB_TRY(check_new_folder(path));
  if (::rename(path_.c_str(), trimmed(path).c_str()) != 0) return failed(path, "create");
  path_.clear();
  return {};
}

Status check_new_folder(const std::string& path) {
  struct stat info {};
  if (::lstat(trimmed(path).c_str(), &info) != 0)
    return errno == ENOENT ? Status() : failed(path, "create");
  std::error_code error;
  if (S_ISDIR(info.st_mode) && std::filesystem::is_empty(path, error) && !error) return {};
  return unavailable(path + ": is there already, and nothing is replaced: name a new folder");
}

}  // namespace verbatim
