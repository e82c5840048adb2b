// tensor_core [--log2-outputs N] [--seed S] [--json FILE] [--record FILE]: compares a Hopper GPU's tensor cores with the scalar reference of
// repops/tensor_core.h, which the GPU itself evaluates beside each instruction: mma.sync and wgmma, every operand type, every
// class of operands that has an edge. Prints a line for each pair and class; exits with 1 if an output differs.
// Build: nvcc -std=c++20 -O2 --fmad=false -gencode=arch=compute_90a,code=sm_90a -I build/release/include/repops ...
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include <verbatim/repops/tensor_core.h>

namespace {

using namespace verbatim;
using namespace verbatim::tensor_core;

#define CHECK(call)                                                                              \
  do {                                                                                           \
    const cudaError_t error = (call);                                                            \
    if (error != cudaSuccess) {                                                                  \
      std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error));                        \
      std::exit(2);                                                                              \
    }                                                                                            \
  } while (0)

// --- operands by seed ---------------------------------------------------------------------------------------------------------

// Each class says how the exponent fields of operands and of the accumulator are drawn, in units from a format's middle.
struct Class {
  const char* name;
  int low, high;          // operands: exponent relative to the bias
  int acc_low, acc_high;  // accumulator: exponent
  int zeros;              // operands that are zero, per 64
  int subnormals;         // per 64
  int specials;           // infinities and NaN, per 1024
  bool cancel;            // every second product is the negative of the one before, but for a few bits
  bool acc_zero;          // the accumulator is 0
  int padding;            // elements from here on are zero; 0: none
};

constexpr Class kClasses[] = {
    {"exponents within 8", -8, 8, -8, 8, 0, 0, 0, false, false, 0},
    {"exponents within 40", -40, 40, -60, 60, 0, 0, 0, false, false, 0},
    {"all exponents", -127, 127, -127, 127, 2, 2, 0, false, false, 0},
    {"cancelling", -2, 1, -2, 5, 0, 0, 0, true, false, 0},
    {"cancelling, accumulator 0", -3, 3, 0, 0, 0, 0, 0, true, true, 0},
    {"subnormal operands and zeros", -127, 13, -127, 20, 12, 24, 0, false, false, 0},
    {"large, overflowing", 53, 67, 103, 127, 0, 0, 0, false, false, 0},
    {"tiny results", -80, -60, -127, -110, 4, 4, 0, false, false, 0},
    {"least results, accumulator 0", -78, -70, 0, 0, 8, 0, 0, false, true, 0},
    {"large accumulator", -3, 2, 0, 12, 0, 0, 0, false, false, 0},
    {"infinities and NaN", -30, 30, -30, 30, 6, 4, 12, false, false, 0},
    {"padded with zeros", -8, 8, -8, 8, 0, 0, 0, false, false, 5},
};
constexpr int kClassCount = sizeof kClasses / sizeof kClasses[0];

__device__ uint64_t mix(uint64_t x) {  // the finaliser of splitmix64
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}
__device__ uint64_t random_at(uint64_t seed, uint64_t test, uint32_t place) {
  return mix(mix(seed * 0x9E3779B97F4A7C15u + test) + place * 0xD1B54A32D192ED03u);
}

template <class F>
__device__ uint32_t compose(bool negative, int exponent, uint32_t fraction) {
  const int greatest = (1 << F::exponent_bits) - 1 - (F::infinities ? 1 : 0);
  const int field = min(max(exponent + F::bias, 0), greatest);
  uint32_t bits = static_cast<uint32_t>(field) << F::fraction_bits | (fraction & ((1u << F::fraction_bits) - 1));
  if (!F::infinities && bits == (1u << (F::bits - 1)) - 1) bits -= 1;  // e4m3's NaN
  return bits | static_cast<uint32_t>(negative) << (F::bits - 1);
}

