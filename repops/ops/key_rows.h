// Where keys and values lie, as plain memory: what the reference and a backend's kernels both take.
#pragma once

#include <cstdint>

namespace verbatim {

// The row of a tensor of keys, or of values, that is key i of a sequence. Rows are counted over the
// whole tensor. A sequence's lie one after another from `first` on, or, as in Kwon et al.,
// "PagedAttention" (arXiv 2309.06180), in pages of a pool that sequences share.
struct KeyRows {
  int64_t first = 0;
  const int64_t* pages = nullptr;  // the sequence's, in order; null: none, and `first` counts
  int64_t page_size = 0;           // rows of a page

  int64_t operator[](int64_t i) const {
    return pages == nullptr ? first + i : pages[i / page_size] * page_size + i % page_size;
  }
};

}  // namespace verbatim
