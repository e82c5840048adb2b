// Memory for tensors. What one gives back is kept for the next of about the same size: a page that
// the system hands out costs more than writing it, and a program that runs step after step asks for
// the same sizes each time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace verbatim {

// At least `bytes`, uninitialised, aligned to 64 bytes; null where memory is refused. Safe from any
// thread.
void* take_buffer(size_t bytes);
void give_back_buffer(void* buffer, size_t bytes);  // with the bytes it was taken with

struct BufferStatistics {
  uint64_t from_system = 0;     // buffers that the system had to give
  size_t in_use = 0, kept = 0;  // bytes
};
BufferStatistics buffer_statistics();

// Most bytes that are kept; 1 GiB unless set, and never more than are or were in use at once: what
// was given back longest ago goes first. 0 keeps nothing.
void set_kept_buffer_bytes(size_t most);

}  // namespace verbatim
