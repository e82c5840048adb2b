#include <verbatim/cli/bench/bench.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <thread>

#include <verbatim/cli/bench/peers.h>
#include <verbatim/core/parallel.h>

namespace verbatim::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const Contender& contender, int64_t times) {
  if (contender.seconds) return contender.seconds(times) / static_cast<double>(times);
  const Clock::time_point start = Clock::now();
  for (int64_t i = 0; i < times; ++i) contender.run();
  return std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(times);
}

// Threads of the contender before spin for a while, waiting for work of their own; those of a child
// process, too. Waits until this process has no more use of processors, a second at most.
void settle(int threads) {
  if (threads == 1) return;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (int i = 0; i < 200; ++i) {
    const std::clock_t before = std::clock();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (std::clock() - before < CLOCKS_PER_SEC / 5000) return;
  }
}

// Runs for so long that its threads are awake and on processors of their own: a thread that is
// woken can share its waker's for some 20 ms.
void wake(const Contender& contender, int threads) {
  if (threads == 1) return;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(40);
  while (Clock::now() < end) seconds_of(contender, 1);
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

}  // namespace

Result<std::vector<Row>> measure(const Case& c, Backend& backend, int threads,
                                 const Settings& settings) {
  set_thread_count(threads);
  set_onednn_threads(threads);
  VB_ASSIGN(const Match match, c.prepare(backend));
  std::vector<const Contender*> all = {&match.ours};
  for (const Contender& peer : match.peers) all.push_back(&peer);

  std::vector<int64_t> times;
  for (const Contender* contender : all) {
    if (contender->set_threads) contender->set_threads(threads);
    contender->run();  // code, pages and caches
    settle(threads);
    const double once = seconds_of(*contender, 1);
    times.push_back(std::max<int64_t>(1, std::llround(settings.seconds / std::max(once, 1e-9))));
  }
  if (match.check) VB_TRY(match.check());

  std::vector<std::vector<double>> samples(all.size());
  for (int s = 0; s < settings.samples; ++s) {
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i]->set_threads) all[i]->set_threads(threads);
      settle(threads);
      wake(*all[i], threads);
      samples[i].push_back(seconds_of(*all[i], times[i]));
    }
  }
  Row row;
  row.name = c.name;
  row.shape = c.shape;
  row.threads = threads;
  row.unit = match.unit;
  row.ours = match.work / median(samples[0]);
  row.ours_kernel = match.ours.kernel;
  if (match.limit != Limit::none) row.limit = 1e-9 * measured_limit(match.limit, threads);
  std::vector<Row> rows;
  for (size_t i = 1; i < all.size(); ++i) {
    row.peer = match.work / median(samples[i]);
    row.peer_name = all[i]->name;
    row.peer_version = all[i]->version;
    row.peer_kernel = all[i]->kernel;
    rows.push_back(row);
  }
  if (rows.empty()) rows.push_back(row);
  return rows;
}

}  // namespace verbatim::bench
