// A device for tests: its memory is the host's, and counts what is asked of it.
#pragma once

#include <cstdlib>
#include <cstring>

#include <verbatim/core/tensor_root.h>

#include "support.h"

namespace verbatim::test {

class Elsewhere final : public DeviceMemory {
 public:
  void* take(size_t bytes) override { return std::malloc(bytes + 1); }
  void give_back(void* memory, size_t) override { std::free(memory); }
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
  Result<std::vector<Digest>> leaf_roots(std::span<const Tensor> tensors) override {
    ++hashes;
    std::vector<Digest> roots;
    for (const Tensor& t : tensors) {
      Tensor here = ok(Tensor::allocate(t.dtype(), t.shape()));
      std::memcpy(here.mutable_bytes().data(), t.address(), t.byte_size());
      roots.push_back(merkle_root(tensor_leaves(here)));
    }
    return roots;
  }

  int copies = 0;  // to the host
  int hashes = 0;  // calls of leaf_roots()
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
