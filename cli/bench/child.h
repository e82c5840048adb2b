// A program that answers lines with lines.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include <verbatim/core/status.h>

namespace verbatim::bench {

// A running child whose standard input and output we hold; its end is waited for when this goes.
class Child {
 public:
  // `arguments`: the program, looked for in PATH, and what it is given. An error of code
  // unavailable where it cannot be started.
  static Result<Child> start(const std::vector<std::string>& arguments);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();

  Status send(const std::string& line);
  // The child's next line. An error where it has ended.
  Result<std::string> receive();
  Result<std::string> ask(const std::string& line);

 private:
  Child(pid_t pid, int socket) : pid_(pid), socket_(socket) {}
  pid_t pid_ = -1;
  int socket_ = -1;
  std::string unread_;
};

}  // namespace verbatim::bench
