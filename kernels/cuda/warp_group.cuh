// What Hopper's tensor cores need beside tensor_core.cuh: products of a warp group, 64 rows of A by
// up to 256 columns of B, both read from shared memory; copies of whole tiles by the copy engine;
// and the barriers on which both meet (PTX ISA, "wgmma.mma_async", "cp.async.bulk.tensor",
// "mbarrier").
//
// Tiles are rows of 128 bytes along k, one after the other, swizzled: the 16-byte pieces of a row
// are exchanged by its number mod 8, so that neither copies nor products meet in a bank. They begin
// at multiples of 1024 bytes.
#pragma once

#include <verbatim/kernels/cuda/tensor_core.cuh>
#if !defined(VERBATIM_EMULATED_GPU)
#include <cuda.h>
#endif

namespace verbatim::cuda {

inline constexpr unsigned kWarpGroup = 128;  // threads
inline constexpr int kGroupRows = 64;        // of A, in one product
inline constexpr size_t kTileAlignment = 1024;

// A product of a warp group, which leaves its sums where its threads hold them: thread t of warp w
// has, as element 4 j + e, what a thread of a warp has of the tile of rows 16 w and columns 8 j.
template <class Unit, int kColumns>
using GroupSums = typename Unit::Sum[kColumns / 2];

#if defined(VERBATIM_EMULATED_GPU)

using TileMap = emulated::TileMap;

inline Result<TileMap> map_tiles(const void* base, int64_t rows, int64_t row_bytes, int box_rows) {
  if (row_bytes % 16 != 0 || reinterpret_cast<uintptr_t>(base) % 16 != 0)
    return internal_error("the copy engine reads multiples of 16 bytes");
  return TileMap{static_cast<std::byte*>(const_cast<void*>(base)), rows, row_bytes, box_rows};
}

inline void init_barrier(uint64_t* barrier, unsigned arrivals) {
  emulated::init_barrier(barrier, arrivals);
}
inline void publish_barriers() {}
inline void arrive(uint64_t* barrier) { emulated::arrive_at(barrier, 0); }
inline void arrive_expecting(uint64_t* barrier, int bytes) { emulated::arrive_at(barrier, bytes); }
inline void wait_for_phase(uint64_t* barrier, unsigned parity) {
  emulated::wait_for_phase(barrier, parity);
}
inline void copy_tile(void* shared, const TileMap& map, int byte, int row, uint64_t* barrier) {
  emulated::copy_tile_later(shared, map, byte, row, barrier);
}
inline void copy_bytes(void* shared, const void* from, int bytes, uint64_t* barrier) {
  emulated::copy_bytes_later(shared, from, bytes, barrier);
}
inline void store_tile(const TileMap& map, int byte, int row, const void* shared) {
  emulated::store_tile_later(shared, map, byte, row);
}
inline void commit_stores() { emulated::commit(emulated::Queue::stores); }
template <int kPending>
void wait_for_stores() {
  emulated::wait_for(emulated::Queue::stores, kPending);
}
inline void sync_threads(int barrier, int threads) {
  emulated::sync_named(barrier, static_cast<unsigned>(threads));
}
inline void await_turn(int group) { emulated::sync_named(group + 1, 2 * kWarpGroup); }
inline void pass_turn(int to_group) { emulated::arrive_named(to_group + 1, 2 * kWarpGroup); }
inline bool is_elected() { return threadIdx.x % kWarp == 0; }
inline uint32_t shared_address(const void* shared) { return emulated::shared_offset(shared); }

template <int kRegisters>
void give_registers() {}
template <int kRegisters>
void take_registers() {}

inline void begin_products() {}
inline void commit_products() { emulated::commit(emulated::Queue::products); }
template <int kPending>
void wait_for_products() {
  emulated::wait_for(emulated::Queue::products, kPending);
}

// Row `row` of the tile that a descriptor names.
inline void row_of_tile(uint64_t descriptor, int row, uint8_t (&bytes)[kUnitBytes]) {
  const auto first = static_cast<uint32_t>(descriptor & 0x3FFF) << 4,
             eight_rows = static_cast<uint32_t>(descriptor >> 32 & 0x3FFF) << 4;
  for (int i = 0; i < kUnitBytes; i += 16)  // pieces of 16 bytes stay whole
    std::memcpy(bytes + i,
                emulated::at_shared_offset(first + static_cast<uint32_t>(row / 8) * eight_rows +
                                           static_cast<uint32_t>(row % 8 * kSlabBytes + i)),
                16);
}

template <class Unit, int kColumns, bool kFresh = false>
void multiply_group(GroupSums<Unit, kColumns>& d, uint64_t a, uint64_t b) {
  const auto product = [](const emulated::Later& l) {
    auto* sums = static_cast<typename Unit::Sum*>(l.to);
    const int t = static_cast<int>(threadIdx.x % kWarpGroup);
    for (int i = 0; i < kColumns / 2; ++i) {
      uint8_t x[kUnitBytes], y[kUnitBytes];
      row_of_tile(l.a, t / 32 * kTileRows + t % 32 / 4 + i % 4 / 2 * 8, x);
      row_of_tile(l.b, i / 4 * kTileColumns + t % 4 * 2 + i % 2, y);
      sums[i] = Unit::dot(kFresh ? 0 : sums[i], x, y);
    }
  };
  emulated::do_later(emulated::Queue::products, {product, d, nullptr, a, b});
}

// Column `column` of the 16 rows of codes of 16 bits that a descriptor of describe_rows() names.
inline void column_of_rows(uint64_t descriptor, int column, uint8_t (&bytes)[kUnitBytes]) {
  const auto field = [&](int at) { return static_cast<uint32_t>(descriptor >> at & 0x3FFF) << 4; };
  const uint32_t first = field(0) + static_cast<uint32_t>(column / 64) * field(16) +
                         static_cast<uint32_t>(column % 64 * 2);
  for (uint32_t k = 0; k < 16; ++k)
    std::memcpy(bytes + 2 * k,
                emulated::at_shared_offset(first + k / 8 * field(32) + k % 8 * kSlabBytes), 2);
}

// The 16 rows of A that the threads of a warp hold, kept for when the product is done.
inline void keep_rows(emulated::Later& later, const TileA& a) {
  static thread_local WarpTiles warps[kWarp];
  WarpTiles& tiles = warps[threadIdx.x / kWarp];
  const int t = static_cast<int>(threadIdx.x % kWarp);
  tiles.a[t] = a;
  __syncwarp();
  for (int h = 0; h < 2; ++h) {
    uint8_t x[kUnitBytes];
    tiles.row_of_a(t / 4 + 8 * h, x);
    std::memcpy(later.rows + h * kUnitBytes, x, kUnitBytes);
  }
  __syncwarp();
}

template <class Unit, int kColumns, bool kFresh = false>
void multiply_group_rows(GroupSums<Unit, kColumns>& d, const TileA& a, uint64_t b) {
  const auto product = [](const emulated::Later& l) {
    auto* sums = static_cast<typename Unit::Sum*>(l.to);
    for (int i = 0; i < kColumns / 2; ++i) {
      const int column = i / 4 * kTileColumns + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2;
      uint8_t x[kUnitBytes], y[kUnitBytes];
      std::memcpy(x, l.rows + i % 4 / 2 * kUnitBytes, kUnitBytes);
      if constexpr (std::is_same_v<Unit, Int8Unit>)
        row_of_tile(l.b, column, y);
      else
        column_of_rows(l.b, column, y);
      sums[i] = Unit::dot(kFresh ? 0 : sums[i], x, y);
    }
  };
  emulated::Later later{product, d, nullptr, 0, b};
  keep_rows(later, a);
  emulated::do_later(emulated::Queue::products, later);
}

inline void publish_tiles() {}
template <class T, size_t kCount>
void settle(T (&)[kCount]) {}

#else

using TileMap = CUtensorMap;

// Rows of row_bytes, a multiple of 16, from an address that is one, to be copied in boxes of
// box_rows (at most 256).
Result<TileMap> map_tiles(const void* base, int64_t rows, int64_t row_bytes, int box_rows);

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// A phase of the barrier ends when so many have arrived, and all bytes that they expect.
__device__ inline void init_barrier(uint64_t* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}
// By the thread that made them, before the block's barrier after which others use them.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
__device__ inline void arrive_expecting(uint64_t* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
// Until the phase of that parity has ended; the one before the first has parity 1.
__device__ inline void wait_for_phase(uint64_t* barrier, unsigned parity) {
  const uint32_t address = shared_address(barrier);
  uint32_t ended;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(ended)
        : "r"(address), "r"(parity)
        : "memory");
  } while (ended == 0);
}
// The box that begins at (row, byte), zeros beyond the matrix; its bytes arrive at the barrier.
__device__ inline void copy_tile(void* shared, const TileMap& map, int byte, int row,
                                 uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%3, %4}], [%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(byte), "r"(row)
      : "memory");
}