template <class F>
__device__ uint32_t special(uint64_t r) {
  const uint32_t sign = static_cast<uint32_t>(r >> 20 & 1) << (F::bits - 1), all = (1u << (F::bits - 1)) - 1;
  const uint32_t infinity = ((1u << F::exponent_bits) - 1) << F::fraction_bits;
  if (!F::infinities) return sign | all;
  return r >> 21 & 3 ? sign | infinity : sign | infinity | 1 | (static_cast<uint32_t>(r >> 24) & (all - infinity));
}

template <class F>
__device__ uint32_t operand(const Class& c, uint64_t r, int k) {
  if (c.padding != 0 && k >= c.padding) return 0;
  if (static_cast<int>(r & 1023) < c.specials) return special<F>(r);
  const bool negative = r >> 10 & 1;
  const uint32_t fraction = static_cast<uint32_t>(r >> 32);
  const int die = static_cast<int>(r >> 11 & 63);
  if (die < c.zeros) return static_cast<uint32_t>(negative) << (F::bits - 1);
  if (die < c.zeros + c.subnormals) return compose<F>(negative, -100000, fraction);
  // A format of few exponents takes the class's range modulo its own, so that every class has all of its edges.
  const int span = c.high - c.low + 1, exponent = c.low + static_cast<int>((r >> 17 & 0x7FFF) % span);
  return compose<F>(negative, F::exponent_bits < 8 && (exponent < -16 || exponent > 16) ? exponent / 4 : exponent, fraction);
}

// The accumulator's code, binary32 or fp16.
template <class F>
__device__ uint32_t accumulator(const Class& c, uint64_t r) {
  if (c.acc_zero) return static_cast<uint32_t>(r & 1) << (F::bits - 1);
  if (static_cast<int>(r & 1023) < c.specials) return special<F>(r);
  const int span = c.acc_high - c.acc_low + 1, exponent = c.acc_low + static_cast<int>((r >> 17 & 0x7FFF) % span);
  return compose<F>(r >> 10 & 1, F::bits == 16 && (exponent < -16 || exponent > 16) ? exponent / 6 : exponent,
                    static_cast<uint32_t>(r >> 32));
}

// --- one tile: operands row by row for the reference, and what the instruction wants ---------------------------------------------

template <class F>
using Code = std::conditional_t<F::bits == 8, uint8_t, std::conditional_t<F::bits == 16, uint16_t, uint32_t>>;

struct Case {
  uint64_t test;
  int m, n;
  uint32_t a[32], b[32];
  uint32_t c, got, want;
};
constexpr int kSamples = 6;
struct Report {
  unsigned long long outputs, differing, nans, infinities, zeros, subnormals;
  int failures;
  Case failure[4];
  Case sample[kSamples];  // of the first tests, one output each
};

template <class A, class B, class C, int kM, int kN, int kK>
struct Tile {
  alignas(128) Code<A> a[kM][kK];
  alignas(128) Code<B> b[kN][kK];
  Code<C> c[kM][kN], d[kM][kN];
};

template <class A, class B, class C, int kM, int kN, int kK>
__device__ void fill(Tile<A, B, C, kM, kN, kK>& t, const Class& c, uint64_t seed, uint64_t test, int thread, int threads) {
  for (int i = thread; i < kM * kK; i += threads) {
    const int k = i % kK;
    // Cancelling: an odd element is its left neighbour, but for the last bits of a few.
    const int source = c.cancel ? i & ~1 : i;
    const uint64_t r = random_at(seed, test, static_cast<uint32_t>(source));
    t.a[i / kK][k] = static_cast<Code<A>>(operand<A>(c, r, k));
  }
  for (int i = thread; i < kN * kK; i += threads) {
    const int k = i % kK, source = c.cancel ? i & ~1 : i;
    uint32_t code = operand<B>(c, random_at(seed, test, 100000u + static_cast<uint32_t>(source)), k);
    if (c.cancel && k % 2 == 1) {
      code ^= 1u << (B::bits - 1);
      if ((random_at(seed, test, 200000u + static_cast<uint32_t>(i)) & 3) == 0) code ^= 1;
    }
    t.b[i / kK][k] = static_cast<Code<B>>(code);
  }
  for (int i = thread; i < kM * kN; i += threads)
    t.c[i / kN][i % kN] = static_cast<Code<C>>(accumulator<C>(c, random_at(seed, test, 300000u + static_cast<uint32_t>(i))));
}

