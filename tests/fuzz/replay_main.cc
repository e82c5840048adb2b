// Stands in for libFuzzer where the compiler has none: runs a fuzz target over every file of a
// corpus folder and over simple mutations of each (every truncation up to a limit, flipped bits,
// overwritten lengths), the same ones on every machine.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kTruncations = 256;
constexpr int kFlips = 2000;
constexpr int kOverwrites = 500;

int64_t g_runs = 0;

void run(const Bytes& input) {
  // A copy of exact size, so that a read past the end is one past an allocation.
  const Bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  ++g_runs;
}

// xorshift64: what matters is only that runs are repeatable.
uint64_t next(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

void run_mutations(const Bytes& seed) {
  run(seed);
  if (seed.empty()) return;
  const size_t step = std::max<size_t>(1, seed.size() / kTruncations);
  for (size_t size = 0; size < seed.size(); size += step)
    run(Bytes(seed.begin(), seed.begin() + size));
  uint64_t state = 0x9E3779B97F4A7C15u + seed.size();
  Bytes mutant = seed;
  for (int i = 0; i < kFlips; ++i) {
    const size_t at = next(state) % seed.size();
    mutant[at] ^= static_cast<uint8_t>(1u << (next(state) % 8));
    run(mutant);
    if (i % 4 == 3) mutant = seed;  // up to four changes at a time
  }
  for (int i = 0; i < kOverwrites; ++i) {
    mutant = seed;
    const size_t at = next(state) % seed.size();
    const size_t end = std::min(seed.size(), at + (size_t{1} << (next(state) % 4)));
    std::fill(mutant.begin() + at, mutant.begin() + end, next(state) % 2 == 0 ? 0xFF : 0x00);
    run(mutant);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 64;
  }
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], error)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "%s: no seeds\n", argv[1]);
    return 1;
  }
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    run_mutations(Bytes(std::istreambuf_iterator<char>(in), {}));
  }
  std::printf("%zu seeds, %lld runs\n", files.size(), static_cast<long long>(g_runs));
}