// Bytes that lie one after the other, as they are: a multiple of 16, between addresses that are
// such.
__device__ inline void copy_bytes(void* shared, const void* from, int bytes, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];" ::"r"(shared_address(shared)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}
// The other way, from a tile that was published; what lies beyond the matrix goes nowhere. Those of
// a thread that it commits go together; it waits until all but the last kPending of them have been
// read, which the memory must stay for.
__device__ inline void store_tile(const TileMap& map, int byte, int row, const void* shared) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
          &map),
      "r"(shared_address(shared)), "r"(byte), "r"(row)
      : "memory");
}
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void wait_for_stores() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
// Some of a block's warps wait for one another.
__device__ inline void sync_threads(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
// Two warp groups that multiply take turns: one's products wait behind the other's, and what it
// does with its sums falls in the time of those. A group goes on once the other has passed it the
// turn.
__device__ inline void await_turn(int group) {
  asm volatile("bar.sync %0, 256;" ::"r"(group + 1) : "memory");
}
__device__ inline void pass_turn(int to_group) {
  asm volatile("bar.arrive %0, 256;" ::"r"(to_group + 1) : "memory");
}
// True for one thread of a warp, all of whose threads ask. Where the compiler knows of one thread
// by this, a copy takes one instruction; by any other way, a loop over threads.
__device__ inline bool is_elected() {
  uint32_t elected;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xFFFFFFFF;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(elected));
  return elected != 0;
}
// All warps of a group call these; what one group gives, others may take.
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Before products whose sums or tiles the threads have touched; after those that go together; until
// all but the last kPending of these are done.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// What was written to shared memory by the threads, and not by the copy engine, is there for
// products that begin after the threads' next barrier.
__device__ inline void publish_tiles() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// After a wait for products: what the threads do with these registers stays behind it.
template <class T, size_t kCount>
__device__ inline void settle(T (&x)[kCount]) {
#pragma unroll
  for (size_t i = 0; i < kCount; ++i) {
    if constexpr (std::is_same_v<T, float>)
      asm volatile("" : "+f"(x[i])::"memory");
    else
      asm volatile("" : "+r"(x[i])::"memory");
  }
}

