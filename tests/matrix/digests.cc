// verbatim-digests SEED... FILE...: the selftest of each seed and each replay file, by the scalar
// reference. Prints "selftest SEED GROUP DIGEST" or "replay FILE same" a line; exits with 1 where a
// replay differs, and with 65 on an error.
#include <charconv>
#include <cstdio>
#include <string_view>

#include <verbatim/core/file.h>
#include <verbatim/repops/replay.h>
#include <verbatim/repops/selftest.h>

namespace verbatim {
namespace {

Result<bool> selftest(Backend& backend, uint64_t seed) {
  VB_ASSIGN(const SelftestDigests digests, run_selftest(backend, seed));
  for (const auto& [group, digest] : digests)
    std::printf("selftest %llu %s %s\n", static_cast<unsigned long long>(seed), group.c_str(),
                digest.hex().c_str());
  return true;
}

Result<bool> replay(Backend& backend, const std::string& path) {
  VB_ASSIGN(const Bytes bytes, read_file(path, 1 << 26));
  VB_ASSIGN(const Replay file, decode_replay(bytes, path));
  VB_ASSIGN(const std::string difference, run_replay(file, backend));
  std::printf("replay %s %s\n", path.c_str(), difference.empty() ? "same" : difference.c_str());
  return difference.empty();
}

Result<bool> run(Backend& backend, std::string_view argument) {
  uint64_t seed = 0;
  const char* end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, seed);
  if (error == std::errc() && rest == end) return selftest(backend, seed);
  return replay(backend, std::string(argument));
}

int run_all(int count, char** arguments) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  int status = 0;
  for (int i = 1; i < count; ++i) {
    const Result<bool> same = run(*backend, arguments[i]);
    if (!same.ok()) {
      std::fprintf(stderr, "%s: %s\n", arguments[i], same.status().message().c_str());
      return 65;
    }
    if (!*same) status = 1;
  }
  return status;
}

}  // namespace
}  // namespace verbatim

int main(int count, char** arguments) { return verbatim::run_all(count, arguments); }
