// The product that large matrices have on Hopper: A [m, k] and B [n, k], row-major, in blocks of
// 128 x kColumns results. One warp group of a block of threads copies tiles, two multiply, each
// with 64 rows, and tiles are in a ring between them. Blocks of threads take blocks of results in
// turn, so that the next one's tiles come while the last one's results go. Each result is one
// chain, ascending in k; where K is cut, the slices' sums are added ascending in binary32.
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
// column), and where Out is of 16 bits value() of the same, which is yet to be rounded; out [m, n].
template <class Epilogue>
struct GroupCall {
  TileMap a, b, out;  // out: in boxes of kTileRows
  bool by_copies;     // whether the copy engine stores the results there
  int64_t m, n;
  int turns;     // of blocks of results
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

template <class Unit, int kColumns, Fold kFold>
struct GroupProduct {
  static constexpr int kGroups = 2, kRows = kGroups * kGroupRows;
  static constexpr unsigned kThreads = (kGroups + 1) * kWarpGroup, kWarps = kGroups * 4;
  static constexpr int kStages = kColumns == 256 ? 4 : 6;
  static constexpr int kStageBytes = (kRows + kColumns) * kSlabBytes;
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
  int box = 0, columns_place = 0;
  using Sums = GroupSums<Unit, kColumns>;

  __device__ void make_barriers() const {
    if (threadIdx.x == 0) ring.init(kWarps);
    __syncthreads();
  }

  // A tile of the ring is one of A, then one of B.
  __device__ std::byte* tile_of_b() const { return ring.tile() + kRows * kSlabBytes; }

  // Blocks of results in an order in which those at work share rows and columns.
  static constexpr int kBand = 8;
  struct Place {
    int row, column;
  };
  __device__ static Place place(int64_t m, int64_t n, int turn) {
    const int rows = static_cast<int>(ceiling(m, kRows)),
              columns = static_cast<int>(ceiling(n, kColumns)), band = turn / (kBand * columns),
              in_band = turn - band * kBand * columns,
              height = rows - band * kBand < kBand ? rows - band * kBand : kBand;
    return {(band * kBand + in_band % height) * kRows, in_band / height * kColumns};
  }
  static int64_t turns(int64_t m, int64_t n) { return ceiling(m, kRows) * ceiling(n, kColumns); }
  // step(place) for each of the block's turns.
  template <class Call, class Step>
  __device__ static void each_turn(const Call& p, Step&& step) {
    for (int turn = static_cast<int>(blockIdx.x); turn < p.turns;
         turn += static_cast<int>(gridDim.x))
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
    for (int slab = 0; slab < p.slabs; ++slab, ring.next()) {
      const int byte = slab * kSlabBytes;
      ring.begin_filling(kStageBytes);
      uint64_t* full = &ring.full[ring.stage];
      copy_tile(ring.tile(), p.a, byte, row, full);
      copy_tile(tile_of_b(), p.b, byte, column, full);
    }
  }

