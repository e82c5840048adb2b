// Replay files, and with them graphs and programs: what is accepted encodes to the same bytes again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include <verbatim/repops/replay.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const verbatim::ByteView bytes{reinterpret_cast<const std::byte*>(data), size};
  const auto replay = verbatim::decode_replay(bytes, "fuzz");
  if (!replay.ok()) return 0;
  const verbatim::Bytes again = verbatim::encode_replay(*replay);
  if (again.size() != size || !std::equal(again.begin(), again.end(), bytes.begin())) std::abort();
  return 0;
}
