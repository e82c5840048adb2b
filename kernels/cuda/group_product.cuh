// The product that large matrices have on Hopper: A [m, k] and B [n, k], row-major, in blocks of
// 128 x kColumns results. One warp group of a block of threads copies tiles, two multiply, each
// with 64 rows, and tiles are in a ring between them. Blocks of threads take blocks of results in
// turn, so that the next one's tiles come while the last one's results go. In a cluster of two,
// which have different rows and the same columns, each copies half of B's tile to both. Each result
// is one chain, ascending in k; where K is cut, the slices' sums are added ascending in binary32.
//
// Operands may also be several slices of int8 codes, one matrix after the other, whose products
// weigh 2^-7 for each slice further on (docs/numerics.md, Slices): those of one weight are one sum,
// and all are one integer.
#pragma once

#include <verbatim/repops/ops/sliced.h>
#include <verbatim/kernels/cuda/tile_product.cuh>
#include <verbatim/kernels/cuda/warp_group.cuh>

namespace verbatim::cuda {

// What finishes a result: Epilogue::Out, Row, Column, row(m), column(n), finished(sum, row,
// column), out [m, n].
template <class Epilogue>
struct GroupCall {
  TileMap a, b, out;  // out: in boxes of kTileRows
  bool by_copies;     // whether the copy engine stores the results there
  int64_t m, n;
  int turns;     // of clusters
  int slabs;     // of K
  int per_fold;  // of them, in a chain
  int a_slices, b_slices;
  Epilogue epilogue;

  VB_HOST_DEVICE int levels() const { return a_slices > b_slices ? a_slices : b_slices; }
  // f(i, j) for the slices whose products have the weight of `level`.
  template <class F>
  __device__ void each_pair(int level, F&& f) const {
    for (int i = level < b_slices ? 0 : level - b_slices + 1; i <= level && i < a_slices; ++i)
      f(i, level - i);
  }
};

// What follows a chain: nothing, another one whose sum is added, or that of a lesser weight.
enum class Fold { none, sums, slices };

template <class Unit, int kColumns, Fold kFold, int kCluster>
struct GroupProduct {
  static constexpr int kGroups = 2, kRows = kGroups * kGroupRows;
  static constexpr unsigned kThreads = (kGroups + 1) * kWarpGroup, kWarps = kGroups * 4;
  static constexpr int kStages = kColumns == 256 ? 4 : 6;
  static constexpr int kStageBytes = (kRows + kColumns) * kSlabBytes;
  static constexpr int kCopiedColumns = kColumns / kCluster;  // by a block, to all of the cluster
  // Finished results on their way out: two boxes of each warp, in turn.
  static constexpr int kBoxBytes = kTileRows * kSlabBytes, kBoxes = 2;
  // Of 16 bits: of 32, which fill whole sectors of 32 bytes, threads store faster themselves.
  template <class Epilogue>
  static constexpr bool kByCopies = sizeof(typename Epilogue::Out) == 2;
  static constexpr int kAllBoxes = static_cast<int>(kWarps) * kBoxes * kBoxBytes;
  using Ring = TileRing<kStageBytes>;
  static constexpr size_t kSharedBytes =
      kTileAlignment + kAllBoxes + size_t{kStageBytes} * kStages + Ring::kBarrierBytes;
  static_assert(kSharedBytes <= kMostShared);

  std::byte* boxes = aligned_tiles();
  Ring ring{boxes + kAllBoxes, kStages};
  int box = 0;

  __device__ void make_barriers() const {
    if (threadIdx.x == 0) ring.init(kWarps * kCluster);
    sync_cluster();
  }
  __device__ static void sync_cluster() {
    if constexpr (kCluster > 1)
      barrier_of_cluster();
    else
      __syncthreads();
  }

  // A tile of the ring is one of A, then one of B.
  __device__ std::byte* tile_of_b() const { return ring.tile() + kRows * kSlabBytes; }

