#include <verbatim/core/tensor.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <verbatim/core/buffers.h>

namespace verbatim {
namespace {
// Where addresses have 32 bits, a quarter of them.
constexpr uint64_t kMostBytes = uint64_t{16} << 30;
size_t g_max_tensor_bytes = kMostBytes <= SIZE_MAX ? static_cast<size_t>(kMostBytes) : SIZE_MAX / 4;
thread_local AllocationGuard* t_guard = nullptr;
}  // namespace

size_t max_tensor_bytes() { return g_max_tensor_bytes; }
void set_max_tensor_bytes(size_t bytes) { g_max_tensor_bytes = bytes; }

AllocationGuard::AllocationGuard() : outer_(std::exchange(t_guard, this)) {}
AllocationGuard::~AllocationGuard() { t_guard = outer_; }

Result<Tensor> Tensor::allocate(DeviceMemory* device, DType dtype, const Shape& shape,
                                Purpose purpose) {
  if (size_of(dtype) == 0) return internal_error("tensor of undefined type");
  VB_ASSIGN(const int64_t bytes,
            checked_multiply(shape.elements(), static_cast<int64_t>(size_of(dtype))));
  if (static_cast<uint64_t>(bytes) > g_max_tensor_bytes)
    return over_limit("tensor " + std::string(name_of(dtype)) + " " + shape.to_string() +
                      " needs " + std::to_string(bytes) + " bytes, above the limit of " +
                      std::to_string(g_max_tensor_bytes));
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = shape;
  std::shared_ptr<const void> lease;
  if (t_guard != nullptr) {
    VB_ASSIGN(lease, t_guard->admit(t, purpose));
  }
  const auto size = static_cast<size_t>(bytes);
  void* memory = device != nullptr ? device->take(size) : take_buffer(size);
  if (memory == nullptr)
    return over_limit(std::string("out of ") + (device != nullptr ? "the device's " : "") +
                      "memory for " + std::to_string(bytes) + " bytes");
  t.data_ = static_cast<const std::byte*>(memory);
  t.device_ = device;
  t.owner_ = std::shared_ptr<const void>(memory, [size, device, lease = std::move(lease)](void* p) {
    if (device != nullptr)
      device->give_back(p, size);
    else
      give_back_buffer(p, size);
  });
  return t;
}

Result<Tensor> Tensor::allocate(DType dtype, const Shape& shape, Purpose purpose) {
  return allocate(nullptr, dtype, shape, purpose);
}

Result<Tensor> Tensor::allocate_on(DeviceMemory& device, DType dtype, const Shape& shape,
                                   Purpose purpose) {
  return allocate(&device, dtype, shape, purpose);
}

Result<Tensor> Tensor::allocate_beside(const Shape& shape) const {
  return allocate(device_, dtype_, shape, Purpose::result);
}

Result<Tensor> Tensor::copied_to(DeviceMemory& device) const {
  VB_ASSIGN(Tensor t, allocate_on(device, dtype_, shape_, Purpose::scratch));
  VB_TRY(device.copy_from_host(t.mutable_address(), bytes().data(), byte_size()));
  return t;
}

Result<Tensor> Tensor::on_host() const {
  if (device_ == nullptr) return *this;
  VB_ASSIGN(Tensor t, allocate(dtype_, shape_, Purpose::scratch));
  VB_TRY(device_->copy_to_host(t.mutable_bytes().data(), data_, byte_size()));
  return t;
}

Result<Tensor> Tensor::zeros(DType dtype, const Shape& shape, Purpose purpose) {
  VB_ASSIGN(Tensor t, allocate(dtype, shape, purpose));
  if (t.byte_size() > 0) std::memset(t.mutable_bytes().data(), 0, t.byte_size());
  return t;
}

Result<Tensor> Tensor::allocate(DType dtype, std::initializer_list<int64_t> dims, Purpose purpose) {
  VB_ASSIGN(const Shape shape, Shape::of({dims.begin(), dims.size()}));
  return allocate(dtype, shape, purpose);
}

Result<Tensor> Tensor::zeros(DType dtype, std::initializer_list<int64_t> dims, Purpose purpose) {
  VB_ASSIGN(const Shape shape, Shape::of({dims.begin(), dims.size()}));
  return zeros(dtype, shape, purpose);
}

Result<Tensor> Tensor::borrow(DType dtype, const Shape& shape, std::span<const std::byte> bytes,
                              std::shared_ptr<const void> owner) {
  VB_ASSIGN(const int64_t need,
            checked_multiply(shape.elements(), static_cast<int64_t>(size_of(dtype))));
  if (static_cast<int64_t>(bytes.size()) != need)
    return bad_input(std::to_string(bytes.size()) + " bytes for " + std::string(name_of(dtype)) +
                     " " + shape.to_string());
  if (is_sub_byte(dtype)) return internal_error("borrowed elements of less than a byte");
  if (reinterpret_cast<uintptr_t>(bytes.data()) % size_of(dtype) != 0)
    return internal_error("borrowed tensor is not aligned");
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = shape;
  t.data_ = bytes.data();
  t.owner_ = std::move(owner);
  return t;
}

Result<Tensor> Tensor::reshaped(const Shape& shape) const {
  if (shape.elements() != elements())
    return bad_input("cannot view " + describe() + " as " + shape.to_string());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

std::string Tensor::describe() const {
  return std::string(name_of(dtype_)) + " " + shape_.to_string();
}

bool identical(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.byte_size() == 0 ||
          std::memcmp(a.bytes().data(), b.bytes().data(), a.byte_size()) == 0);
}

void tensor_not_on_host() {
  std::fputs("verbatim: bug: a tensor in a device's memory was read by the host\n", stderr);
  std::abort();
}

void tensor_type_mismatch(DType have, DType want) {
  std::fprintf(stderr, "verbatim: bug: a %s tensor was read as %s\n", name_of(have).data(),
               name_of(want).data());
  std::abort();
}

}  // namespace verbatim
