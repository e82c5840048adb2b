// Two ladders, from one thread for each result to what the backend runs: products of int8 codes,
// and attention of bf16 on the tensor cores. A rung is a file that adds one idea to the rung before
// it; all rungs of a ladder give the same bits (tests/kernels/ladder_test.cc), and `verbatim-bench
// ladder --backend cuda` says how fast each is.
#pragma once

#include <cstdint>
#include <string_view>

#include <verbatim/core/status.h>
#include <verbatim/core/tensor.h>

namespace verbatim::cuda {
class Gpu;
}

namespace verbatim::cuda::ladder {

// c [m, n] = a [m, k] b [n, k]: exact sums of int8 codes (docs/numerics.md, Family B). m and n are
// at least 1, and k is such that no sum leaves an int32. All in device memory.
struct Gemm {
  const int8_t *a, *b;
  int32_t* c;
  int64_t m, n, k;
};

// out = softmax(scale q k^T) v of bf16 codes, one sequence (docs/numerics.md, Tensor-core
// attention, member sm90): q and out [queries, heads, size], k and v [keys, kv_heads, size]. Not
// rounded to bf16, so that a test sees every bit.
struct Attention {
  const uint16_t *q, *k, *v;
  float* out;
  int64_t queries, heads, kv_heads, size, keys;
  float scale;
  bool causal;
};

template <class Work>
struct Rung {
  std::string_view name, idea;
  Status (*run)(Gpu& gpu, const Work& work);
  bool (*suits)(const Gpu& gpu, const Work& work);  // whether it takes the work, on this device
};

Status multiply_scalar(Gpu& gpu, const Gemm& p);
Status multiply_shared_tiles(Gpu& gpu, const Gemm& p);
Status multiply_register_tiles(Gpu& gpu, const Gemm& p);
Status multiply_mma_sync(Gpu& gpu, const Gemm& p);
Status multiply_copies_ahead(Gpu& gpu, const Gemm& p);
Status multiply_warp_groups(Gpu& gpu, const Gemm& p);
Status multiply_persistent(Gpu& gpu, const Gemm& p);

Status attend_scalar(Gpu& gpu, const Attention& p);
Status attend_row_tiles(Gpu& gpu, const Attention& p);
Status attend_mma_sync(Gpu& gpu, const Attention& p);
Status attend_registers(Gpu& gpu, const Attention& p);
Status attend_warp_groups(Gpu& gpu, const Attention& p);

// Any work; rows that the copy engine takes, on a Hopper.
bool suits_any(const Gpu& gpu, const Gemm& p);
bool suits_copy_engine(const Gpu& gpu, const Gemm& p);
// Heads of at most 128; and units of sm90; and a Hopper, and work for two of its warp groups.
bool suits_small_heads(const Gpu& gpu, const Attention& p);
bool suits_units(const Gpu& gpu, const Attention& p);
bool suits_warp_groups(const Gpu& gpu, const Attention& p);

inline constexpr Rung<Gemm> kGemmRungs[] = {
    {"1 scalar", "a thread computes one result", multiply_scalar, suits_any},
    {"2 shared tiles", "a block of threads reads a code once for 32 of its results",
     multiply_shared_tiles, suits_any},
    {"3 register tiles", "a thread computes 4 x 4 results, four codes at a time (dp4a)",
     multiply_register_tiles, suits_any},
    {"4 mma.sync", "a warp multiplies tiles on the tensor cores", multiply_mma_sync, suits_any},
    {"5 copies ahead", "the next tiles are on their way while these are multiplied",
     multiply_copies_ahead, suits_any},
    {"6 warp groups", "four warps multiply from shared memory, which the copy engine fills",
     multiply_warp_groups, suits_copy_engine},
    {"7 persistent", "warps that copy and warps that multiply go on from block to block",
     multiply_persistent, suits_copy_engine},
};

inline constexpr Rung<Attention> kAttentionRungs[] = {
    {"1 scalar", "a thread computes one row", attend_scalar, suits_small_heads},
    {"2 row tiles", "a warp computes a row, and eight of them share keys and values",
     attend_row_tiles, suits_small_heads},
    {"3 mma.sync", "a warp multiplies 16 rows at once on the tensor cores", attend_mma_sync,
     suits_units},
    {"4 registers", "scores and weights never leave registers, and copies go ahead",
     attend_registers, suits_units},
    {"5 warp groups", "values are multiplied while the next scores become weights",
     attend_warp_groups, suits_warp_groups},
};

// For code that is not CUDA's, which knows Gpu by name alone: the process's one, and its memory.
Result<Gpu*> find_gpu();
DeviceMemory& memory_of(Gpu& gpu);

}  // namespace verbatim::cuda::ladder