// clang-format off
#define VB_4(c, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define VB_8(c, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3]), c(d[i + 4]), c(d[i + 5]), c(d[i + 6]), c(d[i + 7])
#define VB_32(c, i) VB_8(c, i), VB_8(c, i + 8), VB_8(c, i + 16), VB_8(c, i + 24)
#define VB_32_NAMES \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define VB_64_NAMES VB_32_NAMES ", " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define VB_128_NAMES VB_64_NAMES ", " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define VB_WGMMA(columns, k_and_types, names, a_name, b_name, adds, scales) \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " adds ", 0;\n" \
  "wgmma.mma_async.sync.aligned.m64n" columns k_and_types " {" names "}, " a_name ", " b_name ", p" scales ";\n}"
#define VB_MULTIPLY_GROUP(c, k_and_types, scales) \
  if constexpr (kColumns == 64) \
    asm volatile(VB_WGMMA("64", k_and_types, VB_32_NAMES, "%32", "%33", "%34", scales) \
                 : VB_32(c, 0) : "l"(a), "l"(b), "n"(kFresh ? 0 : 1)); \
  else if constexpr (kColumns == 256) \
    asm volatile(VB_WGMMA("256", k_and_types, VB_128_NAMES, "%128", "%129", "%130", scales) \
                 : VB_32(c, 0), VB_32(c, 32), VB_32(c, 64), VB_32(c, 96) : "l"(a), "l"(b), "n"(kFresh ? 0 : 1)); \
  else \
    asm volatile(VB_WGMMA("128", k_and_types, VB_64_NAMES, "%64", "%65", "%66", scales) \
                 : VB_32(c, 0), VB_32(c, 32) : "l"(a), "l"(b), "n"(kFresh ? 0 : 1))
