// Compiled once for each vector target, like kernels/cpu/target. Eigen's templates are functions
// that a linker may merge between targets; the namespace is renamed so that it cannot.
#include <verbatim/kernels/cpu/simd.h>

#define VB_JOIN2(a, b) a##_##b
#define VB_JOIN(a, b) VB_JOIN2(a, b)
#define Eigen VB_JOIN(Eigen, VB_TARGET)
#include <Eigen/Core>

#include <verbatim/cli/bench/peers.h>
#include <verbatim/core/cpu.h>

namespace verbatim::bench::VB_TARGET {
namespace {

using namespace verbatim::VB_TARGET;  // the vector type

void eigen_product(const FloatProduct& p) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using View = Eigen::Map<const Matrix>;
  for (int64_t i = 0; i < p.batch; ++i) {
    const float *a = p.a + i * p.m * p.k, *b = p.b + i * p.k * p.n;
    const View a_view(a, p.m, p.k), b_view(b, p.k, p.n), a_turned(a, p.k, p.m),
        b_turned(b, p.n, p.k);
    auto c = Eigen::Map<Matrix>(p.c + i * p.m * p.n, p.m, p.n);
    if (p.a_turned && p.b_turned) {
      c.noalias() = a_turned.transpose() * b_turned.transpose();
    } else if (p.a_turned) {
      c.noalias() = a_turned.transpose() * b_view;
    } else if (p.b_turned) {
      c.noalias() = a_view * b_turned.transpose();
    } else {
      c.noalias() = a_view * b_view;
    }
  }
}

// Queries whose scores are in memory at once.
constexpr int64_t kAttentionRows = 128;

// Rows [from, from + rows) of one head.
void eigen_attention_rows(const FloatAttention& p, int64_t head, int64_t from, int64_t rows) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const int64_t keys = p.causal ? from + rows : p.keys, first = (head * p.queries + from) * p.size;
  const Eigen::Map<const Matrix> q(p.q + first, rows, p.size),
      k(p.k + head * p.keys * p.size, keys, p.size), v(p.v + head * p.keys * p.size, keys, p.size);
  Matrix scores(rows, keys);
  scores.noalias() = (p.scale * q) * k.transpose();
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t seen = p.causal ? from + r + 1 : keys;
    auto row = scores.row(r).head(seen).array();
    row = (row - row.maxCoeff()).exp();
    row *= 1 / row.sum();
    scores.row(r).tail(keys - seen).setZero();
  }
  Eigen::Map<Matrix>(p.out + first, rows, p.size).noalias() = scores * v;
}

void eigen_attention(const FloatAttention& p) {
  const int64_t blocks = (p.queries + kAttentionRows - 1) / kAttentionRows;
#pragma omp parallel for schedule(dynamic) num_threads(Eigen::nbThreads())
  for (int64_t i = 0; i < p.heads * blocks; ++i) {
    const int64_t from = i % blocks * kAttentionRows;
    eigen_attention_rows(p, i / blocks, from, least(kAttentionRows, p.queries - from));
  }
}

void eigen_reduction(const FloatReduction& p) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const Matrix> x(p.x, p.rows, p.columns);
  Eigen::Map<Eigen::VectorXf> y(p.y, p.along_rows ? p.rows : p.columns);
  const int64_t parts = Eigen::nbThreads(), size = y.size();
#pragma omp parallel for num_threads(Eigen::nbThreads())
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t from = size * i / parts, count = size * (i + 1) / parts - from;
    auto part = y.segment(from, count);
    if (p.along_rows) {
      const auto rows = x.middleRows(from, count).rowwise();
      if (p.maximum)
        part = rows.maxCoeff();
      else
        part = rows.sum();
    } else {
      const auto columns = x.middleCols(from, count).colwise();
      if (p.maximum)
        part = columns.maxCoeff().transpose();
      else
        part = columns.sum().transpose();
    }
  }
}

// Enough independent chains to fill the pipelines of any processor.
constexpr int kChains = 12;
constexpr int64_t kSteps = 1 << 20;

double float_operations() {
  static volatile float half = 0.5f;  // so that nothing is computed while compiling
  const F32 factor = all(half), addend = all(half);
  F32 chain[kChains];
  VB_UNROLL
  for (int c = 0; c < kChains; ++c) chain[c] = all(half + static_cast<float>(c));  // all different
  for (int64_t i = 0; i < kSteps; ++i) {
    VB_UNROLL
    for (int c = 0; c < kChains; ++c) chain[c] = fma(chain[c], factor, addend);
  }
  F32 all_chains = zero();
  VB_UNROLL
  for (int c = 0; c < kChains; ++c) all_chains = all_chains + chain[c];
  const bool sound = bits(is_nan(all_chains)) == 0;
  return sound ? 2.0 * kLanes * kChains * kSteps : 0;
}

#if defined(__AVX512F__)
double tile_operations() {
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shapes;
  __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
  constexpr int64_t kTileSteps = kSteps / 8;
  for (int64_t i = 0; i < kTileSteps; ++i)
    __asm__ volatile(
        "tdpbssd %tmm6, %tmm4, %tmm0\n\ttdpbssd %tmm7, %tmm4, %tmm1\n\t"
        "tdpbssd %tmm6, %tmm5, %tmm2\n\ttdpbssd %tmm7, %tmm5, %tmm3");
  __asm__ volatile("tilerelease");
  return 2.0 * 16 * 16 * 64 * 4 * kTileSteps;
}

double dot_operations() {
  __m512i chain[kChains];
  VB_UNROLL
  for (int c = 0; c < kChains; ++c) chain[c] = _mm512_setzero_si512();
  const __m512i one = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < kSteps; ++i) {
    VB_UNROLL
    for (int c = 0; c < kChains; ++c) {
      __m512i sum = chain[c];
      __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(one));
      chain[c] = sum;
    }
  }
  return 2.0 * 64 * kChains * kSteps;
}
#endif

double integer_operations() {
#if defined(__AVX512F__)
  if (cpu_features().amx_int8) return tile_operations();
  if (cpu_features().avx512_vnni) return dot_operations();
#endif
  return 0;
}

double read(const std::byte* p, size_t bytes) {
  const float* x = reinterpret_cast<const float*>(p);
  F32 sum[8];
  VB_UNROLL
  for (int s = 0; s < 8; ++s) sum[s] = zero();
  constexpr size_t kStep = sizeof(F32) * 8;
  for (size_t i = 0; i + kStep <= bytes; i += kStep, x += 8 * kLanes) {
    VB_UNROLL
    for (int s = 0; s < 8; ++s) sum[s] = bit_or(sum[s], load(x + s * kLanes));
  }
  float total[kLanes];
  VB_UNROLL
  for (int s = 1; s < 8; ++s) sum[0] = bit_or(sum[0], sum[s]);
  store(total, sum[0]);
  return static_cast<double>(total[0]);
}

}  // namespace

#define VB_TEXT2(x) #x
#define VB_TEXT(x) VB_TEXT2(x)
const TargetPeers kPeers = {
    VB_TEXT(VB_TARGET),
    VB_TEXT(EIGEN_WORLD_VERSION) "." VB_TEXT(EIGEN_MAJOR_VERSION) "." VB_TEXT(EIGEN_MINOR_VERSION),
    eigen_product,
    eigen_attention,
    eigen_reduction,
    [](int threads) { Eigen::setNbThreads(threads); },
    float_operations,
    integer_operations,
    read};

}  // namespace verbatim::bench::VB_TARGET