  // What a cluster computes at a time, in an order in which those at work share rows and columns.
  static constexpr int kClusterRows = kCluster * kRows, kBand = 8 / kCluster;
  struct Place {
    int row, column;  // of the block
  };
  __device__ static Place place(int64_t m, int64_t n, int turn) {
    const int rows = static_cast<int>(ceiling(m, kClusterRows)),
              columns = static_cast<int>(ceiling(n, kColumns)), band = turn / (kBand * columns),
              in_band = turn - band * kBand * columns,
              height = rows - band * kBand < kBand ? rows - band * kBand : kBand;
    return {(band * kBand + in_band % height) * kClusterRows + rank() * kRows,
            in_band / height * kColumns};
  }
  static int64_t turns(int64_t m, int64_t n) {
    return ceiling(m, kClusterRows) * ceiling(n, kColumns);
  }
  __device__ static int rank() {
    if constexpr (kCluster == 1) return 0;
    return static_cast<int>(rank_in_cluster());
  }
  // step(place) for each of the cluster's turns.
  template <class Call, class Step>
  __device__ static void each_turn(const Call& p, Step&& step) {
    for (int turn = static_cast<int>(blockIdx.x) / kCluster; turn < p.turns;
         turn += static_cast<int>(gridDim.x) / kCluster)
      step(place(p.m, p.n, turn));
  }

  // By one thread.
  template <class Call>
  __device__ void copy_tiles(const Call& p) {
    each_turn(p, [&](const Place& at) {
      for (int level = 0; level < (kFold == Fold::slices ? p.levels() : 1); ++level)
        p.each_pair(level, [&](int i, int j) {
          // Rows beyond a slice are the next one's, or zeros: no result's.
          copy_chain(p, at.row + i * static_cast<int>(p.m), at.column + j * static_cast<int>(p.n));
        });
    });
  }
  template <class Call>
  __device__ void copy_chain(const Call& p, int row, int column) {
    const int first = rank() * kCopiedColumns;
    for (int slab = 0; slab < p.slabs; ++slab, ring.next()) {
      const int byte = slab * kSlabBytes;
      ring.begin_filling(kStageBytes);
      uint64_t* full = &ring.full[ring.stage];
      copy_tile(ring.tile(), p.a, byte, row, full);
      if constexpr (kCluster == 1)
        copy_tile(tile_of_b(), p.b, byte, column, full);
      else
        copy_tile_to((1u << kCluster) - 1, tile_of_b() + first * kSlabBytes, p.b, byte,
                     column + first, full);
    }
  }

  // To all who copy to it.
  __device__ void release(int of_stage) const {
    if constexpr (kCluster == 1) {
      ring.release(of_stage);
    } else {
      __syncwarp();
      const unsigned lane = threadIdx.x % kWarp;
      if (lane < kCluster) arrive_at_block(&ring.empty[of_stage], lane);
    }
  }

  // One chain of so many slabs, into sums that are zero. A slab's tiles are given back while the
  // next slab's products are under way.
  __device__ void multiply(GroupSums<Unit, kColumns>& sums, int group, int slabs) {
    for (int slab = 0; slab < slabs; ++slab, ring.next()) {
      ring.wait_until_full();
      const uint64_t a = describe_tile(ring.tile() + group * kGroupRows * kSlabBytes),
                     b = describe_tile(tile_of_b());
      begin_products();
#pragma unroll
      for (int unit = 0; unit < kSlabBytes / kUnitBytes; ++unit)
        multiply_group<Unit, kColumns>(sums, further(a, unit * kNextUnit),
                                       further(b, unit * kNextUnit));
      commit_products();
      if (slab > 0) {
        wait_for_products<1>();
        release((ring.stage == 0 ? kStages : ring.stage) - 1);
      }
    }
    wait_for_products<0>();
    settle(sums);
    release((ring.stage == 0 ? kStages : ring.stage) - 1);
  }

  __device__ static void clear(GroupSums<Unit, kColumns>& sums) {
#pragma unroll
    for (auto& s : sums) s = 0;
  }