#define VB_WORDS "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3])
#define VB_MULTIPLY_ROWS(c, k_and_types, scales) \
  if constexpr (kColumns == 128) \
    asm volatile(VB_WGMMA("128", k_and_types, VB_64_NAMES, "{%64, %65, %66, %67}", "%68", "%69", scales) \
                 : VB_32(c, 0), VB_32(c, 32) : VB_WORDS, "l"(b), "n"(kFresh ? 0 : 1)); \
  else if constexpr (kColumns == 64) \
    asm volatile(VB_WGMMA("64", k_and_types, VB_32_NAMES, "{%32, %33, %34, %35}", "%36", "%37", scales) \
                 : VB_32(c, 0) : VB_WORDS, "l"(b), "n"(kFresh ? 0 : 1)); \
  else \
    asm volatile(VB_WGMMA("8", k_and_types, "%0, %1, %2, %3", "{%4, %5, %6, %7}", "%8", "%9", scales) \
                 : VB_4(c, 0) : VB_WORDS, "l"(b), "n"(kFresh ? 0 : 1))
// clang-format on

// D += A B, of kUnitBytes of k that begin where the descriptors say; kFresh: D = A B.
template <class Unit, int kColumns, bool kFresh = false>
__device__ inline void multiply_group(GroupSums<Unit, kColumns>& d, uint64_t a, uint64_t b) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 256);
  using E4M3 = tensor_core::E4M3Format;
  using E5M2 = tensor_core::E5M2Format;
  if constexpr (std::is_same_v<Unit, Int8Unit>) {
    VB_MULTIPLY_GROUP("+r", "k32.s32.s8.s8", "");
  } else if constexpr (std::is_same_v<Unit, FloatUnit<tensor_core::BFloat16Format> >) {
    VB_MULTIPLY_GROUP("+f", "k16.f32.bf16.bf16", ", 1, 1, 0, 0");
  } else if constexpr (std::is_same_v<Unit, FloatUnit<tensor_core::HalfFormat> >) {
    VB_MULTIPLY_GROUP("+f", "k16.f32.f16.f16", ", 1, 1, 0, 0");
  } else if constexpr (std::is_same_v<Unit, FloatUnit<E4M3, E4M3> >) {
    VB_MULTIPLY_GROUP("+f", "k32.f32.e4m3.e4m3", ", 1, 1");
  } else if constexpr (std::is_same_v<Unit, FloatUnit<E4M3, E5M2> >) {
    VB_MULTIPLY_GROUP("+f", "k32.f32.e4m3.e5m2", ", 1, 1");
  } else if constexpr (std::is_same_v<Unit, FloatUnit<E5M2, E4M3> >) {
    VB_MULTIPLY_GROUP("+f", "k32.f32.e5m2.e4m3", ", 1, 1");
  } else {
    static_assert(std::is_same_v<Unit, FloatUnit<E5M2, E5M2> >);
    VB_MULTIPLY_GROUP("+f", "k32.f32.e5m2.e5m2", ", 1, 1");
  }
}

// D += A B, of kUnitBytes of k; kFresh: D = A B. A is where the threads of each warp hold a tile's;
// B is what a descriptor names: of codes of 16 bits one of describe_rows(), of int8 codes one of
// describe_tile().
template <class Unit, int kColumns, bool kFresh = false>
__device__ inline void multiply_group_rows(GroupSums<Unit, kColumns>& d, const TileA& a,
                                           uint64_t b) {
  static_assert(kColumns == 8 || kColumns == 64 || kColumns == 128);
  if constexpr (std::is_same_v<Unit, Int8Unit>) {
    VB_MULTIPLY_ROWS("+r", "k32.s32.s8.s8", "");
  } else if constexpr (std::is_same_v<Unit, FloatUnit<tensor_core::BFloat16Format> >) {
    VB_MULTIPLY_ROWS("+f", "k16.f32.bf16.bf16", ", 1, 1, 1");
  } else {
    static_assert(std::is_same_v<Unit, FloatUnit<tensor_core::HalfFormat> >);
    VB_MULTIPLY_ROWS("+f", "k16.f32.f16.f16", ", 1, 1, 1");
  }
}
#undef VB_MULTIPLY_ROWS
#undef VB_WORDS
#undef VB_MULTIPLY_GROUP
#undef VB_WGMMA
#undef VB_128_NAMES
#undef VB_64_NAMES
#undef VB_32_NAMES
#undef VB_32
#undef VB_8
#undef VB_4

