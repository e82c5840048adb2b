// safetensors files: any bytes give tensors or an error, and what is accepted covers the file without gaps.
#include <cstdint>
#include <cstdlib>

#include <verbatim/repops/models/safetensors.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const verbatim::ByteView bytes{reinterpret_cast<const std::byte*>(data), size};
  const auto tensors = verbatim::parse_safetensors(bytes, "fuzz", nullptr);
  if (!tensors.ok()) return 0;
  size_t total = 0;
  for (const auto& [name, tensor] : *tensors) total += tensor.byte_size();
  if (total > size) std::abort();
  return 0;
}