  // One chain of so many slabs, into sums that are zero. A slab's tiles are given back while the
  // next slab's products are under way.
  __device__ void multiply(Sums& sums, int group, int slabs) {
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
        ring.release((ring.stage == 0 ? kStages : ring.stage) - 1);
      }
    }
    wait_for_products<0>();
    settle(sums);
    ring.release((ring.stage == 0 ? kStages : ring.stage) - 1);
  }

  __device__ static void clear(Sums& sums) {
#pragma unroll
    for (auto& s : sums) s = 0;
  }

  template <class Call>
  __device__ void multiply_and_store(const Call& p, int group) {
    each_turn(p, [&](const Place& at) {
      const int row = at.row + group * kGroupRows;
      const Asked<decltype(p.epilogue)> asked(p, row, at.column);
      Sums sums;
      clear(sums);
      if constexpr (kFold == Fold::slices) {
        int64_t totals[kColumns / 2];
        add_levels(p, group, sums, totals);
        store_results(p, totals, asked, row, at.column, group);
      } else {
        multiply(sums, group, kFold == Fold::sums ? p.per_fold : p.slabs);
        if constexpr (kFold == Fold::sums) add_chains(p, group, sums);
        store_results(p, sums, asked, row, at.column, group);
      }
    });
    wait_for_stores<0>();
  }
  template <class Call>
  __device__ void add_chains(const Call& p, int group, Sums& sums) {
    Sums more;
    for (int slab = p.per_fold; slab < p.slabs; slab += p.per_fold) {
      clear(more);
      multiply(more, group, p.slabs - slab < p.per_fold ? p.slabs - slab : p.per_fold);
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) sums[i] = sums[i] + more[i];
    }
  }
  template <class Call>
  __device__ void add_levels(const Call& p, int group, Sums& sums,
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

  // What the epilogue reads of a block's rows and columns, asked for before the products, behind
  // which nobody waits for it. Of the columns each thread asks for some, for all of its group; not
  // where the copy engine stores the results, whose boxes have the memory.
  template <class Epilogue>
  struct Asked {
    static constexpr int kOwn = (kColumns + int{kWarpGroup} - 1) / int{kWarpGroup};
    typename Epilogue::Row rows[2];
    typename Epilogue::Column columns[kOwn];

    template <class Call>
    __device__ Asked(const Call& p, int row, int column) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        rows[half] = p.epilogue.row(least(row + own_row() + 8 * half, p.m - 1));
      if constexpr (!kByCopies<Epilogue>) {
#pragma unroll
        for (int i = 0; i < kOwn; ++i)
          columns[i] = p.epilogue.column(least(column + place_of(i), p.n - 1));
      }
    }
    __device__ static int place_of(int i) {
      return static_cast<int>(threadIdx.x % kWarpGroup) + i * int{kWarpGroup};
    }
  };
  // Of the 64 rows of a group, the first one that the thread has results of.
  __device__ static int own_row() {
    const int t = static_cast<int>(threadIdx.x % kWarpGroup);
    return t / 32 * kTileRows + t % 32 / 4;
  }
  // The columns of a block, for all threads of the group, at one of two places: it is written again
  // after the barrier of the next block, by when all have read it.
  template <class Epilogue>
  __device__ const typename Epilogue::Column* share_columns(const Asked<Epilogue>& asked,
                                                            int group) {
    using Column = typename Epilogue::Column;
    static_assert(kGroups * 2 * kColumns * static_cast<int>(sizeof(Column)) <= kAllBoxes);
    auto* columns = reinterpret_cast<Column*>(boxes) + (2 * group + columns_place) * kColumns;
    columns_place ^= 1;
#pragma unroll
    for (int i = 0; i < asked.kOwn; ++i)
      if (asked.place_of(i) < kColumns) columns[asked.place_of(i)] = asked.columns[i];
    sync_threads(3 + group, kWarpGroup);
    return columns;
  }

  // `row`: the group's first.
  template <class Call, class Sum>
  __device__ void store_results(const Call& p, const Sum (&sums)[kColumns / 2],
                                const Asked<decltype(p.epilogue)>& asked, int row, int column,
                                int group) {
    using Epilogue = decltype(p.epilogue);
    const typename Epilogue::Column* columns = nullptr;
    if constexpr (!kByCopies<Epilogue>) columns = share_columns(asked, group);
    constexpr int kPart = kSlabBytes / static_cast<int>(sizeof(typename Epilogue::Out));
#pragma unroll
    for (int first = 0; first < kColumns; first += kPart) {
      if (column + first >= p.n) continue;
      const Part<Epilogue> part{asked.rows, columns == nullptr ? nullptr : columns + first, first,
                                row, column + first};
      if constexpr (kByCopies<Epilogue>)
        if (p.by_copies) {
          store_box<kPart>(p, sums, part);
          continue;
        }
      if (row + kGroupRows <= p.m && column + first + kPart <= p.n && p.n % 2 == 0)
        store_part<kPart, true>(p, sums, part);
      else
        store_part<kPart, false>(p, sums, part);
    }
  }

  // Some columns of a group's results: of the sums from `first` on, of the matrix from `column`.
  template <class Epilogue>
  struct Part {
    const typename Epilogue::Row (&rows)[2];
    const typename Epilogue::Column* columns;  // null: to be read
    int first, row, column;
  };
  // finish(tile, half, i, row, columns) for sums i and i + 1, which are neighbours in a row of a
  // tile of 8 columns. kWhole: all of them are there.
  template <int kPart, bool kWhole, class Call, class Epilogue, class Finish>
  __device__ static void each_pair_of(const Call& p, const Part<Epilogue>& part, Finish&& finish) {
    constexpr int kTiles = kPart / kTileColumns;
    // Before any result is stored: no load passes a store.
    typename Epilogue::Column columns[kTiles][2];
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      const int c = i / 2 * kTileColumns + static_cast<int>(threadIdx.x % 4) * 2 + i % 2;
      if (part.columns != nullptr)
        columns[i / 2][i % 2] = part.columns[c];
      else
        columns[i / 2][i % 2] =
            p.epilogue.column(kWhole ? part.column + c : least(part.column + c, p.n - 1));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
        finish(j, half, (part.first / kTileColumns + j) * 4 + 2 * half, part.rows[half],
               columns[j]);
  }

  // By way of a box of the warp in shared memory, 16 rows of 128 bytes, which one thread hands on.
  template <int kPart, class Call, class Sum, class Epilogue>
  __device__ void store_box(const Call& p, const Sum (&sums)[kColumns / 2],
                            const Part<Epilogue>& part) {
    using Out = typename Epilogue::Out;
    uint32_t pairs[kPart / 4];
    each_pair_of<kPart, false>(
        p, part, [&](int tile, int half, int i, const auto& row, const auto& columns) {
          pairs[2 * tile + half] =
              rounded_pair<Out>(p.epilogue.value(sums[i], row, columns[0]),
                                p.epilogue.value(sums[i + 1], row, columns[1]));
        });
    canonical_pairs<Out>(pairs);
    const int lane = static_cast<int>(threadIdx.x % kWarp),
              warp = static_cast<int>(threadIdx.x / kWarp) - static_cast<int>(kWarpGroup / kWarp);
    std::byte* to = boxes + (warp * kBoxes + box) * kBoxBytes;
    box = (box + 1) % kBoxes;
    if (lane == 0) wait_for_stores<kBoxes - 1>();
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPart / 4; ++i)
      *reinterpret_cast<uint32_t*>(to + slab_offset(lane / 4 + 8 * (i % 2), i / 2) + lane % 4 * 4) =
          pairs[i];
    publish_tiles();
    __syncwarp();
    if (lane != 0) return;
    store_tile(p.out, part.column * static_cast<int>(sizeof(Out)), part.row + warp % 4 * kTileRows,
               to);
    commit_stores();
  }

  // By the threads. kWhole: all are there, and two of a row may be stored at once.
  template <int kPart, bool kWhole, class Call, class Sum, class Epilogue>
  __device__ static void store_part(const Call& p, const Sum (&sums)[kColumns / 2],
                                    const Part<Epilogue>& part) {
    using Out = typename Epilogue::Out;
    struct alignas(2 * sizeof(Out)) Two {
      Out first, second;
    };
    each_pair_of<kPart, kWhole>(
        p, part, [&](int tile, int half, int i, const auto& row, const auto& columns) {
          const Two two{p.epilogue.finished(sums[i], row, columns[0]),
                        p.epilogue.finished(sums[i + 1], row, columns[1])};
          const int64_t m = part.row + own_row() + 8 * half,
                        n = part.column + tile * kTileColumns + threadIdx.x % 4 * 2;
          Out* out = p.epilogue.out + m * p.n + n;
          if constexpr (kWhole) {
            *reinterpret_cast<Two*>(out) = two;
          } else {
            if (m >= p.m || n >= p.n) return;
            out[0] = two.first;
            if (n + 1 < p.n) out[1] = two.second;
          }
        });
  }
};

