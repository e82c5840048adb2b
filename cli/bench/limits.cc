// What this machine does at most, measured by loops that do nothing else.
#include <chrono>
#include <cmath>
#include <map>
#include <thread>

#include <verbatim/cli/bench/gpu.h>
#include <verbatim/cli/bench/peers.h>
#include <verbatim/core/cpu.h>
#include <verbatim/core/hash.h>

namespace verbatim::bench {
namespace {

// The greatest of several tries: nothing can be faster than the machine.
constexpr int kTries = 7;

// Work a second of `threads` threads, each of which calls piece(its index) over and over.
double rate(int threads, const std::function<double(int)>& piece) {
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    std::vector<double> done(static_cast<size_t>(threads));
    std::vector<std::thread> workers;
    const auto start = std::chrono::steady_clock::now();
    for (int t = 0; t < threads; ++t)
      workers.emplace_back([&, t] {
        for (int j = 0; j < 4; ++j) done[static_cast<size_t>(t)] += piece(t);
      });
    for (std::thread& w : workers) w.join();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    double total = 0;
    for (const double d : done) total += d;
    best = std::max(best, total / seconds);
  }
  return best;
}

double read_rate(const TargetPeers& target, int threads) {
  constexpr size_t kBytes = size_t{256} << 20;  // beyond every cache
  static const std::vector<std::byte> memory(kBytes, std::byte{1});
  const size_t part = kBytes / static_cast<size_t>(threads) & ~size_t{4095};
  return rate(threads, [&](int t) {
    const double value = target.read(memory.data() + static_cast<size_t>(t) * part, part);
    return value == value ? static_cast<double>(part) : 0;  // so that the loop is not left out
  });
}

double sha256_rate(int threads) {
  static const std::vector<std::byte> block(1 << 20, std::byte{1});
  return rate(threads, [](int) {
    for (int i = 0; i < 8; ++i) sha256(block);
    return 8.0 * static_cast<double>(block.size());
  });
}

double measured(Limit limit, int threads) {
  if (limit == Limit::sha256) return sha256_rate(threads);
  if (limit == Limit::gpu_float_operations) return gpu::float_operations();
  if (limit == Limit::gpu_copy_bandwidth) return gpu::copy_bandwidth();
  const TargetPeers* target = target_peers();
  if (target == nullptr) return 0;
  switch (limit) {
    case Limit::float_operations:
      return rate(threads, [&](int) { return target->float_operations(); });
    case Limit::integer_operations:
      return rate(threads, [&](int) { return target->integer_operations(); });
    case Limit::read_bandwidth:
      return read_rate(*target, threads);
    default:
      return 0;
  }
}

}  // namespace

double measured_limit(Limit limit, int threads) {
  static std::map<std::pair<Limit, int>, double> known;
  const auto [it, is_new] = known.try_emplace({limit, threads});
  if (is_new) it->second = measured(limit, threads);
  return it->second;
}

}  // namespace verbatim::bench
