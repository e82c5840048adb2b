// libFuzzer target for task files: what is accepted encodes to the same bytes and has an id.
#include <verbatim/verify/task.h>

#include <algorithm>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace verbatim;
  const ByteView input(reinterpret_cast<const std::byte*>(data), size);
  const Result<Task> task = decode_task(input, "fuzz");
  if (!task.ok()) return 0;
  if (!std::ranges::equal(encode_task(*task), input)) std::abort();
  (void)task_id(*task);
  (void)recorded_values(task->program);
  return 0;
}
