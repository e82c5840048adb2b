#include <verbatim/repops/ops/scan_output.h>

#include <algorithm>

#include <verbatim/repops/ops/copy.h>

namespace verbatim {
namespace {

// How a tensor is cut along an axis: [outer, axis, inner bytes].
struct Cut {
  int64_t outer, inner_bytes;
  Cut(const Tensor& t, int axis)
      : outer(t.shape().elements(0, axis)),
        inner_bytes(t.shape().elements(axis + 1, t.rank()) *
                    static_cast<int64_t>(size_of(t.dtype()))) {}
};

// copy(offset in t, offset in the slice, bytes) for each run of bytes of the slice at `position`.
template <class Copy>
void each_run(const Tensor& t, int axis, int64_t position, Copy&& copy) {
  const Cut cut(t, axis);
  if (cut.inner_bytes == 0) return;
  for (int64_t i = 0; i < cut.outer; ++i)
    copy((i * t.dim(axis) + position) * cut.inner_bytes, i * cut.inner_bytes, cut.inner_bytes);
}

}  // namespace

Status ScanOutput::append(const Tensor& element) {
  if (count_ == 0) {
    dtype_ = element.dtype();
    element_ = element.shape();
    VB_TRY(grow(1));
  }
  if (element.dtype() != dtype_ || !(element.shape() == element_))
    return bad_input("is " + element.describe() + " in trip " + std::to_string(count_) + ", was " +
                     std::string(name_of(dtype_)) + " " + element_.to_string());
  if (count_ == elements_.dim(0)) VB_TRY(grow(2 * count_));
  VB_ASSIGN(const Tensor here, element.on_host());
  const auto size = static_cast<int64_t>(here.byte_size());
  copy_bytes(elements_.mutable_bytes().data() + count_ * size, here.bytes().data(), size);
  ++count_;
  return {};
}

Status ScanOutput::grow(int64_t capacity) {
  const int64_t dims[] = {capacity, element_.elements()};
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor larger, Tensor::allocate(dtype_, shape));
  if (elements_.defined())
    copy_bytes(larger.mutable_bytes().data(), elements_.bytes().data(),
               static_cast<int64_t>(elements_.byte_size()));
  elements_ = std::move(larger);
  return {};
}

Result<Tensor> ScanOutput::stack(int64_t axis, bool reverse) const {
  std::vector<int64_t> dims(element_.dims().begin(), element_.dims().end());
  if (dims.size() == static_cast<size_t>(kMaxRank))
    return over_limit("an output of rank " + std::to_string(kMaxRank + 1));
  const auto rank = static_cast<int64_t>(dims.size()) + 1;
  if (axis < -rank || axis >= rank)
    return bad_input("axis " + std::to_string(axis) + " of an output of rank " +
                     std::to_string(rank));
  const auto at = static_cast<int>(axis < 0 ? axis + rank : axis);
  dims.insert(dims.begin() + at, count_);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  if (at == 0 && !reverse && elements_.dim(0) == count_) return elements_.reshaped(shape);
  VB_ASSIGN(Tensor y, Tensor::allocate(dtype_, shape));
  const auto size = element_.elements() * static_cast<int64_t>(size_of(dtype_));
  std::byte* out = y.mutable_bytes().data();
  for (int64_t t = 0; t < count_; ++t) {
    const std::byte* element = elements_.bytes().data() + (reverse ? count_ - 1 - t : t) * size;
    each_run(y, at, t, [&](int64_t in_y, int64_t in_element, int64_t bytes) {
      copy_bytes(out + in_y, element + in_element, bytes);
    });
  }
  return y;
}

Result<Tensor> slice_of(const Tensor& t, int axis, int64_t position) {
  std::vector<int64_t> dims = dims_of(t);
  dims.erase(dims.begin() + axis);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor slice, t.allocate_beside(shape));
  const Strides dense = strides_of(t.shape());
  View view{.strides = {}, .offset = position * dense[axis]};
  for (int i = 0; i < shape.rank(); ++i) view.strides[i] = dense[i < axis ? i : i + 1];
  VB_TRY(copy_strided(shape, slice, {strides_of(shape), 0}, t, view));
  return slice;
}

}  // namespace verbatim
