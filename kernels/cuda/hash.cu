// Merkle roots of tensors' leaves (core/tensor_root.h) where the tensors lie: a thread for each
// leaf, then one for each pair of digests. So many tensors at once that a launch, and the wait for
// the result, cost little beside a leaf: a thread hashes its 33 blocks one after the other in some
// 50 us, a warp, where there are few leaves, in 30. They have a stream of their own, on which that
// passes beside other work.
//
// The arithmetic bounds it: a block of 64 bytes takes 1294 instructions of the integer units, of
// which a multiprocessor has 64 lanes. So 132 of them at 1.755 GHz hash 730 GB/s at most. Reading
// is far from any limit, though the lanes of a warp read 2 KiB apart: each takes whole sectors, of
// lines that stay in the cache for its next block.
#include <deque>
#include <utility>
#include <vector>

#include <verbatim/core/sha256_message.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/cuda/gpu.h>

namespace verbatim::cuda {
namespace {

// --- SHA-256 (FIPS 180-4) in a thread's registers

__device__ __forceinline__ uint32_t rotated(uint32_t x, int by) {
  return __funnelshift_r(x, x, by);
}

// Word t of the schedule, in the place of word t - 16 (6.2.2, step 1).
template <int kT>
__device__ __forceinline__ void schedule(uint32_t (&w)[16]) {
  const uint32_t a = w[(kT + 1) % 16], b = w[(kT + 14) % 16];
  w[kT % 16] += (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[(kT + 9) % 16] +
                (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
}

// Step 3, of a word of the schedule and its constant. The variable that is a after t rounds is
// s[-t mod 8].
template <int kT>
__device__ __forceinline__ void round(uint32_t (&s)[8], uint32_t word) {
  constexpr auto at = [](int i) { return (i + 64 - kT) % 8; };
  const uint32_t a = s[at(0)], b = s[at(1)], c = s[at(2)], e = s[at(4)], f = s[at(5)], g = s[at(6)];
  const uint32_t t1 =
      s[at(7)] + word + ((e & f) ^ (~e & g)) + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25));
  s[at(3)] += t1;
  s[at(7)] = t1 + ((a & b) ^ (a & c) ^ (b & c)) + (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22));
}

// Calls f(t, word) for each round t, a constant, with a word of the schedule and its constant.
template <class F, int... kT>
__device__ __forceinline__ void for_each_round(uint32_t (&w)[16], F&& f,
                                               std::integer_sequence<int, kT...>) {
  const auto one = [&](auto t) {
    if constexpr (t >= 16) schedule<t>(w);
    constexpr uint32_t k = sha::kRound[t];
    f(t, w[t % 16] + k);
  };
  (one(std::integral_constant<int, kT>()), ...);
}
using Rounds = std::make_integer_sequence<int, 64>;

// A digest, or the state on the way to it: words as numbers.
struct alignas(16) Words {
  uint32_t w[8];
};

__device__ __forceinline__ Words initial() {
  constexpr Words first = [] {
    Words x{};
    for (int i = 0; i < 8; ++i) x.w[i] = sha::kInitial[i];
    return x;
  }();
  return first;
}

__device__ __forceinline__ void compress(Words& state, uint32_t (&w)[16]) {
  Words s = state;
  for_each_round(
      w, [&](auto t, uint32_t word) { round<t>(s.w, word); }, Rounds());
#pragma unroll
  for (int i = 0; i < 8; ++i) state.w[i] += s.w[i];
}

// --- leaves: a zero byte, then data

struct alignas(16) FourWords {
  uint32_t w[4];
};

// The 64 bytes at `from`, a multiple of 4.
__device__ __forceinline__ void load_block(uint32_t (&to)[16], const std::byte* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(FourWords) == 0) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const FourWords four = reinterpret_cast<const FourWords*>(from)[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) to[4 * i + j] = four.w[j];
    }
  } else {
#pragma unroll
    for (int i = 0; i < 16; ++i) to[i] = reinterpret_cast<const uint32_t*>(from)[i];
  }
}

