#include <verbatim/core/buffers.h>

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace verbatim {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr size_t kLeastKept = size_t{1} << 14;  // below, the system's own allocator is as good
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kMostKept = 0;  // a use after the end has to be seen
#else
constexpr size_t kMostKept = size_t{1} << 30;
#endif

// Sizes come in eight steps for each power of two, so that at most an eighth is wasted. 64 bytes
// more than asked for: kernels may read a whole register at the end of a row.
size_t rounded_size(size_t bytes) {
  bytes += 64;
  if (bytes < kLeastKept) return bytes;
  const size_t step = std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

class Buffers {
 public:
  void* take(size_t size) {
    {
      const std::lock_guard lock(mutex_);
      statistics_.in_use += size;
      most_in_use_ = std::max(most_in_use_, statistics_.in_use);
      if (const auto it = kept_.find(size); it != kept_.end()) {
        void* buffer = it->second.back();
        it->second.pop_back();
        if (it->second.empty()) kept_.erase(it);
        statistics_.kept -= size;
        return buffer;
      }
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
      if (size >= kLeastKept && statistics_.kept + size <= std::min(most_kept_, most_in_use_)) {
        kept_[size].push_back(buffer);
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
  // The largest go first.
  void drop_down_to(size_t most) {
    std::vector<void*> dropped;
    {
      const std::lock_guard lock(mutex_);
      while (statistics_.kept > most) {
        const auto last = std::prev(kept_.end());
        dropped.push_back(last->second.back());
        statistics_.kept -= last->first;
        last->second.pop_back();
        if (last->second.empty()) kept_.erase(last);
      }
    }
    for (void* buffer : dropped) ::operator delete(buffer, kAlignment);
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> kept_;  // by size
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
