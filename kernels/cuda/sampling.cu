// Choosing a token (docs/numerics.md, Randomness): the greatest logit, or a draw among integer
// weights. All of it is integers but the weights themselves, so no order of adding changes a bit.
//
// top-k and top-p want weights in descending order, equal ones by index. Nothing is sorted: what is
// wanted is the weight at which a sum over that order (of ones for top-k, of weights for top-p)
// reaches its goal, found digit by digit, as a radix sort would; and of those that equal it, the
// index of the last that is kept. Blocks of threads have chunks of consecutive tokens.
#include <algorithm>

#include <verbatim/core/int128.h>
#include <verbatim/core/philox.h>
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/sampling.h>
#include <verbatim/repops/unary_f32.h>
#include <verbatim/kernels/cuda/ordered_sum.cuh>

namespace verbatim::cuda {
namespace {

constexpr int kThreads = 256, kSearchThreads = 1024;
// Of a weight, which is at most 2^32.
constexpr int kDigitBits = 11, kDigits = 3, kBins = 1 << kDigitBits;
static_assert(kDigitBits * kDigits == 33);
// Tokens of a chunk: their weights' upper 17 bits add up in 32.
constexpr int64_t kLeastChunk = 1024, kMostChunk = 1 << 14, kWantedChunks = 128;

// What is kept: greater weights, and equal ones up to an index.
struct Filter {
  uint64_t weight;
  int64_t last;
  __device__ bool keeps(int64_t i, uint64_t w) const {
    return w > weight || (w == weight && i <= last);
  }
};

struct State {
  Filter top_k, top_p;
  // A search: the sum that is wanted, the sum of the weights above those that begin with `prefix`,
  // and in the end how many that equal it are kept.
  uint64_t goal, above, prefix, ties;
  int64_t token;
};

struct Call {
  const float* logits;  // [n]
  int64_t n, chunk;
  float temperature;
  uint64_t least_weight;      // of a token that is kept
  uint64_t random;            // what Philox gave
  uint64_t *weights, *sums;   // [n], [chunks]
  uint64_t *best, *greatest;  // [chunks]: the first greatest logit, and the greatest quotient
  uint64_t* bins;             // [kBins], zeros between searches
  State* state;