// The word `at` bytes after data's begin, of which it need not hold more than a part: zeros stand
// for what is not data.
__device__ __forceinline__ uint32_t edge_word(const std::byte* data, int size, int at) {
  if (at >= 0 && at + 4 <= size) return *reinterpret_cast<const uint32_t*>(data + at);
  uint32_t word = 0;
#pragma unroll 1
  for (int i = at < 0 ? -at : 0; i < 4 && at + i < size; ++i)
    word |= std::to_integer<uint32_t>(data[at + i]) << (8 * i);
  return word;
}

// The end of a message of which `left` bytes are from this block on.
__device__ __forceinline__ void pad(uint32_t (&w)[16], int left) {
#pragma unroll
  for (int j = 0; j < 16; ++j, left -= 4)
    if (left >= 0 && left < 4) w[j] |= 0x80000000u >> (8 * left);
}

// The data are a byte late in the message, so a word of it is from two neighbours in memory,
// whatever data's alignment: of the first, some bytes are passed over.
class Message {
 public:
  __device__ Message(const std::byte* data, int size)
      : data_(data),
        size_(size),
        second_(static_cast<int>(-reinterpret_cast<uintptr_t>(data) % 4)),
        select_(0x0123 + 0x1111 * (3u - static_cast<unsigned>(second_))) {}
  __device__ int blocks() const { return (1 + size_ + 9 + 63) / 64; }

  // The words in memory of a block, but for its first.
  __device__ __forceinline__ void load(uint32_t (&words)[16], int block) const {
    const int at = second_ + 64 * block;
    if (at + 64 <= size_) {
      load_block(words, data_ + at);
    } else {
#pragma unroll
      for (int j = 0; j < 16; ++j) words[j] = edge_word(data_, size_, at + 4 * j);
    }
  }
  // Its first, which is also the last of the block before.
  __device__ uint32_t first(int block) const {
    return edge_word(data_, size_, second_ + 64 * block - 4);
  }
  // The words of the message.
  __device__ __forceinline__ void put(uint32_t (&w)[16], uint32_t first,
                                      const uint32_t (&words)[16], int block) const {
#pragma unroll
    for (int j = 0; j < 16; ++j)
      w[j] = __byte_perm(j == 0 ? first : words[j - 1], words[j], select_);
    if (second_ + 64 * block + 64 > size_) pad(w, 1 + size_ - 64 * block);
    if (block + 1 == blocks()) w[15] = 8 * static_cast<unsigned>(1 + size_);
  }

 private:
  const std::byte* data_;
  int size_;
  int second_;       // where the second word in memory lies
  unsigned select_;  // of two neighbours' bytes, the message's first as the highest
};

// By one thread, which loads a block while it hashes the one before.
__device__ __forceinline__ Words hash_leaf(const Message& message) {
  Words state = initial();
  uint32_t first = message.first(0), next[16];
  message.load(next, 0);
#pragma unroll 1
  for (int block = 0; block < message.blocks(); ++block) {
    uint32_t w[16];
    message.put(w, first, next, block);
    first = next[15];
    if (block + 1 < message.blocks()) message.load(next, block + 1);
    compress(state, w);
  }
  return state;
}

constexpr int kMostBlocksOfLeaf = (1 + 8 * kLeafElements + 9 + 63) / 64;
constexpr size_t kScheduleBytes = 64 * kMostBlocksOfLeaf * sizeof(uint32_t);

template <int... kT>
__device__ __forceinline__ void rounds_of(uint32_t (&s)[8], const uint32_t* schedule,
                                          std::integer_sequence<int, kT...>) {
  (round<kT>(s, schedule[kT * kMostBlocksOfLeaf]), ...);
}