  template <class Call>
  __device__ void multiply_and_store(const Call& p, int group) {
    each_turn(p, [&](const Place& at) {
      GroupSums<Unit, kColumns> sums;
      clear(sums);
      const int row = at.row + group * kGroupRows;
      if constexpr (kFold == Fold::slices) {
        int64_t totals[kColumns / 2];
        add_levels(p, group, sums, totals);
        store_results(p, totals, row, at.column);
      } else {
        multiply(sums, group, kFold == Fold::sums ? p.per_fold : p.slabs);
        if constexpr (kFold == Fold::sums) add_chains(p, group, sums);
        store_results(p, sums, row, at.column);
      }
    });
    wait_for_stores<0>();
  }
  template <class Call>
  __device__ void add_chains(const Call& p, int group, GroupSums<Unit, kColumns>& sums) {
    GroupSums<Unit, kColumns> more;
    for (int slab = p.per_fold; slab < p.slabs; slab += p.per_fold) {
      clear(more);
      multiply(more, group, p.slabs - slab < p.per_fold ? p.slabs - slab : p.per_fold);
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) sums[i] = sums[i] + more[i];
    }
  }
  template <class Call>
  __device__ void add_levels(const Call& p, int group, GroupSums<Unit, kColumns>& sums,
                             int64_t (&totals)[kColumns / 2]) {
#pragma unroll
    for (int64_t& total : totals) total = 0;
    for (int level = 0; level < p.levels(); ++level) {
      int chains = 0;
      p.each_pair(level, [&](int, int) { ++chains; });
      clear(sums);
      multiply(sums, group, chains * p.slabs);
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i)
        totals[i] = totals[i] * (1 << kSliceBits) + static_cast<int64_t>(sums[i]);
    }
  }

  // `row`: the group's first.
  template <class Call, class Sum>
  __device__ void store_results(const Call& p, const Sum (&sums)[kColumns / 2], int row,
                                int column) {
    using Epilogue = decltype(p.epilogue);
    const int t = static_cast<int>(threadIdx.x % kWarpGroup), first_row = row + t / 32 * kTileRows,
              own_row = first_row + t % 32 / 4;
    typename Epilogue::Row rows[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      rows[half] = p.epilogue.row(least(own_row + 8 * half, p.m - 1));
    constexpr int kPart = kSlabBytes / static_cast<int>(sizeof(typename Epilogue::Out));
#pragma unroll
    for (int first = 0; first < kColumns; first += kPart) {
      if (column + first >= p.n) continue;
      if (kByCopies<Epilogue> && p.by_copies)
        store_box<kPart>(p, sums, rows, first, first_row, column + first);
      else if (row + kGroupRows <= p.m && column + first + kPart <= p.n && p.n % 2 == 0)
        store_part<kPart, true>(p, sums, rows, first, own_row, column + first);
      else
        store_part<kPart, false>(p, sums, rows, first, own_row, column + first);
    }
  }

  // Of kPart columns of the sums, which begin at `first` there: put(tile, half, two) for the two
  // results that the thread has of a row of a tile, from column `column` of the matrix on.
  // kWhole: all of them are there.
  template <int kPart, bool kWhole, class Call, class Sum, class Row, class Put>
  __device__ static void finish_part(const Call& p, const Sum (&sums)[kColumns / 2],
                                     const Row (&rows)[2], int first, int64_t column, Put&& put) {
    using Epilogue = decltype(p.epilogue);
    using Out = typename Epilogue::Out;
    struct alignas(2 * sizeof(Out)) Two {
      Out first, second;
    };
    constexpr int kTiles = kPart / kTileColumns;
    // Before any result is stored: no load passes a store.
    typename Epilogue::Column columns[2 * kTiles];
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      const int64_t n = column + i / 2 * kTileColumns + threadIdx.x % 4 * 2 + i % 2;
      columns[i] = p.epilogue.column(kWhole ? n : least(n, p.n - 1));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const auto result = [&](int e) {
          return p.epilogue.finished(sums[(first / kTileColumns + j) * 4 + 2 * half + e],
                                     rows[half], columns[2 * j + e]);
        };
        put(j, half, Two{result(0), result(1)});
      }
  }

  // By way of a box of the warp in shared memory, 16 rows of 128 bytes, which one thread hands on.
  template <int kPart, class Call, class Sum, class Row>
  __device__ void store_box(const Call& p, const Sum (&sums)[kColumns / 2], const Row (&rows)[2],
                            int first, int row, int column) {
    constexpr int kSize = kSlabBytes / kPart;
    const int lane = static_cast<int>(threadIdx.x % kWarp),
              warp = static_cast<int>(threadIdx.x / kWarp) - static_cast<int>(kWarpGroup / kWarp);
    std::byte* to = boxes + (warp * kBoxes + box) * kBoxBytes;
    box = (box + 1) % kBoxes;
    if (lane == 0) wait_for_stores<kBoxes - 1>();
    __syncwarp();
    finish_part<kPart, false>(
        p, sums, rows, first, column, [&](int tile, int half, const auto& two) {
          const int r = lane / 4 + 8 * half, byte = (tile * kTileColumns + lane % 4 * 2) * kSize;
          std::memcpy(to + slab_offset(r, byte / 16) + byte % 16, &two, sizeof two);
        });
    publish_tiles();
    __syncwarp();
    if (lane != 0) return;
    store_tile(p.out, column * kSize, row, to);
    commit_stores();
  }

  // By the threads. kWhole: all are there, and two of a row may be stored at once.
  template <int kPart, bool kWhole, class Call, class Sum, class Row>
  __device__ static void store_part(const Call& p, const Sum (&sums)[kColumns / 2],
                                    const Row (&rows)[2], int first, int64_t row, int64_t column) {
    finish_part<kPart, kWhole>(
        p, sums, rows, first, column, [&](int tile, int half, const auto& two) {
          const int64_t m = row + 8 * half, n = column + tile * kTileColumns + threadIdx.x % 4 * 2;
          auto* out = p.epilogue.out + m * p.n + n;
          if constexpr (kWhole) {
            *reinterpret_cast<std::remove_cvref_t<decltype(two)>*>(out) = two;
          } else {
            if (m >= p.m || n >= p.n) return;
            out[0] = two.first;
            if (n + 1 < p.n) out[1] = two.second;
          }
        });
  }
};