  __device__ bool keeps(int64_t i, uint64_t w) const {
    return w >= least_weight && state->top_k.keeps(i, w) && state->top_p.keeps(i, w);
  }
  // f(i) for the tokens of the block's chunk.
  template <class F>
  __device__ void each(F&& f) const {
    const int64_t first = int64_t{blockIdx.x} * chunk, end = least(first + chunk, n);
    for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x) f(i);
  }
};

// Numbers in their order, those of both zeros one; 0 for NaN.
__device__ uint32_t order_of(float x) {
  if (is_nan(x)) return 0;
  const uint32_t bits = bits_of(x == 0 ? 0.0f : x);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000;
}
__device__ float number_of(uint32_t order) {
  if (order == 0) return float_of(kNanBits);
  return float_of(order >> 31 != 0 ? order & 0x7FFFFFFF : ~order);
}

__device__ uint64_t greater_of(uint64_t a, uint64_t b) { return a > b ? a : b; }

__global__ void __launch_bounds__(kThreads) find_greatest(Call p) {
  uint64_t best = 0, greatest = 0;
  p.each([&](int64_t i) {
    const float x = p.logits[i];
    best = greater_of(best, uint64_t{order_of(x)} << 32 | (~static_cast<uint32_t>(i)));
    greatest = greater_of(greatest, order_of(x / p.temperature));
  });
  best = block_fold(best, greater_of);
  greatest = block_fold(greatest, greater_of);
  if (threadIdx.x != 0) return;
  p.best[blockIdx.x] = best;
  p.greatest[blockIdx.x] = greatest;
}

// Of what each chunk found, by every block that asks.
__device__ uint64_t greatest_of(const uint64_t* of_chunks, int64_t chunks) {
  uint64_t greatest = 0;
  for (int64_t i = threadIdx.x; i < chunks; i += blockDim.x)
    greatest = greater_of(greatest, of_chunks[i]);
  return block_fold(greatest, greater_of);
}

__device__ int64_t token_of(uint64_t best) {
  return static_cast<int64_t>(~static_cast<uint32_t>(best));
}
__global__ void __launch_bounds__(kThreads) take_best(Call p, int64_t chunks) {
  const uint64_t best = greatest_of(p.best, chunks);
  if (threadIdx.x == 0) p.state->token = token_of(best);
}

__global__ void __launch_bounds__(kThreads) weigh(Call p, int64_t chunks) {
  const float greatest = number_of(static_cast<uint32_t>(greatest_of(p.greatest, chunks)));
  p.each([&](int64_t i) {
    p.weights[i] = to_fixed32(unary::f32::exp(p.logits[i] / p.temperature - greatest));
  });
  if (blockIdx.x != 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) p.bins[i] = 0;
  const Filter all{0, p.n - 1};
  if (threadIdx.x == 0) *p.state = {all, all, 0, 0, 0, 0, 0};
}

// What sums are of: of all that are kept, or of those that equal what a search found.
enum class Measure { ones, weights, ties };
template <Measure kMeasure>
__device__ uint64_t measure(const Call& p, int64_t i) {
  const uint64_t w = p.weights[i];
  if (!p.keeps(i, w)) return 0;
  if constexpr (kMeasure == Measure::ones) return 1;
  if constexpr (kMeasure == Measure::weights) return w;
  return w == p.state->prefix ? 1 : 0;
}

template <Measure kMeasure>
__global__ void __launch_bounds__(kThreads) sum_chunks(Call p) {
  uint64_t sum = 0;
  p.each([&](int64_t i) { sum += measure<kMeasure>(p, i); });
  sum = block_fold(sum, [](uint64_t a, uint64_t b) { return a + b; });
  if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}

// The sum of the values of the threads before this one, in a block of kSearchThreads.
__device__ uint64_t sum_before(uint64_t value) {
  __shared__ uint64_t of_warps[kSearchThreads / kWarp];
  const int lane = static_cast<int>(threadIdx.x % kWarp),
            warp = static_cast<int>(threadIdx.x / kWarp);
  uint64_t sum = value;
  for (int by = 1; by < static_cast<int>(kWarp); by *= 2) {
    const uint64_t before = __shfl_sync(~0u, sum, lane >= by ? lane - by : lane);
    if (lane >= by) sum += before;
  }
  if (lane == static_cast<int>(kWarp) - 1) of_warps[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += of_warps[w];
  __syncthreads();
  return sum - value;
}

// The first place at which the sum of value(0), value(1), ... is above `rank`, and the sum before
// it: found, or {count, sum of all}.
struct Found {
  int64_t at;
  uint64_t before;
};
template <class Value>
__device__ Found find_first(int64_t count, uint64_t rank, Value&& value) {
  __shared__ Found found;
  __shared__ uint64_t running;
  if (threadIdx.x == 0) {
    found = {count, 0};
    running = 0;
  }
  __syncthreads();
  for (int64_t first = 0; first < count && found.at == count; first += kSearchThreads) {
    const int64_t i = first + threadIdx.x;
    const uint64_t v = i < count ? value(i) : 0, before = running + sum_before(v);
    if (before <= rank && rank < before + v) found = {i, before};
    __syncthreads();
    if (threadIdx.x == kSearchThreads - 1) running = before + v;
    __syncthreads();
  }
  if (threadIdx.x == 0 && found.at == count) found.before = running;
  __syncthreads();
  const Found result = found;
  __syncthreads();
  return result;
}

// Begins a search for as many as `count`, or, if that is 0, for a share of all weights, rounded up:
// one at least.
__global__ void __launch_bounds__(kSearchThreads)
    begin_search(State* state, const uint64_t* sums, int64_t chunks, uint64_t count,
                 uint64_t share) {
  uint64_t goal = count;
  if (count == 0) {
    const uint64_t total =
        find_first(chunks, ~uint64_t{0}, [&](int64_t i) { return sums[i]; }).before;
    // The product of 32 bits and 64, over 2^32.
    const uint64_t low = (total & 0xFFFFFFFF) * share, high = (total >> 32) * share;
    goal = high + (low >> 32) + ((low & 0xFFFFFFFF) != 0 ? 1 : 0);
    if (goal == 0) goal = 1;
  }
  if (threadIdx.x != 0) return;
  state->goal = goal;
  state->above = state->prefix = 0;
}

__device__ int shift_of(int digit) { return (kDigits - 1 - digit) * kDigitBits; }

// Adds the measure of the weights that begin with the prefix to the bin of their next digit.
template <Measure kMeasure>
__global__ void __launch_bounds__(kThreads) count_digits(Call p, int digit) {
  __shared__ uint32_t low[kBins], high[kBins];  // of 16 bits each, before they are added
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) low[i] = high[i] = 0;
  __syncthreads();
  const int shift = shift_of(digit);
  const uint64_t prefix = p.state->prefix;
  p.each([&](int64_t i) {
    const uint64_t w = p.weights[i], m = measure<kMeasure>(p, i);
    if (w >> shift >> kDigitBits != prefix || m == 0) return;
    const auto bin = static_cast<int>(w >> shift & (kBins - 1));
    atomicAdd(&low[bin], static_cast<uint32_t>(m & 0xFFFF));
    if constexpr (kMeasure == Measure::weights)
      atomicAdd(&high[bin], static_cast<uint32_t>(m >> 16));
  });
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads)
    if (const uint64_t sum = low[i] + (uint64_t{high[i]} << 16); sum != 0)
      atomicAdd(reinterpret_cast<unsigned long long*>(&p.bins[i]),
                static_cast<unsigned long long>(sum));
}

