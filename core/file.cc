#include <verbatim/core/file.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

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
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
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

}  // namespace verbatim
