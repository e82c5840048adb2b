// A device for tests: its memory is the host's, and counts what is asked of it.
#pragma once

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>

#include <verbatim/core/tensor_root.h>

#include "support.h"

namespace verbatim::test {

// It hashes when it is waited for, and what is given back is overwritten.
class Elsewhere final : public DeviceMemory {
 public:
  void* take(size_t bytes) override { return std::malloc(bytes + 1); }
  void give_back(void* memory, size_t bytes) override {
    std::memset(memory, 0xFF, bytes);
    std::free(memory);
  }
  Status copy_to_host(void* host, const void* device, size_t bytes) override {
    ++copies;
    std::memcpy(host, device, bytes);
    return {};
  }
  Status copy_from_host(void* device, const void* host, size_t bytes) override {
    std::memcpy(device, host, bytes);
    return {};
  }
  Status copy_strided(size_t, std::span<const int64_t>, void*, std::span<const int64_t>,
                      const void*, std::span<const int64_t>) override {
    return unsupported("copy_strided");
  }
  Status copy_blocks(void*, const void*, size_t, std::span<const int64_t>) override {
    return unsupported("copy_blocks");
  }
  Result<std::unique_ptr<PendingRoots>> begin_leaf_roots(std::span<const Tensor> tensors) override {
    if (!has_room) return over_limit("no room");
    ++hashes;
    return std::unique_ptr<PendingRoots>(std::make_unique<Later>(*this, tensors));
  }

  int copies = 0;            // to the host
  int hashes = 0;            // calls of begin_leaf_roots()
  int begun = 0;             // of which so many are neither asked for nor let go of
  size_t kept = 0;           // bytes of theirs
  size_t most_kept = 0;      // at once
  int waits_left = INT_MAX;  // until nothing works any more
  bool has_room = true;      // if not, it does not hash

 private:
  class Later final : public PendingRoots {
   public:
    Later(Elsewhere& memory, std::span<const Tensor> tensors)
        : memory_(memory), tensors_(tensors.begin(), tensors.end()) {
      ++memory_.begun;
      for (const Tensor& t : tensors_) memory_.kept += t.byte_size();
      memory_.most_kept = std::max(memory_.most_kept, memory_.kept);
    }
    ~Later() override {
      --memory_.begun;
      for (const Tensor& t : tensors_) memory_.kept -= t.byte_size();
    }
    Result<std::vector<Digest>> wait() override {
      if (memory_.waits_left == 0) return unavailable("the device is gone");
      --memory_.waits_left;
      std::vector<Digest> roots;
      for (const Tensor& t : tensors_) {
        Tensor here = ok(Tensor::allocate(t.dtype(), t.shape()));
        std::memcpy(here.mutable_bytes().data(), t.address(), t.byte_size());
        roots.push_back(merkle_root(tensor_leaves(here)));
      }
      return roots;
    }

   private:
    Elsewhere& memory_;
    const std::vector<Tensor> tensors_;
  };
};

// The reference, but floats that a node gives lie there.
class DeviceBackend final : public Backend {
 public:
  std::string_view name() const override { return "device"; }
  Status prepare(const Graph&) override { return {}; }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    Tensors tensors;
    for (const Tensor& t : inputs) tensors.push_back(ok(t.on_host()));
    tensors = ok(evaluate_reference(node, tensors));
    for (Tensor& t : tensors)
      if (is_float(t.dtype())) t = ok(t.copied_to(memory()));
    return tensors;
  }
  // It lives as long as the process.
  static Elsewhere& memory() {
    static Elsewhere memory;
    return memory;
  }
};

}  // namespace verbatim::test
