#include <verbatim/core/tensor_codec.h>

#include <verbatim/core/tensor_root.h>

namespace verbatim {

void write_dtype(Writer& w, DType dtype) { w.u8(static_cast<uint8_t>(dtype)); }

Result<DType> read_dtype(Reader& r) {
  VB_ASSIGN(const uint8_t n, r.u8());
  const DType dtype = dtype_from_onnx(n);
  if (dtype == DType::undefined) return r.fail("unknown element type " + std::to_string(n));
  return dtype;
}

void write_dims(Writer& w, std::span<const int64_t> dims) {
  w.u8(static_cast<uint8_t>(dims.size()));
  for (const int64_t d : dims) w.i64(d);
}

Result<std::vector<int64_t>> read_dims(Reader& r) {
  VB_ASSIGN(const uint8_t rank, r.u8());
  if (rank > kMaxRank) return r.fail("rank " + std::to_string(rank));
  std::vector<int64_t> dims(rank);
  for (int64_t& d : dims) {
    VB_ASSIGN(d, r.i64());
  }
  return dims;
}

void write_shape(Writer& w, const Shape& shape) { write_dims(w, shape.dims()); }

Result<Shape> read_shape(Reader& r) {
  VB_ASSIGN(const std::vector<int64_t> dims, read_dims(r));
  const Result<Shape> shape = Shape::of(dims);
  if (!shape.ok()) return r.fail(shape.status().message());
  return *shape;
}

void write_tensor(Writer& w, const Tensor& t) {
  write_dtype(w, t.dtype());
  write_shape(w, t.shape());
  w.blob(little_endian_bytes(t));
}

Result<Tensor> read_tensor(Reader& r, size_t max_bytes) {
  VB_ASSIGN(const DType dtype, read_dtype(r));
  VB_ASSIGN(const Shape shape, read_shape(r));
  VB_ASSIGN(const ByteView bytes, r.blob(max_bytes));
  Result<Tensor> tensor = tensor_from_little_endian(dtype, shape, bytes);
  if (!tensor.ok()) return r.fail(tensor.status().message());
  return tensor;
}

}  // namespace verbatim
