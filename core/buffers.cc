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

// Stands in each buffer that is kept, so that keeping takes no memory besides.
struct Kept;
struct Links {
  Kept *newer = nullptr, *older = nullptr;
};
struct Kept {
  size_t size;
  Links in_class, in_all;
};
static_assert(sizeof(Kept) <= 64);

// Kept buffers by the time when they were given back.
template <Links Kept::*kLinks>
class ByTime {
 public:
  Kept* newest() const { return newest_; }
  Kept* oldest() const { return oldest_; }
  void add(Kept* k) {
    (k->*kLinks) = {nullptr, newest_};
    (newest_ != nullptr ? (newest_->*kLinks).newer : oldest_) = k;
    newest_ = k;
  }
  void remove(Kept* k) {
    const auto [newer, older] = k->*kLinks;
    (newer != nullptr ? (newer->*kLinks).older : newest_) = older;
    (older != nullptr ? (older->*kLinks).newer : oldest_) = newer;
  }

 private:
  Kept *newest_ = nullptr, *oldest_ = nullptr;
};

class Buffers {
 public:
  void* take(size_t size) {
    {
      const std::lock_guard lock(mutex_);
      statistics_.in_use += size;
      most_in_use_ = std::max(most_in_use_, statistics_.in_use);
      if (Kept* const kept = classes_[class_of(size)].newest(); kept != nullptr) {
        remove(kept);
        return kept;
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

  // Those that nobody wanted for longest make room for it.
  void give_back(void* buffer, size_t size) {
    auto* const kept = new (buffer) Kept{size, {}, {}};
    Kept* dropped = kept;
    {
      const std::lock_guard lock(mutex_);
      statistics_.in_use -= size;
      const size_t most = std::min(most_kept_, most_in_use_);
      if (size <= most) {  // one that is larger would drive out all others, and then itself
        classes_[class_of(size)].add(kept);
        all_.add(kept);
        statistics_.kept += size;
        dropped = oldest_above(most);
      }
    }
    release(dropped);
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
  void remove(Kept* kept) {
    classes_[class_of(kept->size)].remove(kept);
    all_.remove(kept);
    statistics_.kept -= kept->size;
  }

  // Takes out the oldest until no more than `most` bytes are kept: a list by `older`.
  Kept* oldest_above(size_t most) {
    Kept* dropped = nullptr;
    while (statistics_.kept > most) {
      Kept* const oldest = all_.oldest();
      remove(oldest);
      oldest->in_all.older = dropped;
      dropped = oldest;
    }
    return dropped;
  }
  static void release(Kept* dropped) {
    while (dropped != nullptr)
      ::operator delete(std::exchange(dropped, dropped->in_all.older), kAlignment);
  }
  void drop_down_to(size_t most) {
    Kept* dropped;
    {
      const std::lock_guard lock(mutex_);
      dropped = oldest_above(most);
    }
    release(dropped);
  }

  std::mutex mutex_;
  std::array<ByTime<&Kept::in_class>, kClasses> classes_;
  ByTime<&Kept::in_all> all_;
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