// By a warp, in 0.6 of that time: only rounds need the block before. Each lane makes the schedules
// of some blocks, and then all go through the rounds of all of them.
__device__ __forceinline__ Words hash_leaf_by_warp(const Message& message, uint32_t* schedules) {
#pragma unroll 1
  for (int block = static_cast<int>(threadIdx.x); block < message.blocks(); block += kWarp) {
    uint32_t w[16], words[16];
    message.load(words, block);
    message.put(w, message.first(block), words, block);
    for_each_round(
        w, [&](auto t, uint32_t word) { schedules[t * kMostBlocksOfLeaf + block] = word; },
        Rounds());
  }
  __syncwarp();
  Words state = initial();
#pragma unroll 1
  for (int block = 0; block < message.blocks(); ++block) {
    Words s = state;
    rounds_of(s.w, schedules + block, Rounds());
#pragma unroll
    for (int i = 0; i < 8; ++i) state.w[i] += s.w[i];
  }
  return state;
}

// --- many tensors

constexpr int kMost = 256;  // tensors of a launch, which gets to know them as its parameters

// A level of the trees of some tensors: that of tensor t is [first[t], first[t + 1]), never empty.
struct Level {
  int tensors = 0;
  int64_t first[kMost + 1] = {};

  int64_t size() const { return first[tensors]; }
  void add(int64_t digests) {
    first[tensors + 1] = first[tensors] + digests;
    ++tensors;
  }
};

__device__ __forceinline__ int tensor_of(const Level& level, int64_t digest) {
  int low = 0, high = level.tensors;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (level.first[middle] <= digest ? low : high) = middle;
  }
  return low;
}

// A tensor's bytes: rows that are cut into leaves, the last of a row shorter.
struct Rows {
  const std::byte* data;
  int64_t rows, row_bytes, leaf_bytes;
};
struct Leaves {
  Level level;
  Rows of[kMost];
};

// Leaf i of a launch, and where its digest goes. Leaves with the same place in their rows lie side
// by side: they have the same length.
struct Place {
  Message message;
  int64_t digest;
};
__device__ __forceinline__ Place place_of(const Leaves& leaves, int64_t i) {
  const int t = tensor_of(leaves.level, i);
  const Rows& of = leaves.of[t];
  const int64_t first = leaves.level.first[t], piece = (i - first) / of.rows,
                row = (i - first) - piece * of.rows, begin = piece * of.leaf_bytes;
  return {Message(of.data + row * of.row_bytes + begin,
                  static_cast<int>(least(of.leaf_bytes, of.row_bytes - begin))),
          first + row * ceiling(of.row_bytes, of.leaf_bytes) + piece};
}

constexpr unsigned kLeafThreads = 32;  // the fewer, the more multiprocessors have some

__global__ void __launch_bounds__(kLeafThreads)
    hash_leaves(const __grid_constant__ Leaves leaves, Words* digests) {
  const int64_t i = int64_t{blockIdx.x} * kLeafThreads + threadIdx.x;
  if (i >= leaves.level.first[leaves.level.tensors]) return;
  const Place place = place_of(leaves, i);
  digests[place.digest] = hash_leaf(place.message);
}

__global__ void __launch_bounds__(kWarp)
    hash_few_leaves(const __grid_constant__ Leaves leaves, Words* digests) {
  const Place place = place_of(leaves, blockIdx.x);
  const Words digest = hash_leaf_by_warp(place.message, shared_memory<uint32_t>());
  if (threadIdx.x == 0) digests[place.digest] = digest;
}

// H(0x01, left, right), in two blocks.
__device__ __forceinline__ Words hash_node(const Words& left, const Words& right) {
  Words state = initial();
#pragma unroll 1
  for (int block = 0; block < 2; ++block) {
    uint32_t w[16] = {};
    if (block == 0) {
      w[0] = 1u << 24 | left.w[0] >> 8;
#pragma unroll
      for (int i = 1; i < 8; ++i) w[i] = __funnelshift_r(left.w[i], left.w[i - 1], 8);
      w[8] = __funnelshift_r(right.w[0], left.w[7], 8);
#pragma unroll
      for (int i = 1; i < 8; ++i) w[8 + i] = __funnelshift_r(right.w[i], right.w[i - 1], 8);
    } else {
      w[0] = right.w[7] << 24 | 0x800000;
      w[15] = 8 * 65;
    }
    compress(state, w);
  }
  return state;
}

constexpr unsigned kTreeThreads = 256;
constexpr int64_t kGroup = 2 * kTreeThreads;

