// .npy files: any bytes give a tensor or an error; a tensor that was read writes and reads back as itself.
#include <cstdint>
#include <cstdlib>

#include <verbatim/core/npy.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const verbatim::ByteView bytes{reinterpret_cast<const std::byte*>(data), size};
  const auto tensor = verbatim::parse_npy(bytes, "fuzz");
  if (!tensor.ok()) return 0;
  const auto again = verbatim::parse_npy(*verbatim::encode_npy(*tensor), "again");
  if (!again.ok() || !verbatim::identical(*tensor, *again)) std::abort();
  return 0;
}