template <class Unit, int kColumns, Fold kFold, int kCluster, class Epilogue>
__global__ void __launch_bounds__((GroupProduct<Unit, kColumns, kFold, kCluster>::kThreads), 1)
    multiply_groups(const __grid_constant__ GroupCall<Epilogue> p) {
  if constexpr (kHopperCode) {
    GroupProduct<Unit, kColumns, kFold, kCluster> product;
    product.make_barriers();
    await_kernels_before();
    const int group = static_cast<int>(threadIdx.x / kWarpGroup) - 1;
    if (group < 0) {
      give_registers<40>();
      if (threadIdx.x == 0) product.copy_tiles(p);
    } else {
      take_registers<232>();
      product.multiply_and_store(p, group);
    }
    // A block's memory stays until nobody copies there.
    if constexpr (kCluster > 1) barrier_of_cluster();
  }
}

template <class Unit, int kColumns, Fold kFold, int kCluster, class Epilogue>
Status launch_groups(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                     const Epilogue& epilogue, int a_slices = 1, int b_slices = 1) {
  using Product = GroupProduct<Unit, kColumns, kFold, kCluster>;
  VB_ASSIGN(const TileMap a,
            map_tiles(codes.a, codes.m * a_slices, codes.row_bytes, Product::kRows));
  VB_ASSIGN(const TileMap b,
            map_tiles(codes.b, codes.n * b_slices, codes.row_bytes, Product::kCopiedColumns));
  const int64_t out_bytes = codes.n * static_cast<int64_t>(sizeof(typename Epilogue::Out));
  const bool by_copies = Product::template kByCopies<Epilogue> && out_bytes % 16 == 0 &&
                         reinterpret_cast<uintptr_t>(epilogue.out) % 16 == 0;
  TileMap out{};
  if (by_copies) {
    VB_ASSIGN(out, map_tiles(epilogue.out, codes.m, out_bytes, kTileRows));
  }
  const auto turns = static_cast<int>(Product::turns(codes.m, codes.n));
  const GroupCall<Epilogue> p{.a = a,
                              .b = b,
                              .out = out,
                              .by_copies = by_copies,
                              .m = codes.m,
                              .n = codes.n,
                              .turns = turns,
                              .slabs = static_cast<int>(ceiling(codes.row_bytes, kSlabBytes)),
                              .per_fold = static_cast<int>(per_fold),
                              .a_slices = a_slices,
                              .b_slices = b_slices,
                              .epilogue = epilogue};
  const int clusters = gpu.device().multiprocessors / kCluster;
  const Grid grid{
      .blocks = {static_cast<unsigned>((turns < clusters ? turns : clusters) * kCluster), 1, 1},
      .threads = {Product::kThreads, 1, 1},
      .shared_bytes = Product::kSharedBytes,
      .cluster = kCluster,
      .early = true};
  return launch(gpu, grid, multiply_groups<Unit, kColumns, kFold, kCluster, Epilogue>, p);
}

