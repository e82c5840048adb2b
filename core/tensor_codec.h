// Element types, shapes and tensors in canonical bytes (docs/formats.md): the one codec that
// programs, tasks, messages, verdicts, traces and replay files share.
#pragma once

#include <span>
#include <vector>

#include <verbatim/core/codec.h>
#include <verbatim/core/tensor.h>

namespace verbatim {

// u8: ONNX's number of the type.
void write_dtype(Writer& w, DType dtype);
Result<DType> read_dtype(Reader& r);  // refuses "undefined" and unknown types

// u8 rank, i64 dimensions. read_dims() checks the rank alone, so -1 may stand for any size;
// read_shape() gives a shape that exists.
void write_dims(Writer& w, std::span<const int64_t> dims);
Result<std::vector<int64_t>> read_dims(Reader& r);
void write_shape(Writer& w, const Shape& shape);
Result<Shape> read_shape(Reader& r);

// dtype, shape, blob of canonical bytes (tensor_root.h), of which there may be at most `max_bytes`;
// elements of less than a byte take up to four times that in memory.
void write_tensor(Writer& w, const Tensor& tensor);
Result<Tensor> read_tensor(Reader& r, size_t max_bytes);

}  // namespace verbatim
