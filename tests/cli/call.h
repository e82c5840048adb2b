// Calls the programs of this build.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <stdexcept>
#include <string>

#include "support/paths.h"

namespace verbatim::test {

struct Called {
  int code = -1;
  std::string text;  // stdout and stderr together, or what the redirection leaves of them
};

inline Called call(const std::string& command, const std::string& redirection = "2>&1",
                   const std::string& folder = ".") {
  Called called;
  const std::string line =
      "cd '" + folder + "' && " + std::string(kBinDir) + "/" + command + " " + redirection;
  std::FILE* pipe = ::popen(line.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen");
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    called.text.append(buffer, n);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) called.code = WEXITSTATUS(status);
  return called;
}

}  // namespace verbatim::test
