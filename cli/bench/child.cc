#include <verbatim/cli/bench/child.h>

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

extern char** environ;

namespace verbatim::bench {

Result<Child> Child::start(const std::vector<std::string>& arguments) {
  // One socket for both directions: writing to a child that has ended is an error, not a signal.
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return internal_error(std::string("socketpair: ") + std::strerror(errno));
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  pid_t pid = -1;
  const int failure = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failure == 0) return Child(pid, ends[0]);
  ::close(ends[0]);
  return unavailable(arguments[0] + ": " + std::strerror(failure));
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      socket_(std::exchange(other.socket_, -1)),
      unread_(std::move(other.unread_)) {}

Child::~Child() {
  if (socket_ >= 0) ::close(socket_);  // the end of its input
  while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Status Child::send(const std::string& line) {
  const std::string text = line + "\n";
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t n = ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR)
      return internal_error(std::string("writing to a child: ") + std::strerror(errno));
    if (n > 0) sent += static_cast<size_t>(n);
  }
  return {};
}

Result<std::string> Child::receive() {
  for (;;) {
    if (const size_t end = unread_.find('\n'); end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    char text[1 << 14];
    const ssize_t n = ::recv(socket_, text, sizeof text, 0);
    if (n == 0) return internal_error("the child ended without an answer");
    if (n < 0 && errno != EINTR)
      return internal_error(std::string("reading from a child: ") + std::strerror(errno));
    if (n > 0) unread_.append(text, static_cast<size_t>(n));
  }
}

Result<std::string> Child::ask(const std::string& line) {
  VB_TRY(send(line));
  return receive();
}

}  // namespace verbatim::bench