// Digests in shared memory, word by word: those of even and of odd places apart, so that lanes find
// left and right children, and leave parents, in banks of their own.
class Row {
 public:
  __device__ explicit Row(uint32_t* memory) : memory_(memory) {}
  __device__ Words get(unsigned i) const {
    Words x;
#pragma unroll
    for (int j = 0; j < 8; ++j) x.w[j] = memory_[j * kWords + place(i)];
    return x;
  }
  __device__ void set(unsigned i, const Words& x) {
#pragma unroll
    for (int j = 0; j < 8; ++j) memory_[j * kWords + place(i)] = x.w[j];
  }
  static constexpr size_t kBytes = 8 * (kTreeThreads + 32) * sizeof(uint32_t);

 private:
  static constexpr unsigned kHalf = kTreeThreads / 2 + 16, kWords = 2 * kHalf;
  __device__ static unsigned place(unsigned i) { return i / 2 + i % 2 * kHalf; }
  uint32_t* memory_;
};

// A block makes one digest of kGroup neighbours at most. A level at a time, an odd last one moving
// up unpaired, is the tree of core/hash.h.
__global__ void __launch_bounds__(kTreeThreads)
    join(const __grid_constant__ Level below, const __grid_constant__ Level above,
         const Words* digests, Words* joined) {
  Row row(shared_memory<uint32_t>());
  const int64_t group = blockIdx.x;
  const int t = tensor_of(above, group);
  const int64_t begin = below.first[t] + (group - above.first[t]) * kGroup;
  auto count = static_cast<unsigned>(least(kGroup, below.first[t + 1] - begin));
  const unsigned i = threadIdx.x;
  for (bool first = true; first || count > 1; first = false) {
    const bool has_left = 2 * i < count, has_right = 2 * i + 1 < count;
    Words left, right;
    if (has_left) left = first ? digests[begin + 2 * i] : row.get(2 * i);
    if (has_right) {
      right = first ? digests[begin + 2 * i + 1] : row.get(2 * i + 1);
      left = hash_node(left, right);
    }
    __syncthreads();
    if (has_left) row.set(i, left);
    __syncthreads();
    count = (count + 1) / 2;
  }
  if (i == 0) joined[group] = row.get(0);
}

// --- on the host

Leaves leaves_of(std::span<const Tensor> tensors) {
  Leaves leaves;
  for (const Tensor& t : tensors) {
    const LeafLayout layout = leaf_layout(t.dtype(), t.shape());
    const auto row = layout.columns * static_cast<int64_t>(size_of(t.dtype()));
    leaves.of[leaves.level.tensors] =
        layout.leaves_per_row > 1
            ? Rows{t.address(), layout.rows, row,
                   kLeafElements * static_cast<int64_t>(size_of(t.dtype()))}
            : Rows{t.address(), 1, layout.rows * row, layout.rows_per_leaf * row};
    leaves.level.add(layout.leaf_count());
  }
  return leaves;
}

// Of the level above `below`: a digest of kGroup of its tensor's there, at most.
Level level_above(const Level& below) {
  Level above;
  for (int t = 0; t < below.tensors; ++t)
    above.add(ceiling(below.first[t + 1] - below.first[t], kGroup));
  return above;
}

Grid blocks_of(int64_t blocks, unsigned threads, size_t shared_bytes = 0) {
  return {.blocks = {static_cast<unsigned>(blocks), 1, 1},
          .threads = {threads, 1, 1},
          .shared_bytes = shared_bytes,
          .beside = true};
}

Status launch_leaves(Gpu& gpu, const Leaves& leaves, Words* digests) {
  const int64_t count = leaves.level.size();
  // Each warp has integer units to itself.
  if (count <= 4 * gpu.device().multiprocessors)
    return launch(gpu, blocks_of(count, kWarp, kScheduleBytes), hash_few_leaves, leaves, digests);
  return launch(gpu, blocks_of(ceiling(count, kLeafThreads), kLeafThreads), hash_leaves, leaves,
                digests);
}