template <class Unit, int kColumns, Fold kFold, class Epilogue>
__global__ void __launch_bounds__((GroupProduct<Unit, kColumns, kFold>::kThreads), 1)
    multiply_groups(const __grid_constant__ GroupCall<Epilogue> p) {
  if constexpr (kHopperCode) {
    GroupProduct<Unit, kColumns, kFold> product;
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
  }
}

template <class Unit, int kColumns, Fold kFold, class Epilogue>
Status launch_groups(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                     const Epilogue& epilogue, int a_slices = 1, int b_slices = 1) {
  using Product = GroupProduct<Unit, kColumns, kFold>;
  VB_ASSIGN(const TileMap a,
            map_tiles(codes.a, codes.m * a_slices, codes.row_bytes, Product::kRows));
  VB_ASSIGN(const TileMap b, map_tiles(codes.b, codes.n * b_slices, codes.row_bytes, kColumns));
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
  const int multiprocessors = gpu.device().multiprocessors;
  const Grid grid{
      .blocks = {static_cast<unsigned>(turns < multiprocessors ? turns : multiprocessors), 1, 1},
      .threads = {Product::kThreads, 1, 1},
      .shared_bytes = Product::kSharedBytes,
      .early = true};
  return launch(gpu, grid, multiply_groups<Unit, kColumns, kFold, Epilogue>, p);
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
  return launch_groups<Int8Unit, 128, Fold::slices>(gpu, codes, 0, epilogue, a_slices, b_slices);
}

// per_fold: slabs of a chain. Wide blocks of results read less, where there are enough of them to
// keep most multiprocessors at work, and narrow ones keep more of these at work.
template <class Unit, class Epilogue>
Status multiply_in_groups(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                          const Epilogue& epilogue) {
  if (per_fold * kSlabBytes < codes.row_bytes)
    return launch_groups<Unit, 128, Fold::sums>(gpu, codes, per_fold, epilogue);
  const int64_t multiprocessors = gpu.device().multiprocessors, rows = ceiling(codes.m, 128);
  if (rows * ceiling(codes.n, 128) * 2 <= multiprocessors)
    return launch_groups<Unit, 64, Fold::none>(gpu, codes, 0, epilogue);
  if (rows * ceiling(codes.n, 256) * 4 >= multiprocessors * 3)
    return launch_groups<Unit, 256, Fold::none>(gpu, codes, 0, epilogue);
  return launch_groups<Unit, 128, Fold::none>(gpu, codes, 0, epilogue);
}

}  // namespace verbatim::cuda
