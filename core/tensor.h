// A dense row-major array. Copies share storage; whoever allocated a tensor may write it until it
// hands it on. Its elements lie in the host's memory or in a device's, which the host cannot read:
// a backend may return such tensors, and on_host() copies.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <verbatim/core/dtype.h>
#include <verbatim/core/shape.h>
#include <verbatim/core/status.h>

namespace verbatim {

// What a tensor is for: an operator's result, or memory that one way to compute it takes and
// another may do without.
enum class Purpose : uint8_t { result, scratch };

struct Digest;
class Tensor;

// Roots that a device is computing, beside what it is told next. They hold the tensors for as long
// as they live; whoever wants them no more lets go of them, which waits too.
class PendingRoots {
 public:
  virtual ~PendingRoots() = default;
  // In the order of the tensors. Once, or again after an error.
  virtual Result<std::vector<Digest>> wait() = 0;
};

// The memory of a device. It lives as long as the process, and is safe from any thread. What is
// copied is complete when the copy returns, and everything that the device was told to do with it
// before is done then.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* take(size_t bytes) = 0;  // null where memory is refused
  virtual void give_back(void* memory, size_t bytes) = 0;
  virtual Status copy_to_host(void* host, const void* device, size_t bytes) = 0;
  virtual Status copy_from_host(void* device, const void* host, size_t bytes) = 0;
  // Within the device. For each index of `dims`, row-major: an element of `width` bytes (1, 2, 4 or
  // 8), both operands under strides, in elements.
  virtual Status copy_strided(size_t width, std::span<const int64_t> dims, void* to,
                              std::span<const int64_t> to_strides, const void* from,
                              std::span<const int64_t> from_strides) = 0;
  // Blocks of `bytes` from these offsets, in bytes, one after the other.
  virtual Status copy_blocks(void* to, const void* from, size_t bytes,
                             std::span<const int64_t> offsets) = 0;
  // Begins merkle_root() over the leaves of each of these (tensor_root.h), which lie here, have
  // elements, and those have whole bytes: of what is in them once all is done that the device was
  // told before. Errors: limit, where there is no room for it.
  virtual Result<std::unique_ptr<PendingRoots>> begin_leaf_roots(
      std::span<const Tensor> tensors) = 0;
};

[[noreturn]] void tensor_not_on_host();

class Tensor {
 public:
  Tensor() = default;  // undefined: stands for an optional input that is absent

  // Uninitialised storage, aligned to 64 bytes. Errors: more than max_tensor_bytes(), or memory
  // refused.
  static Result<Tensor> allocate(DType dtype, const Shape& shape,
                                 Purpose purpose = Purpose::result);
  static Result<Tensor> zeros(DType dtype, const Shape& shape, Purpose purpose = Purpose::result);
  // The same where the dimensions may come from outside: an error, not an end, if they are no
  // shape.
  static Result<Tensor> allocate(DType dtype, std::initializer_list<int64_t> dims,
                                 Purpose purpose = Purpose::result);
  static Result<Tensor> zeros(DType dtype, std::initializer_list<int64_t> dims,
                              Purpose purpose = Purpose::result);
  // The same in a device's memory; and a copy there of a tensor on the host.
  static Result<Tensor> allocate_on(DeviceMemory& device, DType dtype, const Shape& shape,
                                    Purpose purpose = Purpose::result);
  Result<Tensor> copied_to(DeviceMemory& device) const;
  // Uninitialised, where this tensor's elements lie: on the host or the same device.
  Result<Tensor> allocate_beside(const Shape& shape) const;
  // Borrows `bytes` (in host byte order), kept valid by `owner`: a mapped file, a caller's array.
  // Not for sub-byte types, whose elements lie packed where they come from: those are copied.
  static Result<Tensor> borrow(DType dtype, const Shape& shape, std::span<const std::byte> bytes,
                               std::shared_ptr<const void> owner);
  // A copy of `values`, whose count must be the shape's.
  template <class T>
  static Result<Tensor> from(const Shape& shape, std::span<const T> values);
  template <class T>
  static Result<Tensor> scalar(T value) {
    return from<T>(Shape{}, std::span<const T>(&value, 1));
  }

