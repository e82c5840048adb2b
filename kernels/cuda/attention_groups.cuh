// What both attentions of warp groups (group_attention.cuh, group_int8_attention.cuh) begin with: a
// block of threads has a tile of rows, of which each of two warp groups attends by 64, while a
// third copies keys and values.
#pragma once

#include <verbatim/kernels/cuda/attention_tiles.cuh>
#include <verbatim/kernels/cuda/warp_group.cuh>

namespace verbatim::cuda {

// The queries of kRows rows from the view's first on, kPieces times 16 bytes each, in slabs of 128
// bytes; zeros where there are none. By kThreads of which this is one.
template <int kRows, int kPieces, int kThreads, class Call, class View>
__device__ void load_queries(int thread, const Call& p, const View& view, std::byte* queries) {
  constexpr int kEach = 16 / static_cast<int>(sizeof(*view.q));  // elements
  for (int i = thread; i < kRows * kPieces; i += kThreads) {
    const int r = i / kPieces, piece = i % kPieces;
    const int64_t row = view.first_row + r;
    const bool there = row < view.rows && piece * kEach < p.head_size;
    copy_later(queries + piece / 8 * (kRows * kSlabBytes) + slab_offset(r, piece % 8),
               there ? view.q + view.head_row(p, row) * p.head_size + piece * kEach : view.q,
               there);
  }
  commit_copies();
  wait_for_copies<0>();
  publish_tiles();
}

}  // namespace verbatim::cuda