// The digit at which the sum from above reaches the goal.
__global__ void __launch_bounds__(kSearchThreads)
    take_digit(State* state, uint64_t* bins, bool of_weights, bool last) {
  const uint64_t missing = state->goal - state->above;
  const Found found =
      find_first(kBins, missing - 1, [&](int64_t i) { return bins[kBins - 1 - i]; });
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kSearchThreads) bins[i] = 0;
  if (threadIdx.x != 0) return;
  const int64_t bin = found.at == kBins ? 0 : kBins - 1 - found.at;  // no weight at all
  state->above += found.before;
  state->prefix = state->prefix << kDigitBits | static_cast<uint64_t>(bin);
  if (!last) return;
  const uint64_t left = state->goal - state->above,
                 each = of_weights ? greater_of(state->prefix, 1) : 1;
  state->ties = (left + each - 1) / each;
}

// The token at which the sum of measures is above a rank: the last of the ties that is kept, or
// what is drawn.
template <Measure kMeasure>
__device__ Found find_token(const Call& p, int64_t chunks, uint64_t rank) {
  const Found chunk = find_first(chunks, rank, [&](int64_t i) { return p.sums[i]; });
  if (chunk.at == chunks) return {p.n - 1, chunk.before};
  const int64_t first = chunk.at * p.chunk;
  const Found token = find_first(least(p.chunk, p.n - first), rank - chunk.before,
                                 [&](int64_t i) { return measure<kMeasure>(p, first + i); });
  return {first + token.at, chunk.before + token.before};
}

__global__ void __launch_bounds__(kSearchThreads)
    end_search(Call p, int64_t chunks, bool of_top_p) {
  const Found last = find_token<Measure::ties>(p, chunks, p.state->ties - 1);
  if (threadIdx.x != 0) return;
  (of_top_p ? p.state->top_p : p.state->top_k) = {p.state->prefix, last.at};
}

// A random number below `total`.
__device__ uint64_t scaled(uint64_t random, uint64_t total) {
  return static_cast<uint64_t>(uint128{random} * total >> 64);
}

__global__ void __launch_bounds__(kSearchThreads) draw(Call p, int64_t chunks) {
  const uint64_t total =
      find_first(chunks, ~uint64_t{0}, [&](int64_t i) { return p.sums[i]; }).before;
  const Found drawn = find_token<Measure::weights>(p, chunks, scaled(p.random, total));
  uint64_t best = 0;  // infinities or NaN everywhere: no distribution to draw from
  if (total == 0)
    for (int64_t i = 0; i < chunks; ++i) best = greater_of(best, p.best[i]);
  if (threadIdx.x == 0) p.state->token = total == 0 ? token_of(best) : drawn.at;
}

// --- on the host

struct Sampler {
  Gpu& gpu;
  Call p;
  int64_t chunks;

