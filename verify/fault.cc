#include <verbatim/verify/fault.h>

#include <charconv>
#include <string>

#include <verbatim/core/codec.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {

Result<Fault> parse_fault(std::string_view text) {
  int64_t parts[4];
  std::string_view rest = text;
  for (int i = 0; i < 4; ++i) {
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), parts[i]);
    const auto used = static_cast<size_t>(end - rest.data());
    const bool last = i == 3;
    if (error != std::errc() || parts[i] < 0 ||
        (last ? used != rest.size() : used >= rest.size() || rest[used] != ':'))
      return usage_error("fault '" + printable(text) + "' is not STEP:NODE:ELEMENT:BIT");
    rest.remove_prefix(last ? used : used + 1);
  }
  if (parts[1] > INT32_MAX || parts[3] > 63)
    return usage_error("fault '" + printable(text) + "' has no such node or bit");
  return Fault{static_cast<uint64_t>(parts[0]), static_cast<int32_t>(parts[1]), parts[2],
               static_cast<int>(parts[3])};
}

Result<Tensor> flip_bit(const Tensor& tensor, int64_t element, int bit) {
  const int width = bit_width(tensor.dtype());
  if (element < 0 || element >= tensor.elements() || bit < 0 || bit >= width)
    return usage_error("the fault's element or bit does not exist in " + tensor.describe());
  // Through one row's little-endian bytes, so that a bit has the same meaning on every machine.
  VB_ASSIGN(const Tensor row, tensor.reshaped(Shape{tensor.elements()}));
  Bytes bytes = little_endian_bytes(row);
  const uint64_t at =
      static_cast<uint64_t>(element) * static_cast<uint64_t>(width) + static_cast<uint64_t>(bit);
  bytes[at / 8] ^= std::byte{1} << (at % 8);
  VB_ASSIGN(const Tensor flipped, tensor_from_little_endian(row.dtype(), row.shape(), bytes));
  return flipped.reshaped(tensor.shape());
}

}  // namespace verbatim
