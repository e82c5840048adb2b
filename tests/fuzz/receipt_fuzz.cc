// libFuzzer target for receipts: what is accepted encodes to the same bytes and can be validated.
#include <verbatim/verify/receipt.h>

#include <algorithm>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace verbatim;
  const ByteView input(reinterpret_cast<const std::byte*>(data), size);
  const Result<Receipt> receipt = decode_receipt(input, "fuzz");
  if (!receipt.ok()) return 0;
  if (!std::ranges::equal(encode_receipt(*receipt), input)) std::abort();
  (void)validate_receipt(*receipt);
  return 0;
}
