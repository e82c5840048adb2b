// The libraries that people use now, each behind one interface. A library that is not installed has
// no contender, and `absent_peers` names it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <verbatim/cli/bench/bench.h>
#include <verbatim/core/dtype.h>

namespace verbatim::bench {

// c [m, n] = a [m, k] b [k, n], dense and row-major, for each of a batch. Where b is constant, who
// can pack it does so once.
struct FloatProduct {
  int64_t m, n, k;
  const float *a, *b;
  float* c;
  int64_t batch = 1;
  bool a_turned = false, b_turned = false;  // in memory a is [k, m], b is [n, k]
  bool constant = true;
};
// c [m, n] = a [m, k] b^T, b [n, k].
struct Int8Product {
  int64_t m, n, k;
  const int8_t *a, *b;
  const float* scales;  // of b's rows
  int32_t* integers;    // the products as they are,
  float* floats;        // and times the scales
};
// The same of bfloat16, the result too.
struct BFloat16Product {
  int64_t m, n, k;
  const BFloat16 *a, *b;
  BFloat16* c;
};

// out = softmax(scale * q k^T) v for each head: q and out [heads, queries, size], k and v [heads,
// keys, size], dense. Where causal there are as many keys as queries, and query t sees keys 0..t.
struct FloatAttention {
  int64_t heads, queries, keys, size;
  bool causal;
  float scale;
  const float *q, *k, *v;
  float* out;
};

// y [1, m, size, size] = x [1, c, size, size] convolved with w [m, c, kernel, kernel], padded by
// kernel / 2 on each side. A peer keeps images and weights in the layout that it likes best.
struct FloatConvolution {
  int64_t c, m, size, kernel;
  const float *x, *w;
  float* y;
};

// x [rows, columns] reduced along its rows, y [rows], or down its columns, y [columns].
struct FloatReduction {
  int64_t rows, columns;
  bool along_rows, maximum;  // else a sum
  const float* x;
  float* y;
};

std::vector<Contender> float_product_peers(const FloatProduct& p);
std::vector<Contender> int8_product_peers(const Int8Product& p);
std::vector<Contender> bfloat16_product_peers(const BFloat16Product& p);
// Libraries have no attention: what their products and a softmax compose.
std::vector<Contender> float_attention_peers(const FloatAttention& p);
std::vector<Contender> float_convolution_peers(const FloatConvolution& p);
std::vector<Contender> float_reduction_peers(const FloatReduction& p);
std::vector<std::string> absent_peers();
// Called before all others: what VERBATIM_CPU_DISABLE takes from us, oneDNN is to do without, too.
void limit_onednn();
// How many threads it may use; what is made from now on is cut for so many.
void set_onednn_threads(int threads);

// What is compiled once for each vector target: Eigen, and the loops that show what the processor
// can do at most.
struct TargetPeers {
  const char* name;
  const char* eigen_version;
  void (*eigen_product)(const FloatProduct& p);
  void (*eigen_attention)(const FloatAttention& p);
  void (*eigen_reduction)(const FloatReduction& p);
  void (*eigen_threads)(int threads);
  double (*float_operations)();    // of one call, some milliseconds; multiply-adds count as two
  double (*integer_operations)();  // with 8-bit operands; 0 where the processor has no such unit
  double (*read)(const std::byte* p, size_t bytes);  // a value that depends on all bytes
};
const TargetPeers*
target_peers();  // of this processor; null where Eigen was not there at build time

namespace avx2 {
extern const TargetPeers kPeers;
}
namespace avx512 {
extern const TargetPeers kPeers;
}
namespace neon {
extern const TargetPeers kPeers;
}

// One line for each library in peers_*.cc.
void add_openblas(std::vector<Contender>& to, const FloatProduct& p);
void add_onednn(std::vector<Contender>& to, const FloatProduct& p);
void add_onednn(std::vector<Contender>& to, const Int8Product& p);
void add_onednn(std::vector<Contender>& to, const BFloat16Product& p);
void add_onednn(std::vector<Contender>& to, const FloatAttention& p);
void add_onednn(std::vector<Contender>& to, const FloatConvolution& p);

}  // namespace verbatim::bench
