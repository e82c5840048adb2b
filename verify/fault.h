// A wrong bit on purpose: `--inject-fault STEP:NODE:ELEMENT:BIT`.
#pragma once

#include <cstdint>
#include <string_view>

#include <verbatim/core/tensor.h>

namespace verbatim {

struct Fault {
  uint64_t step = 0;
  int32_t node = 0;     // topological index
  int64_t element = 0;  // flat index in the node's first output
  int bit = 0;          // 0 is the least significant
};
// "0:87:3:22"
Result<Fault> parse_fault(std::string_view text);

// A copy of `tensor` with one bit flipped. Errors: no such element or bit.
Result<Tensor> flip_bit(const Tensor& tensor, int64_t element, int bit);

}  // namespace verbatim
