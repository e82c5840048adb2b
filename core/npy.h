// Tensors in NumPy's .npy files (format 1.0 to 3.0, C order, either byte order on reading;
// little-endian 1.0 on writing). bfloat16, which numpy lacks, is written as '<V2' and read from it.
#pragma once

#include <string>

#include <verbatim/core/codec.h>
#include <verbatim/core/tensor.h>

namespace verbatim {

// The name of a value's file: values may be called anything, so that what is neither letter, digit,
// '.', '-' nor '_' becomes '_'. Different names may give one file name.
std::string npy_file_name(const std::string& value);

Result<Tensor> parse_npy(ByteView bytes, const std::string& source);
Result<Tensor> read_npy(const std::string& path);
// Errors: unsupported for fp8, which the format has no name for.
Result<Bytes> encode_npy(const Tensor& tensor);
Status write_npy(const std::string& path, const Tensor& tensor);

}  // namespace verbatim