  bool defined() const { return dtype_ != DType::undefined; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t elements() const { return shape_.elements(); }
  size_t byte_size() const { return static_cast<size_t>(elements()) * size_of(dtype_); }

  // Null: on the host.
  DeviceMemory* device() const { return device_; }
  // Of the first element, wherever that is.
  const std::byte* address() const { return data_; }
  std::byte* mutable_address() { return const_cast<std::byte*>(data_); }
  // Itself, or a copy on the host of what lies on a device.
  Result<Tensor> on_host() const;

  // T must be the dtype's own C++ type, and the elements on the host, as they must be for bytes().
  template <class T>
  std::span<const T> data() const;
  template <class T>
  std::span<T> mutable_data();
  std::span<const std::byte> bytes() const {
    if (device_ != nullptr) tensor_not_on_host();
    return {data_, byte_size()};
  }
  std::span<std::byte> mutable_bytes() {
    const std::span<const std::byte> view = bytes();
    return {const_cast<std::byte*>(view.data()), view.size()};
  }

  // The same storage under another shape with as many elements.
  Result<Tensor> reshaped(const Shape& shape) const;

  std::string describe() const;  // "float32 [2, 3]"

 private:
  static Result<Tensor> allocate(DeviceMemory* device, DType dtype, const Shape& shape,
                                 Purpose purpose);

  DType dtype_ = DType::undefined;
  Shape shape_;
  const std::byte* data_ = nullptr;
  DeviceMemory* device_ = nullptr;
  std::shared_ptr<const void> owner_;
};

// Largest tensor that allocate() grants; 16 GiB unless set. Guards against hostile shapes. Set it
// before threads start.
size_t max_tensor_bytes();
void set_max_tensor_bytes(size_t bytes);

// Asked before each allocation on the thread that made it, while it lives: bounds what hostile
// shapes and attributes may make an operator do. The latest made on a thread counts; they end in
// the reverse order.
class AllocationGuard {
 public:
  AllocationGuard();
  virtual ~AllocationGuard();
  AllocationGuard(const AllocationGuard&) = delete;
  AllocationGuard& operator=(const AllocationGuard&) = delete;
  // `tensor` has no storage yet: its type and shape alone may be looked at. What is returned (null
  // too) is released when the storage is: so it can be counted. An error is allocate()'s.
  virtual Result<std::shared_ptr<const void>> admit(const Tensor& tensor, Purpose purpose) = 0;

 private:
  AllocationGuard* outer_;
};

// Same dtype, shape and bytes (NaN payloads and signed zeros included).
bool identical(const Tensor& a, const Tensor& b);

[[noreturn]] void tensor_type_mismatch(DType have, DType want);

template <class T>
std::span<const T> Tensor::data() const {
  if (dtype_of<T>() != dtype_) tensor_type_mismatch(dtype_, dtype_of<T>());
  if (device_ != nullptr) tensor_not_on_host();
  return {reinterpret_cast<const T*>(data_), static_cast<size_t>(elements())};
}

template <class T>
std::span<T> Tensor::mutable_data() {
  const std::span<const T> view = data<T>();
  return {const_cast<T*>(view.data()), view.size()};
}

template <class T>
Result<Tensor> Tensor::from(const Shape& shape, std::span<const T> values) {
  if (static_cast<int64_t>(values.size()) != shape.elements())
    return bad_input(std::to_string(values.size()) + " values for shape " + shape.to_string());
  VB_ASSIGN(Tensor t, allocate(dtype_of<T>(), shape));
  std::span<T> out = t.mutable_data<T>();
  for (size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return t;
}

}  // namespace verbatim
