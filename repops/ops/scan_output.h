// The elements that the trips of a Loop or a Scan give for one output, stacked as they come.
#pragma once

#include <verbatim/core/tensor.h>

namespace verbatim {

class ScanOutput {
 public:
  // Copies the element. Its type and shape must be the first one's.
  Status append(const Tensor& element);
  // All elements along a new axis `axis` (-r to r - 1 of the result's rank r), the last one first
  // where `reverse`. There must be one.
  Result<Tensor> stack(int64_t axis, bool reverse) const;
  bool empty() const { return count_ == 0; }

 private:
  Status grow(int64_t capacity);
  DType dtype_ = DType::undefined;
  Shape element_;
  Tensor elements_;  // [capacity, elements of an element]
  int64_t count_ = 0;
};

// The elements of `t` whose index along `axis` is `position`: a tensor of one dimension less.
Result<Tensor> slice_of(const Tensor& t, int axis, int64_t position);

}  // namespace verbatim
