// What --backend cuda measures. A build without it has no such cases.
//
// Times are the device's own, from the first run's start to the last one's end, of runs that were
// all launched before the first one starts: neither our host code nor a library's is in them. Who
// hashes, or runs a whole graph, waits for the result, and so do those cases.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/core/tensor.h>

struct CUstream_st;  // a cudaStream_t points to it

namespace verbatim::bench::gpu {

struct Description {
  std::string name, driver;
  double clock = 0, most_clock = 0;  // of the multiprocessors, in MHz: while they multiply; ever
};

#if defined(VERBATIM_KERNELS_CUDA)

// cuda/gpu.cu
Result<Description> describe();
Result<DeviceMemory*> memory();
CUstream_st* stream();  // on which everything runs
void wait();            // until it has
// How long `times` calls of `enqueue` take the device. It launches something, and waits for
// nothing.
double seconds(const std::function<void()>& enqueue, int64_t times);
double float_operations();  // a second; a multiply-add counts as two
double copy_bandwidth();    // bytes a second, read and written

// cuda/cublas.cc
// c [m, n] = a [m, k] b, all dense on the device; b is [k, n], or in memory [n, k].
struct Product {
  int64_t m, n, k;
  Tensor a, b, c;
  bool b_turned;
  bool precise = false;   // of fp8: the library adds in binary32 now and then
  std::string kind = {};  // " TF32", " bf16": what stands for a product of binary32, by its name
};
std::vector<Contender> product_peers(const Product& p);
std::vector<std::string> absent_peers();

// cuda/pytorch.cc
class PyTorch;
// PyTorch's kernels of scaled_dot_product_attention, from one child of this interpreter, which
// starts with the first case that asks.
class AttentionPeers {
 public:
  explicit AttentionPeers(std::string python) : python_(std::move(python)) {}
  // Those that take `operands`: q, k and v on the host, each [heads, tokens, size] and of one type.
  // check(theirs, who) sees the result of each, of q's shape and type. None, and a word on stderr,
  // where there is no PyTorch.
  Result<std::vector<Contender>> of(
      const AttentionSize& s, const Tensors& operands,
      const std::function<Status(const Tensor& theirs, const std::string& who)>& check);

 private:
  std::string python_;
  bool started_ = false;
  std::shared_ptr<PyTorch> pytorch_;
};

// cuda/ladder.cc
void add_ladder_cases(std::vector<Case>& cases);

// cuda/cases.cc
void add_cases(std::vector<Case>& cases, const ModelFiles& files);

#else

inline Result<Description> describe() { return unavailable("not built in (cmake --preset cuda)"); }
inline double float_operations() { return 0; }
inline double copy_bandwidth() { return 0; }
inline void wait() {}
inline std::vector<std::string> absent_peers() { return {}; }
inline void add_cases(std::vector<Case>&, const ModelFiles&) {}

#endif

}  // namespace verbatim::bench::gpu