// Whether the product is one for warp groups, once its operands' rows are whole words of 16 bytes.
inline bool fits_groups(const Gpu& gpu, const TileOperands& codes) {
  constexpr int64_t kMost = 1 << 28;  // places are 32-bit integers, and slices four
  return gpu.device().hopper && codes.row_bytes > 0 && codes.m < kMost && codes.n < kMost &&
         codes.row_bytes < kMost && ceiling(codes.m, 128) * ceiling(codes.n, 128) < kMost;
}
// The same, and whether they lie so that the copy engine can read them.
inline bool suits_groups(const Gpu& gpu, const TileOperands& codes) {
  return fits_groups(gpu, codes) && codes.in_words();
}

// Operands that the copy engine takes: as they are, or copies that are kept here. Rows of a's and
// b's slices are rows like others.
struct WordOperands {
  TileOperands codes;
  Tensor a, b;
};
inline Result<WordOperands> in_words(Gpu& gpu, TileOperands codes, int64_t a_rows, int64_t b_rows) {
  WordOperands words;
  if (!codes.in_words()) {
    VB_ASSIGN(words.a, in_whole_words(gpu, codes.a, a_rows, codes.row_bytes));
    VB_ASSIGN(words.b, in_whole_words(gpu, codes.b, b_rows, codes.row_bytes));
    codes = {words.a.address(), words.b.address(), codes.m, codes.n, words.a.dim(1)};
  }
  words.codes = codes;
  return words;
}

// Of slices of both operands: the sum of all their products by weight, one integer.
template <class Epilogue>
Status multiply_slices_in_groups(Gpu& gpu, const TileOperands& codes, const Epilogue& epilogue,
                                 int a_slices, int b_slices) {
  if (codes.m <= 128)
    return launch_groups<Int8Unit, 128, Fold::slices, 1>(gpu, codes, 0, epilogue, a_slices,
                                                         b_slices);
  return launch_groups<Int8Unit, 128, Fold::slices, 2>(gpu, codes, 0, epilogue, a_slices, b_slices);
}

// per_fold: slabs of a chain. Wide blocks of results read less, where there are enough of them to
// keep most multiprocessors at work.
template <class Unit, class Epilogue>
Status multiply_in_groups(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                          const Epilogue& epilogue) {
  if (per_fold * kSlabBytes < codes.row_bytes)
    return launch_groups<Unit, 128, Fold::sums, 2>(gpu, codes, per_fold, epilogue);
  if (codes.m <= 128) return launch_groups<Unit, 128, Fold::none, 1>(gpu, codes, 0, epilogue);
  const int64_t wide = ceiling(codes.m, 128) * ceiling(codes.n, 256);
  return wide * 4 >= gpu.device().multiprocessors * int64_t{3}
             ? launch_groups<Unit, 256, Fold::none, 2>(gpu, codes, 0, epilogue)
             : launch_groups<Unit, 128, Fold::none, 2>(gpu, codes, 0, epilogue);
}

}  // namespace verbatim::cuda
