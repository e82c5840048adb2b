// verbatim-digests SEED... FILE...: the selftest of each seed, each replay file and each golden
// file (.jsonl), by the scalar reference. Prints "selftest SEED GROUP DIGEST", "replay FILE same"
// or "golden FILE CASES same" a line; exits with 1 where a file differs, and with 65 on an error.
#include <charconv>
#include <cstdio>
#include <sstream>
#include <string_view>

#include <verbatim/core/file.h>
#include <verbatim/repops/replay.h>
#include <verbatim/repops/selftest.h>

#include "kernels/golden.h"

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

// Names the cases that differ, the first few of them.
Result<bool> golden(const std::string& path) {
  VB_ASSIGN(const Bytes bytes, read_file(path, 1 << 26));
  std::istringstream text{std::string(as_chars(bytes))};
  int cases = 0, differ = 0;
  for (std::string line; std::getline(text, line); ++cases) {
    VB_ASSIGN(const test::Golden g, test::read_golden(test::Json::parse(line)));
    const Result<Tensors> have = test::evaluate_golden(g);
    const std::string difference =
        have.ok() ? test::golden_difference(g, *have) : have.status().message();
    if (!difference.empty() && ++differ <= 5)
      std::printf("golden %s, %s: %.400s\n", path.c_str(), g.name.c_str(), difference.c_str());
  }
  if (differ == 0)
    std::printf("golden %s %d same\n", path.c_str(), cases);
  else
    std::printf("golden %s: %d of %d differ\n", path.c_str(), differ, cases);
  return differ == 0;
}

Result<bool> run(Backend& backend, std::string_view argument) {
  uint64_t seed = 0;
  const char* end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, seed);
  if (error == std::errc() && rest == end) return selftest(backend, seed);
  if (argument.ends_with(".jsonl")) return golden(std::string(argument));
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