// What the contract says this instruction gives.
enum class Unit { wgmma, mma };

template <class A, class B, class C, Unit U, class T, class S>
__device__ uint32_t expected(uint32_t c, const T* a, const S* b, int k_size) {
  constexpr bool kHalfAccumulator = C::bits == 16;
  if constexpr (A::bits == 8 && U == Unit::mma) {
    if constexpr (kHalfAccumulator) return step_unpacked_half<A, B>(static_cast<uint16_t>(c), a, b);
    else return bits_of(step_unpacked<A, B>(float_of(c), a, b));
  } else {
    constexpr Rule rule = A::bits == 8 ? kSm90Float8 : A::bits == 19 ? kSm90Tf32 : kSm90;
    if constexpr (kHalfAccumulator) return step_half<A, B>(rule, static_cast<uint16_t>(c), a, b, k_size);
    else return bits_of(step<A, B>(rule, float_of(c), a, b, k_size));
  }
}

template <class A, class B, class C, Unit U, int kM, int kN, int kK>
__device__ void judge(const Tile<A, B, C, kM, kN, kK>& t, uint64_t test, int thread, int threads, Report* report) {
  constexpr uint32_t kInfinity = C::bits == 16 ? 0x7C00 : 0x7F800000, kLeastNormal = C::bits == 16 ? 0x0400 : 0x00800000,
                     kMagnitude = C::bits == 16 ? 0x7FFF : 0x7FFFFFFF;
  unsigned nans = 0, infinities = 0, zeros = 0, subnormals = 0, differing = 0;
  for (int i = thread; i < kM * kN; i += threads) {
    const int m = i / kN, n = i % kN;
    const uint32_t want = expected<A, B, C, U>(t.c[m][n], t.a[m], t.b[n], kK), got = t.d[m][n];
    const uint32_t magnitude = want & kMagnitude;
    nans += magnitude > kInfinity;
    infinities += magnitude == kInfinity;
    zeros += magnitude == 0;
    subnormals += magnitude != 0 && magnitude < kLeastNormal;
    // The hardware's NaN has all bits set; the contract's is canonical.
    const auto note = [&](Case& f) {
      f.test = test, f.m = m, f.n = n, f.c = t.c[m][n], f.got = got, f.want = want;
      for (int k = 0; k < kK; ++k) f.a[k] = t.a[m][k], f.b[k] = t.b[n][k];
    };
    if (test < kSamples && i == static_cast<int>(test * 21 % (kM * kN))) note(report->sample[test]);
    if (want == got || (magnitude > kInfinity && (got & kMagnitude) > kInfinity)) continue;
    ++differing;
    const int at = atomicAdd(&report->failures, 1);
    if (at < 4) note(report->failure[at]);
  }
  atomicAdd(&report->nans, nans);
  atomicAdd(&report->infinities, infinities);
  atomicAdd(&report->zeros, zeros);
  atomicAdd(&report->subnormals, subnormals);
  if (differing) atomicAdd(&report->differing, differing);
  if (thread == 0) atomicAdd(&report->outputs, kM * kN);
}

// A thread's four outputs: two pairs of neighbours, rows 8 apart. An fp16 accumulator has both neighbours in a register.
template <class C>
struct Registers {
  static constexpr int kCount = C::bits == 16 ? 2 : 4;
  uint32_t r[kCount];

