// libFuzzer target for transcripts: parsed, and judged where they end with a verdict.
#include <verbatim/verify/dispute.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace verbatim;
  const ByteView input(reinterpret_cast<const std::byte*>(data), size);
  const Result<Transcript> transcript = Transcript::parse(input, "fuzz");
  if (transcript.ok() && transcript->verdict()) (void)judge(*transcript);
  return 0;
}