Status launch_join(Gpu& gpu, const Level& below, const Level& above, const Words* digests,
                   Words* joined) {
  return launch(gpu, blocks_of(above.size(), kTreeThreads, Row::kBytes), join, below, above,
                digests, joined);
}

// Of kMost tensors at most.
class Batch {
 public:
  explicit Batch(Gpu& gpu) : gpu_(gpu) {}
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch() {
    if (landing_.done == nullptr) return;
    (void)wait();
    gpu_.give_back(landing_);
  }

  Status begin(std::span<const Tensor> tensors) {
    count_ = tensors.size();
    VB_ASSIGN(landing_, gpu_.take_landing());
    const Status launched = launch_all(leaves_of(tensors));
    // Whatever was launched is waited for.
    VB_TRY(gpu_.announce(landing_));
    return launched;
  }
  Status wait() const { return check(cudaEventSynchronize(landing_.done)); }
  std::span<const Words> roots() const {
    return {static_cast<const Words*>(landing_.memory), count_};
  }

 private:
  static_assert(kMost * sizeof(Words) <= Gpu::kLandingBytes);

  // The last level goes to the host, those below it to memory here.
  Status launch_all(const Leaves& leaves) {
    std::vector<Level> levels = {leaves.level};
    int64_t room = 0;
    while (levels.back().size() > levels.back().tensors) {
      room += levels.back().size();
      levels.push_back(level_above(levels.back()));
    }
    if (room > 0) {
      VB_ASSIGN(digests_, Tensor::allocate_on(gpu_, DType::u32, Shape{room, 8}, Purpose::scratch));
    }
    // After the tensors, and after whoever had this memory before.
    VB_TRY(gpu_.follow_stream(landing_));
    Words* at = reinterpret_cast<Words*>(digests_.mutable_address());
    const auto place = [&](const Level& level) {
      return &level == &levels.back() ? static_cast<Words*>(landing_.memory)
                                      : std::exchange(at, at + level.size());
    };
    Words* below = place(levels[0]);
    VB_TRY(launch_leaves(gpu_, leaves, below));
    for (size_t i = 1; i < levels.size(); ++i) {
      Words* const above = place(levels[i]);
      VB_TRY(launch_join(gpu_, levels[i - 1], levels[i], below, above));
      below = above;
    }
    return {};
  }

  Gpu& gpu_;
  size_t count_ = 0;
  Gpu::Landing landing_;
  Tensor digests_;
};

Digest digest_of(const Words& words) {
  Digest d;
  for (size_t i = 0; i < d.bytes.size(); ++i)
    d.bytes[i] = static_cast<std::byte>(words.w[i / 4] >> (24 - 8 * (i % 4)));
  return d;
}

class RootsBeside final : public PendingRoots {
 public:
  explicit RootsBeside(std::span<const Tensor> tensors)
      : tensors_(tensors.begin(), tensors.end()) {}

  Status begin(Gpu& gpu) {
    for (size_t begin = 0; begin < tensors_.size(); begin += kMost) {
      const size_t count = std::min<size_t>(kMost, tensors_.size() - begin);
      VB_TRY(batches_.emplace_back(gpu).begin(std::span(tensors_).subspan(begin, count)));
    }
    return {};
  }
  Result<std::vector<Digest>> wait() override {
    std::vector<Digest> roots;
    for (const Batch& batch : batches_) {
      VB_TRY(batch.wait());
      for (const Words& words : batch.roots()) roots.push_back(digest_of(words));
    }
    return roots;
  }

 private:
  const std::vector<Tensor> tensors_;  // outlive the batches, which wait
  std::deque<Batch> batches_;
};

}  // namespace

Result<std::unique_ptr<PendingRoots>> Gpu::begin_leaf_roots(std::span<const Tensor> tensors) {
  VB_TRY(wait());  // somebody will, and a recording cannot
  auto roots = std::make_unique<RootsBeside>(tensors);
  VB_TRY(roots->begin(*this));
  return std::unique_ptr<PendingRoots>(std::move(roots));
}

}  // namespace verbatim::cuda