  template <class T>
  __device__ void load(const T& c, int row, int column) {
    for (int i = 0; i < kCount; ++i) {
      if constexpr (kCount == 2) r[i] = c[row + i * 8][column] | static_cast<uint32_t>(c[row + i * 8][column + 1]) << 16;
      else r[i] = c[row + i / 2 * 8][column + i % 2];
    }
  }
  template <class T>
  __device__ void store(T& d, int row, int column) const {
    for (int i = 0; i < 4; ++i) {
      if constexpr (kCount == 2) d[row + i / 2 * 8][column + i % 2] = static_cast<uint16_t>(r[i / 2] >> (i % 2 * 16));
      else d[row + i / 2 * 8][column + i % 2] = r[i];
    }
  }
};

// --- mma.sync: m16n8, one warp ----------------------------------------------------------------------------------------------------

#define VB_MMA(SHAPE, TA, TB)                                                                                               \
  if constexpr (C::bits == 16)                                                                                              \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.f16." TA "." TB ".f16 {%0,%1},{%2,%3,%4,%5},{%6,%7},{%0,%1};"          \
                 : "+r"(d.r[0]), "+r"(d.r[1])                                                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                       \
  else                                                                                                                      \
    VB_MMA_BINARY32(SHAPE, TA, TB)
#define VB_MMA_BINARY32(SHAPE, TA, TB)                                                                                      \
  asm volatile("mma.sync.aligned." SHAPE ".row.col.f32." TA "." TB                                                          \
               ".f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"                                                    \
               : "+r"(d.r[0]), "+r"(d.r[1]), "+r"(d.r[2]), "+r"(d.r[3])                                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

template <class A, class B, class C>
__device__ void mma(Registers<C>& d, const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  constexpr bool kAIsE4M3 = A::bits == 8 && A::exponent_bits == 4, kBIsE4M3 = B::bits == 8 && B::exponent_bits == 4;
  if constexpr (A::bits == 19) {
    VB_MMA_BINARY32("m16n8k8", "tf32", "tf32");
  } else if constexpr (A::bits == 16 && A::exponent_bits == 8) {
    VB_MMA_BINARY32("m16n8k16", "bf16", "bf16");
  } else if constexpr (A::bits == 16) {
    VB_MMA("m16n8k16", "f16", "f16");
  } else if constexpr (kAIsE4M3 && kBIsE4M3) {
    VB_MMA("m16n8k32", "e4m3", "e4m3");
  } else if constexpr (kAIsE4M3) {
    VB_MMA("m16n8k32", "e4m3", "e5m2");
  } else if constexpr (kBIsE4M3) {
    VB_MMA("m16n8k32", "e5m2", "e4m3");
  } else {
    VB_MMA("m16n8k32", "e5m2", "e5m2");
  }
}

// A register holds 4 bytes of a row: 4 fp8, 2 16-bit numbers, or 1 tf32 (which stands in the top 19 of 32 bits).
template <class F, class T>
__device__ uint32_t packed(const T* row, int word) {
  if constexpr (F::bits == 19) return row[word] << 13;
  else return reinterpret_cast<const uint32_t*>(row)[word];
}

constexpr int kWarps = 4;

template <class A, class B, class C>
__global__ void run_mma(Class cls, uint64_t seed, uint64_t tests, Report* report) {
  constexpr int kK = A::bits == 8 ? 32 : A::bits == 16 ? 16 : 8;
  __shared__ Tile<A, B, C, 16, 8, kK> tiles[kWarps];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
  auto& t = tiles[warp];
  for (uint64_t test = blockIdx.x * kWarps + warp; test < tests; test += gridDim.x * kWarps) {
    fill(t, cls, seed, test, lane, 32);
    __syncwarp();
    const uint32_t a[4] = {packed<A>(t.a[group], quad), packed<A>(t.a[group + 8], quad), packed<A>(t.a[group], quad + 4),
                           packed<A>(t.a[group + 8], quad + 4)};
    const uint32_t b[2] = {packed<B>(t.b[group], quad), packed<B>(t.b[group], quad + 4)};
    Registers<C> d;
    d.load(t.c, group, quad * 2);
    mma<A, B>(d, a, b);
    d.store(t.d, group, quad * 2);
    __syncwarp();
    judge<A, B, C, Unit::mma>(t, test, lane, 32, report);
    __syncwarp();
  }
}

// --- wgmma: m64n8, one warpgroup; operands in shared memory as 8-row by 16-byte core matrices ------------------------------------------

#define VB_WGMMA(SHAPE, TA, TB, TRAILER)                                                                                    \
  if constexpr (C::bits == 16)                                                                                              \
    asm volatile("{wgmma.mma_async.sync.aligned." SHAPE ".f16." TA "." TB " {%0,%1},%2,%3,1,1,1" TRAILER ";}"               \
                 : "+r"(d.r[0]), "+r"(d.r[1])                                                                               \
                 : "l"(a), "l"(b));                                                                                         \
  else                                                                                                                      \
    VB_WGMMA_BINARY32(SHAPE, TA, TB, TRAILER)
#define VB_WGMMA_BINARY32(SHAPE, TA, TB, TRAILER)                                                                           \
  asm volatile("{wgmma.mma_async.sync.aligned." SHAPE ".f32." TA "." TB " {%0,%1,%2,%3},%4,%5,1,1,1" TRAILER ";}"           \
               : "+r"(d.r[0]), "+r"(d.r[1]), "+r"(d.r[2]), "+r"(d.r[3])                                                     \
               : "l"(a), "l"(b))

template <class A, class B, class C>
__device__ void wgmma(Registers<C>& d, uint64_t a, uint64_t b) {
  constexpr bool kAIsE4M3 = A::bits == 8 && A::exponent_bits == 4, kBIsE4M3 = B::bits == 8 && B::exponent_bits == 4;
  asm volatile("wgmma.fence.sync.aligned;");
  if constexpr (A::bits == 19) {
    VB_WGMMA_BINARY32("m64n8k8", "tf32", "tf32", "");
  } else if constexpr (A::bits == 16 && A::exponent_bits == 8) {
    VB_WGMMA_BINARY32("m64n8k16", "bf16", "bf16", ",0,0");
  } else if constexpr (A::bits == 16) {
    VB_WGMMA("m64n8k16", "f16", "f16", ",0,0");
  } else if constexpr (kAIsE4M3 && kBIsE4M3) {
    VB_WGMMA("m64n8k32", "e4m3", "e4m3", "");
  } else if constexpr (kAIsE4M3) {
    VB_WGMMA("m64n8k32", "e4m3", "e5m2", "");
  } else if constexpr (kBIsE4M3) {
    VB_WGMMA("m64n8k32", "e5m2", "e4m3", "");
  } else {
    VB_WGMMA("m64n8k32", "e5m2", "e5m2", "");
  }
  asm volatile("wgmma.commit_group.sync.aligned;");
  if constexpr (C::bits == 16)
    asm volatile("wgmma.wait_group.sync.aligned 0;" : "+r"(d.r[0]), "+r"(d.r[1])::"memory");
  else
    asm volatile("wgmma.wait_group.sync.aligned 0;" : "+r"(d.r[0]), "+r"(d.r[1]), "+r"(d.r[2]), "+r"(d.r[3])::"memory");
}

__device__ uint64_t descriptor(const void* p) {
  const uint64_t address = static_cast<uint64_t>(__cvta_generic_to_shared(p));
  return (address & 0x3FFFF) >> 4 | uint64_t{128 >> 4} << 16 | uint64_t{256 >> 4} << 32;
}

// Row r, 16-byte half h of a row of 32 bytes: core matrix (r / 8, h).
template <class F, int kRows, int kK, class T>
__device__ void to_core_matrices(const T (&rows)[kRows][kK], uint8_t* out, int thread, int threads) {
  for (int w = thread; w < kRows * 8; w += threads) {
    const int row = w / 8, word = w % 8;
    reinterpret_cast<uint32_t*>(out)[((row / 8) * 2 + word / 4) * 32 + row % 8 * 4 + word % 4] = packed<F>(rows[row], word);
  }
}

template <class A, class B, class C>
__global__ __launch_bounds__(128) void run_wgmma(Class cls, uint64_t seed, uint64_t tests, Report* report) {
  constexpr int kK = A::bits == 8 ? 32 : A::bits == 16 ? 16 : 8;
  __shared__ Tile<A, B, C, 64, 8, kK> t;
  __shared__ __align__(128) uint8_t a[64 * 32], b[8 * 32];
  const int thread = threadIdx.x, lane = thread % 32, row = thread / 32 * 16 + lane / 4, column = lane % 4 * 2;
  for (uint64_t test = blockIdx.x; test < tests; test += gridDim.x) {
    fill(t, cls, seed, test, thread, 128);
    __syncthreads();
    to_core_matrices<A>(t.a, a, thread, 128);
    to_core_matrices<B>(t.b, b, thread, 128);
    __syncthreads();
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    Registers<C> d;
    d.load(t.c, row, column);
    wgmma<A, B>(d, descriptor(a), descriptor(b));
    d.store(t.d, row, column);
    __syncthreads();
    judge<A, B, C, Unit::wgmma>(t, test, thread, 128, report);
    __syncthreads();
  }
}

// --- the table ----------------------------------------------------------------------------------------------------------------------

struct Options {
  int log2_outputs = 23;  // of each line
  uint64_t seed = 1;
  std::FILE *json = nullptr, *record = nullptr;
};

struct Totals {
  uint64_t outputs = 0, differing = 0;
};

// A line of tests/golden/tensor_core_h100.txt.
void record(std::FILE* file, const char* instruction, const char* types, int group, const Case& c, int k_size) {
  std::fprintf(file, "%s|%s|%s|", instruction, types, kClasses[group].name);
  for (const auto* codes : {c.a, c.b}) {
    for (int k = 0; k < k_size; ++k) std::fprintf(file, "%s%x", k ? " " : "", codes[k]);
    std::fputc('|', file);
  }
  std::fprintf(file, "%x|%x\n", c.c, c.got);
}

void print_failure(const Case& f, int k_size) {
  std::printf("    test %" PRIu64 " row %d column %d: c %08x, hardware %08x, reference %08x\n", f.test, f.m, f.n, f.c,
              f.got, f.want);
  for (const auto* codes : {f.a, f.b}) {
    std::printf("      %c", codes == f.a ? 'a' : 'b');
    for (int k = 0; k < k_size; ++k) std::printf(" %x", codes[k]);
    std::printf("\n");
  }
}

template <class Kernel>
void run(Kernel kernel, const char* instruction, const char* types, int outputs_per_test, int k_size, const Options& options,
         Totals& totals) {
  Report* device = nullptr;
  CHECK(cudaMalloc(&device, sizeof(Report)));
  for (int group = 0; group < kClassCount; ++group) {
    CHECK(cudaMemset(device, 0, sizeof(Report)));
    const uint64_t tests = (uint64_t{1} << options.log2_outputs) / static_cast<uint64_t>(outputs_per_test);
    kernel<<<132 * 8, 128>>>(kClasses[group], options.seed * 1000 + static_cast<uint64_t>(group), tests, device);
    CHECK(cudaGetLastError());
    static Report report;
    CHECK(cudaMemcpy(&report, device, sizeof report, cudaMemcpyDeviceToHost));
    std::printf("%-6s %-18s %-30s %12llu outputs %8llu differ   (%llu NaN, %llu infinite, %llu subnormal, %llu zero)\n",
                instruction, types, kClasses[group].name, report.outputs, report.differing, report.nans, report.infinities,
                report.subnormals, report.zeros);
    for (int f = 0; f < report.failures && f < 2; ++f) print_failure(report.failure[f], k_size);
    for (int i = 0; options.record && i < kSamples; ++i) record(options.record, instruction, types, group, report.sample[i], k_size);
    if (options.json)
      std::fprintf(options.json,
                   "%s\n  {\"instruction\": \"%s\", \"types\": \"%s\", \"class\": \"%s\", \"outputs\": %llu, \"differing\": %llu, "
                   "\"nan\": %llu, \"infinite\": %llu, \"subnormal\": %llu, \"zero\": %llu}",
                   totals.outputs ? "," : "", instruction, types, kClasses[group].name, report.outputs, report.differing,
                   report.nans, report.infinities, report.subnormals, report.zeros);
    totals.outputs += report.outputs;
    totals.differing += report.differing;
  }
  CHECK(cudaFree(device));
}

template <class A, class B, class C = Binary32Format>
void run_pair(const char* types, const Options& options, Totals& totals) {
  constexpr int kK = A::bits == 8 ? 32 : A::bits == 16 ? 16 : 8;
  run(run_mma<A, B, C>, "mma", types, 16 * 8, kK, options, totals);
  run(run_wgmma<A, B, C>, "wgmma", types, 64 * 8, kK, options, totals);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--log2-outputs") options.log2_outputs = std::atoi(argv[i + 1]);
    else if (flag == "--seed") options.seed = std::strtoull(argv[i + 1], nullptr, 10);
    else if (flag == "--json") options.json = std::fopen(argv[i + 1], "w");
    else if (flag == "--record") options.record = std::fopen(argv[i + 1], "w");
    else argc = 0;
  }
  if (argc % 2 == 0 || options.log2_outputs < 9 || options.log2_outputs > 40) {
    std::fprintf(stderr, "usage: tensor_core [--log2-outputs 9..40] [--seed S] [--json FILE] [--record FILE]\n");
    return 64;
  }
  cudaDeviceProp device{};
  CHECK(cudaGetDeviceProperties(&device, 0));
  std::printf("%s, compute capability %d.%d\n", device.name, device.major, device.minor);
  if (device.major != 9) {
    std::fprintf(stderr, "this program judges Hopper (compute capability 9.0)\n");
    return 69;
  }
  if (options.json) std::fprintf(options.json, "{\"device\": \"%s\", \"seed\": %" PRIu64 ", \"lines\": [", device.name, options.seed);
  Totals totals;
  run_pair<BFloat16Format, BFloat16Format>("bf16", options, totals);
  run_pair<HalfFormat, HalfFormat>("fp16", options, totals);
  run_pair<E4M3Format, E4M3Format>("e4m3", options, totals);
  run_pair<E5M2Format, E5M2Format>("e5m2", options, totals);
  run_pair<E4M3Format, E5M2Format>("e4m3,e5m2", options, totals);
  run_pair<E5M2Format, E4M3Format>("e5m2,e4m3", options, totals);
  run_pair<Tf32Format, Tf32Format>("tf32", options, totals);
  run_pair<HalfFormat, HalfFormat, HalfFormat>("fp16 to fp16", options, totals);
  run_pair<E4M3Format, E4M3Format, HalfFormat>("e4m3 to fp16", options, totals);
  run_pair<E5M2Format, E5M2Format, HalfFormat>("e5m2 to fp16", options, totals);
  run_pair<E4M3Format, E5M2Format, HalfFormat>("e4m3,e5m2 to fp16", options, totals);
  std::printf("%" PRIu64 " outputs, %" PRIu64 " differ\n", totals.outputs, totals.differing);
  if (options.record) std::fclose(options.record);
  if (options.json) {
    std::fprintf(options.json, "\n], \"outputs\": %" PRIu64 ", \"differing\": %" PRIu64 "}\n", totals.outputs, totals.differing);
    std::fclose(options.json);
  }
  return totals.differing == 0 ? 0 : 1;
}
