#include <verbatim/core/buffers.h>

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>
#include <new>
#include <utility>

namespace verbatim {
namespace {

constexpr std::align_val_t kAlignment{64};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kMostKept = 0;  // a use after the end has to be seen
#else
constexpr size_t kMostKept = size_t{1} << 30;
#endif

// Sizes come in eight steps for each power of two, so that at most an eighth is wasted. 64 bytes
// more than asked for: kernels may read a whole register at the end of a row.
size_t rounded_size(size_t bytes) {
  bytes += 64;
  const size_t step = std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

// Rounded sizes have numbers, in ascending order.
constexpr size_t kClasses = 8 * 64;
size_t class_of(size_t size) {
  const size_t floor = std::bit_floor(size);
  return 8 * static_cast<size_t>(std::bit_width(size) - 1) + (size - floor) / (floor / 8);
}

// Stands in each buffer that is kept: a list for each class, which takes no memory besides.
struct Kept {
  Kept* next;
  size_t size;
};

class Buffers {
 public:
  void* take(size_t size) {
    {
      const std::lock_guard lock(mutex_);
      statistics_.in_use += size;
      most_in_use_ = std::max(most_in_use_, statistics_.in_use);
      Kept*& first = kept_[class_of(size)];
      if (first != nullptr) return pop(first);
      ++statistics_.from_system;
    }
    void* buffer = ::operator new(size, kAlignment, std::nothrow);
    if (buffer == nullptr) {
      drop_down_to(0);
      buffer = ::operator new(size, kAlignment, std::nothrow);
    }
    if (buffer == nullptr) {
      const std::lock_guard lock(mutex_);
      statistics_.in_use -= size;
    }
    return buffer;
  }

  void give_back(void* buffer, size_t size) {
    {
      const std::lock_guard lock(mutex_);
      statistics_.in_use -= size;
      if (statistics_.kept + size <= std::min(most_kept_, most_in_use_)) {
        Kept*& first = kept_[class_of(size)];
        first = new (buffer) Kept{first, size};
        statistics_.kept += size;
        return;
      }
    }
    ::operator delete(buffer, kAlignment);
  }

  void set_most(size_t most) {
    {
      const std::lock_guard lock(mutex_);
      most_kept_ = most;
    }
    drop_down_to(most);
  }

  BufferStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

 private:
  Kept* pop(Kept*& first) {
    Kept* const buffer = first;
    first = buffer->next;
    statistics_.kept -= buffer->size;
    return buffer;
  }

  // The largest go first.
  void drop_down_to(size_t most) {
    Kept* dropped = nullptr;
    {
      const std::lock_guard lock(mutex_);
      for (size_t i = kClasses; i-- > 0;) {
        while (kept_[i] != nullptr && statistics_.kept > most) {
          Kept* const buffer = pop(kept_[i]);
          buffer->next = dropped;
          dropped = buffer;
        }
      }
    }
    while (dropped != nullptr) ::operator delete(std::exchange(dropped, dropped->next), kAlignment);
  }

  std::mutex mutex_;
  std::array<Kept*, kClasses> kept_{};
  BufferStatistics statistics_;
  size_t most_in_use_ = 0, most_kept_ = kMostKept;
};

// Never destroyed: tensors with static storage may outlive any order of destruction.
Buffers& buffers() {
  static Buffers& all = *new Buffers;
  return all;
}

}  // namespace

void* take_buffer(size_t bytes) { return buffers().take(rounded_size(bytes)); }
void give_back_buffer(void* buffer, size_t bytes) {
  buffers().give_back(buffer, rounded_size(bytes));
}
BufferStatistics buffer_statistics() { return buffers().statistics(); }
void set_kept_buffer_bytes(size_t most) { buffers().set_most(most); }

}  // namespace verbatim
