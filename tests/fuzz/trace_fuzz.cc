// libFuzzer target for stored traces: four bytes say how long the index is, the rest is the data.
// Every record is read, and the trace compared with itself.
#include <verbatim/verify/trace.h>

#include <algorithm>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace verbatim;
  if (size < 4) return 0;
  const ByteView input(reinterpret_cast<const std::byte*>(data) + 4, size - 4);
  const size_t index =
      std::min<size_t>(load_le<uint32_t>(reinterpret_cast<const std::byte*>(data)), input.size());
  const Result<TraceReader> trace =
      TraceReader::parse(input.first(index), input.subspan(index), "fuzz");
  if (!trace.ok()) return 0;
  for (size_t i = 0; i < trace->size(); ++i) {
    const Result<TraceRecord> record = trace->record(i);
    if (record.ok()) (void)trace->tensor(*record);
  }
  const Result<TraceDiff> diff = trace_diff(*trace, *trace, {});
  if (diff.ok() && !diff->equal) std::abort();
  return 0;
}