  Grid over_chunks() const {
    return {.blocks = {static_cast<unsigned>(chunks), 1, 1}, .threads = {kThreads, 1, 1}};
  }
  static Grid search() { return {.blocks = {1, 1, 1}, .threads = {kSearchThreads, 1, 1}}; }

  // For the weight and the index up to which tokens are kept: so many, or such a share of weights.
  template <Measure kMeasure>
  Status find_filter(uint64_t count, uint64_t share) {
    constexpr bool kShare = kMeasure == Measure::weights;
    if (kShare) VB_TRY(launch(gpu, over_chunks(), sum_chunks<kMeasure>, p));
    VB_TRY(launch(gpu, search(), begin_search, p.state, p.sums, chunks, count, share));
    for (int digit = 0; digit < kDigits; ++digit) {
      VB_TRY(launch(gpu, over_chunks(), count_digits<kMeasure>, p, digit));
      VB_TRY(launch(gpu, search(), take_digit, p.state, p.bins, kShare, digit + 1 == kDigits));
    }
    VB_TRY(launch(gpu, over_chunks(), sum_chunks<Measure::ties>, p));
    return launch(gpu, search(), end_search, p, chunks, kShare);
  }

  Status choose(const SamplingSettings& s) {
    VB_TRY(launch(gpu, over_chunks(), find_greatest, p));
    if (!(s.temperature > 0))
      return launch(gpu, {.blocks = {1, 1, 1}, .threads = {kThreads, 1, 1}}, take_best, p, chunks);
    VB_TRY(launch(gpu, over_chunks(), weigh, p, chunks));
    if (s.top_k > 0 && s.top_k < p.n)
      VB_TRY(find_filter<Measure::ones>(static_cast<uint64_t>(s.top_k), 0));
    // The greatest weight is 2^32, or all are 0.
    if (s.min_p > 0) p.least_weight = to_fixed32(std::min(s.min_p, 1.0f));
    if (s.top_p < 1) VB_TRY(find_filter<Measure::weights>(0, to_fixed32(s.top_p)));
    VB_TRY(launch(gpu, over_chunks(), sum_chunks<Measure::weights>, p));
    return launch(gpu, search(), draw, p, chunks);
  }
};

}  // namespace

Outcome run_sample(Gpu& gpu, const KernelBackend&, const Node& node,
                   std::span<const Tensor> inputs) {
  const Tensor &logits = inputs[0], &position = inputs[1];
  if (logits.dtype() != DType::f32 || logits.rank() < 1 || logits.elements() == 0 ||
      position.dtype() != DType::i64 || position.elements() < 1)
    return not_handled();
  const int64_t n = logits.dim(logits.rank() - 1);
  if (n >= int64_t{1} << 31) return not_handled();
  VB_ASSIGN(const SamplingSettings settings, sampling_settings(node));
  const int64_t chunk = std::clamp(ceiling(n, kWantedChunks), kLeastChunk, kMostChunk),
                chunks = ceiling(n, chunk);
  constexpr auto kStateWords = static_cast<int64_t>(sizeof(State) / sizeof(uint64_t));
  VB_ASSIGN(Tensor scratch,
            Tensor::allocate_on(gpu, DType::u64, Shape{n + 3 * chunks + kBins + kStateWords},
                                Purpose::scratch));
  auto* words = reinterpret_cast<uint64_t*>(scratch.mutable_address());
  Call p{.logits = reinterpret_cast<const float*>(logits.address()) + logits.elements() - n,
         .n = n,
         .chunk = chunk,
         .temperature = settings.temperature,
         .least_weight = 0,
         .random = philox_u64(settings.seed, static_cast<uint64_t>(position.data<int64_t>().back()),
                              settings.stream),
         .weights = words,
         .sums = words + n,
         .best = words + n + chunks,
         .greatest = words + n + 2 * chunks,
         .bins = words + n + 3 * chunks,
         .state = reinterpret_cast<State*>(words + n + 3 * chunks + kBins)};
  Sampler sampler{gpu, p, chunks};
  VB_TRY(sampler.choose(settings));
  VB_ASSIGN(Tensor token, Tensor::allocate(DType::i64, Shape{1}));
  VB_TRY(gpu.copy_to_host(token.mutable_data<int64_t>().data(), &p.state->token, sizeof(int64_t)));
  return done({token});
}

}  // namespace verbatim::cuda