#endif

// Eight rows of a tile are 1024 bytes (PTX ISA, "Matrix descriptor").
__device__ inline uint64_t describe(const void* shared, uint64_t leading_bytes) {
  constexpr uint64_t kSwizzled128 = 1;
  return (shared_address(shared) & 0x3FFFF) >> 4 | leading_bytes / 16 << 16 |
         uint64_t{8 * kSlabBytes / 16} << 32 | kSwizzled128 << 62;
}
// Where products read a tile from whose rows lie along k. What follows along k is kUnitBytes
// further on, kNextUnit in a descriptor.
__device__ inline uint64_t describe_tile(const void* shared) { return describe(shared, 16); }
inline constexpr int kNextUnit = kUnitBytes / 16;
// The same of codes of 16 bits whose rows are those of B, and lie along its columns, 64 of them in
// a tile; the tile of the next 64 is so many bytes further on. What follows along k, 16 rows, is
// kNextRows further on.
__device__ inline uint64_t describe_rows(const void* shared, uint64_t next_columns) {
  return describe(shared, next_columns);
}
inline constexpr int kNextRows = 16 * kSlabBytes / 16;
// The same of rows that are all alike, and at most 64 columns: only eight of them are there.
__device__ inline uint64_t describe_like_rows(const void* shared) {
  return describe(shared, 0) & ~(uint64_t{0x3FFF} << 32);
}
// Where tiles may begin in the memory that a block was given, kTileAlignment larger than they are.
__device__ inline std::byte* aligned_tiles() {
  auto* shared = shared_memory<std::byte>();
  return shared + (kTileAlignment - shared_address(shared) % kTileAlignment) % kTileAlignment;
}
// The descriptor, for a compiler that is to know that it is the same in all threads of a warp: what
// is computed from it then takes no vector registers.
__device__ inline uint64_t uniform(uint64_t descriptor) {
  return descriptor >> 32 << 32 | __shfl_sync(~0u, static_cast<uint32_t>(descriptor), 0);
}
// What lies so many 16 bytes further on. Addresses stay in a descriptor's lower half.
__device__ inline uint64_t further(uint64_t descriptor, int pieces) {
  return descriptor >> 32 << 32 |
         static_cast<uint32_t>(static_cast<uint32_t>(descriptor) + static_cast<uint32_t>(pieces));
}

// Tiles in shared memory that one thread has the copy engine fill, in turn, and warps read.
template <int kTileBytes>
struct TileRing {
  static constexpr int kMostStages = 6;
  static constexpr size_t kBarrierBytes = 2 * kMostStages * sizeof(uint64_t);

  std::byte* tiles;
  uint64_t *full, *empty;  // barriers of each stage
  int stages, stage = 0;
  unsigned parity = 0;  // of the ring's turn

  // As many stages as fit beside `other_bytes`.
  static constexpr int stages_beside(size_t other_bytes) {
    const int fit = static_cast<int>((kMostShared - kBarrierBytes - other_bytes) / kTileBytes);
    return fit < kMostStages ? fit : kMostStages;
  }
  __device__ TileRing(std::byte* at, int stages)
      : tiles(at),
        full(reinterpret_cast<uint64_t*>(at + stages * kTileBytes)),
        empty(full + kMostStages),
        stages(stages) {}
  // By one thread, before the block's barrier; so many warps are to release each tile.
  __device__ void init(unsigned readers) const {
    for (int s = 0; s < stages; ++s) {
      init_barrier(&full[s], 1);
      init_barrier(&empty[s], readers);
    }
    publish_barriers();
  }
  __device__ std::byte* end() const { return reinterpret_cast<std::byte*>(empty + kMostStages); }

  __device__ std::byte* tile() const { return tiles + stage * kTileBytes; }
  __device__ void next() {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
  // Until the tile may be filled; copies to it of so many bytes may then begin.
  __device__ void begin_filling(int bytes) const {
    wait_for_phase(&empty[stage], parity ^ 1);
    arrive_expecting(&full[stage], bytes);
  }
  __device__ void wait_until_full() const { wait_for_phase(&full[stage], parity); }
  __device__ void release(int of_stage) const {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) arrive(&empty[of_stage]);
  }
};

}  // namespace verbatim::cuda
