// libFuzzer target for what travels in a dispute. The first byte says which: 0 a request, 1 a
// reply, 2 a verdict.
#include <verbatim/verify/protocol.h>
#include <verbatim/verify/verdict.h>

#include <algorithm>
#include <cstdlib>

namespace {

using namespace verbatim;

template <class T>
void require_canonical(const Result<T>& value, Bytes (*encode)(const T&), ByteView input) {
  if (value.ok() && !std::ranges::equal(encode(*value), input)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteView input(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  if (data[0] == 0) require_canonical(decode_request(input, "fuzz"), encode_request, input);
  if (data[0] == 1) require_canonical(decode_reply(input, "fuzz"), encode_reply, input);
  if (data[0] == 2) {
    const Result<Verdict> verdict = decode_verdict(input, "fuzz");
    require_canonical(verdict, encode_verdict, input);
    if (verdict.ok()) (void)explain(*verdict, {});
  }
  return 0;
}
