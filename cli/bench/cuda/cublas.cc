// cuBLAS and cuBLASLt, found at run time; a build needs their headers alone. Of what cuBLASLt's
// heuristics propose for a product, the fastest is taken.
#include <verbatim/cli/bench/gpu.h>

#if defined(VERBATIM_BENCH_CUBLAS)
#include <cublasLt.h>
#include <cublas_v2.h>
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include <verbatim/cli/bench/cases.h>

namespace verbatim::bench::gpu {
namespace {

void* open(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (void* const library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  return nullptr;
}

std::string version_text(size_t v) {  // 130100: 13.1.0
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
         std::to_string(v % 100);
}

// A library's function, under its own name. False where the library lacks it.
template <class F>
bool find(void* library, const char* name, F& function) {
  function = library == nullptr ? nullptr : reinterpret_cast<F>(::dlsym(library, name));
  return function != nullptr;
}

// --- cuBLASLt

struct CublasLt {
  decltype(&::cublasLtCreate) create = nullptr;
  decltype(&::cublasLtGetVersion) version = nullptr;
  decltype(&::cublasLtMatmul) matmul = nullptr;
  decltype(&::cublasLtMatmulDescCreate) create_desc = nullptr;
  decltype(&::cublasLtMatmulDescSetAttribute) set_desc = nullptr;
  decltype(&::cublasLtMatmulDescDestroy) destroy_desc = nullptr;
  decltype(&::cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&::cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&::cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  decltype(&::cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) propose = nullptr;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) config = nullptr;
  cublasLtHandle_t handle = nullptr;  // null: not there
};

CublasLt load_cublas_lt() {
  CublasLt lt;
  void* const library = open({"libcublasLt.so.13", "libcublasLt.so.12"});
  const bool complete = find(library, "cublasLtCreate", lt.create) &&
                        find(library, "cublasLtGetVersion", lt.version) &&
                        find(library, "cublasLtMatmul", lt.matmul) &&
                        find(library, "cublasLtMatmulDescCreate", lt.create_desc) &&
                        find(library, "cublasLtMatmulDescSetAttribute", lt.set_desc) &&
                        find(library, "cublasLtMatmulDescDestroy", lt.destroy_desc) &&
                        find(library, "cublasLtMatrixLayoutCreate", lt.create_layout) &&
                        find(library, "cublasLtMatrixLayoutDestroy", lt.destroy_layout) &&
                        find(library, "cublasLtMatmulPreferenceCreate", lt.create_preference) &&
                        find(library, "cublasLtMatmulPreferenceSetAttribute", lt.set_preference) &&
                        find(library, "cublasLtMatmulPreferenceDestroy", lt.destroy_preference) &&
                        find(library, "cublasLtMatmulAlgoGetHeuristic", lt.propose) &&
                        find(library, "cublasLtMatmulAlgoConfigGetAttribute", lt.config);
  if (!complete || lt.create(&lt.handle) != CUBLAS_STATUS_SUCCESS) lt.handle = nullptr;
  return lt;
}

const CublasLt& cublas_lt() {
  static const CublasLt lt = load_cublas_lt();
  return lt;
}

Status check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return unavailable(std::string("cuBLAS: ") + what + ": status " +
                     std::to_string(static_cast<int>(status)));
}

// How the library names types. Sums of binary32 products are of binary32 products, not of TF32,
// unless that is asked for.
constexpr std::string_view kTf32 = " TF32";
struct Types {
  cudaDataType_t operands, result, scale;
  cublasComputeType_t compute;
};
Types types_of(const Product& p) {
  const auto of = [](DType type) {
    switch (type) {
      case DType::bf16:
        return CUDA_R_16BF;
      case DType::f16:
        return CUDA_R_16F;
      case DType::f8e4m3:
        return CUDA_R_8F_E4M3;
      case DType::i8:
        return CUDA_R_8I;
      case DType::i32:
        return CUDA_R_32I;
      default:
        return CUDA_R_32F;
    }
  };
  const bool integers = p.a.dtype() == DType::i8;
  return {of(p.a.dtype()), of(p.c.dtype()), integers ? CUDA_R_32I : CUDA_R_32F,
          integers          ? CUBLAS_COMPUTE_32I
          : p.kind == kTf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                            : CUBLAS_COMPUTE_32F};
}

// The library's matrices are column-major: c^T = b^T a^T.
class LtProduct {
 public:
  // Errors: unavailable, where no algorithm of the library takes the product.
  static Result<std::shared_ptr<LtProduct>> create(const Product& p);
  Status run();
  // Of the algorithm: what the library calls it, and how it cuts K.
  std::string kernel() const;

 private:
  using Layout =
      std::unique_ptr<cublasLtMatrixLayoutOpaque_t, decltype(&::cublasLtMatrixLayoutDestroy)>;
  using Desc = std::unique_ptr<cublasLtMatmulDescOpaque_t, decltype(&::cublasLtMatmulDescDestroy)>;
  using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                                     decltype(&::cublasLtMatmulPreferenceDestroy)>;
  static constexpr int64_t kWorkspace = int64_t{64} << 20;
  static constexpr int kMostAlgorithms = 32;

  static Result<Layout> layout(cudaDataType_t type, int64_t rows, int64_t columns);
  Status describe();
  Result<std::vector<cublasLtMatmulHeuristicResult_t>> proposals() const;
  Status choose();

  Product p_;
  Tensor workspace_;
  Desc desc_{nullptr, nullptr};
  Layout left_{nullptr, nullptr}, right_{nullptr, nullptr}, result_{nullptr, nullptr};
  cublasLtMatmulAlgo_t algorithm_{};
};

Result<LtProduct::Layout> LtProduct::layout(cudaDataType_t type, int64_t rows, int64_t columns) {
  cublasLtMatrixLayout_t made = nullptr;
  VB_TRY(check(cublas_lt().create_layout(&made, type, static_cast<uint64_t>(rows),
                                         static_cast<uint64_t>(columns), rows),
               "a matrix"));
  return Layout(made, cublas_lt().destroy_layout);
}

Status LtProduct::describe() {
  const CublasLt& lt = cublas_lt();
  const Types types = types_of(p_);
  cublasLtMatmulDesc_t made = nullptr;
  VB_TRY(check(lt.create_desc(&made, types.compute, types.scale), "a product"));
  desc_ = Desc(made, lt.destroy_desc);
  const cublasOperation_t turn = p_.b_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
  VB_TRY(check(lt.set_desc(made, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn), "a transpose"));
  if (p_.a.dtype() == DType::f8e4m3) {
    const int8_t fast = !p_.precise;
    VB_TRY(check(lt.set_desc(made, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast), "fp8"));
  }
  VB_ASSIGN(left_,
            p_.b_turned ? layout(types.operands, p_.k, p_.n) : layout(types.operands, p_.n, p_.k));
  VB_ASSIGN(right_, layout(types.operands, p_.k, p_.m));
  VB_ASSIGN(result_, layout(types.result, p_.n, p_.m));
  return {};
}

Result<std::vector<cublasLtMatmulHeuristicResult_t>> LtProduct::proposals() const {
  const CublasLt& lt = cublas_lt();
  cublasLtMatmulPreference_t made = nullptr;
  VB_TRY(check(lt.create_preference(&made), "a preference"));
  const Preference preference(made, lt.destroy_preference);
  const uint64_t workspace = kWorkspace;
  VB_TRY(check(lt.set_preference(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                 sizeof workspace),
               "a workspace"));
  std::vector<cublasLtMatmulHeuristicResult_t> found(kMostAlgorithms);
  int count = 0;
  VB_TRY(check(lt.propose(lt.handle, desc_.get(), left_.get(), right_.get(), result_.get(),
                          result_.get(), made, kMostAlgorithms, found.data(), &count),
               "no algorithm"));
  found.resize(static_cast<size_t>(count));
  std::erase_if(found, [](const auto& f) { return f.state != CUBLAS_STATUS_SUCCESS; });
  return found;
}

// The fastest, each of them timed for a millisecond or once.
Status LtProduct::choose() {
  VB_ASSIGN(const std::vector<cublasLtMatmulHeuristicResult_t> found, proposals());
  constexpr double kTimed = 1e-3, kHopeless = 1.5;
  double least = std::numeric_limits<double>::infinity();
  cublasLtMatmulAlgo_t best{};
  const auto enqueue = [this] { (void)run(); };  // it ran before
  for (const cublasLtMatmulHeuristicResult_t& f : found) {
    algorithm_ = f.algo;
    if (!run().ok()) continue;
    double once = seconds(enqueue, 1);
    if (once > kHopeless * least) continue;
    const auto times = static_cast<int64_t>(std::clamp(kTimed / once, 1.0, 50.0));
    once = seconds(enqueue, times) / static_cast<double>(times);
    if (once >= least) continue;
    least = once;
    best = f.algo;
  }
  algorithm_ = best;
  return std::isfinite(least) ? Status() : unavailable("no algorithm of cuBLASLt runs");
}

Result<std::shared_ptr<LtProduct>> LtProduct::create(const Product& p) {
  auto made = std::make_shared<LtProduct>();
  made->p_ = p;
  VB_ASSIGN(DeviceMemory* const device, memory());
  VB_ASSIGN(made->workspace_, Tensor::allocate_on(*device, DType::u8, Shape{kWorkspace}));
  VB_TRY(made->describe());
  VB_TRY(made->choose());
  return made;
}

Status LtProduct::run() {
  union {
    float number;
    int32_t integer;
  } one{}, zero{};
  if (p_.a.dtype() == DType::i8) {
    one.integer = 1;
  } else {
    one.number = 1;
  }
  void* const c = p_.c.mutable_address();
  return check(
      cublas_lt().matmul(cublas_lt().handle, desc_.get(), &one, p_.b.address(), left_.get(),
                         p_.a.address(), right_.get(), &zero, c, result_.get(), c, result_.get(),
                         &algorithm_, workspace_.mutable_address(), kWorkspace, stream()),
      "a product");
}

std::string LtProduct::kernel() const {
  const auto value = [&]<class T>(cublasLtMatmulAlgoConfigAttributes_t attribute, T of_type) {
    size_t written = 0;
    const bool known = cublas_lt().config(&algorithm_, attribute, &of_type, sizeof of_type,
                                          &written) == CUBLAS_STATUS_SUCCESS;
    return known ? std::to_string(of_type) : "unknown";
  };
  return "algorithm " + value(CUBLASLT_ALGO_CONFIG_ID, int32_t{}) + " tile " +
         value(CUBLASLT_ALGO_CONFIG_TILE_ID, uint32_t{}) + " stages " +
         value(CUBLASLT_ALGO_CONFIG_STAGES_ID, uint32_t{}) + " cluster " +
         value(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, uint16_t{}) + " custom " +
         value(CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, uint32_t{}) + " splitK " +
         value(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, int32_t{}) + " reduction " +
         value(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, uint32_t{});
}

// --- cuBLAS

struct Cublas {
  decltype(&::cublasCreate_v2) create = nullptr;
  decltype(&::cublasGetVersion_v2) version = nullptr;
  decltype(&::cublasSetStream_v2) set_stream = nullptr;
  decltype(&::cublasSgemm_v2) sgemm = nullptr;
  cublasHandle_t handle = nullptr;  // null: not there
};

const Cublas& cublas() {
  static const Cublas found = [] {
    Cublas blas;
    void* const library = open({"libcublas.so.13", "libcublas.so.12"});
    const bool complete = find(library, "cublasCreate_v2", blas.create) &&
                          find(library, "cublasGetVersion_v2", blas.version) &&
                          find(library, "cublasSetStream_v2", blas.set_stream) &&
                          find(library, "cublasSgemm_v2", blas.sgemm);
    if (!complete || blas.create(&blas.handle) != CUBLAS_STATUS_SUCCESS ||
        blas.set_stream(blas.handle, stream()) != CUBLAS_STATUS_SUCCESS)
      blas.handle = nullptr;
    return blas;
  }();
  return found;
}

// As everyone calls it; what it makes of that is its own choice.
Status sgemm(const Product& p, float* c) {
  const float one = 1, zero = 0;
  const auto m = static_cast<int>(p.m), n = static_cast<int>(p.n), k = static_cast<int>(p.k);
  return check(
      cublas().sgemm(cublas().handle, p.b_turned ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, n, m, k,
                     &one, reinterpret_cast<const float*>(p.b.address()), p.b_turned ? k : n,
                     reinterpret_cast<const float*>(p.a.address()), k, &zero, c, n),
      "cublasSgemm");
}

}  // namespace

std::vector<Contender> product_peers(const Product& p) {
  std::vector<Contender> peers;
  if (cublas_lt().handle != nullptr) {
    const Result<std::shared_ptr<LtProduct>> made = LtProduct::create(p);
    if (made.ok()) {
      peers.push_back({"cuBLASLt" + p.kind, version_text(cublas_lt().version()), (*made)->kernel(),
                       [product = *made] { require(product->run()); }});
    } else {
      std::fprintf(stderr, "\nnot compared with cuBLASLt: %s\n", made.status().message().c_str());
    }
  }
  if (cublas().handle != nullptr && p.a.dtype() == DType::f32 && p.kind.empty()) {
    int version = 0;
    (void)cublas().version(cublas().handle, &version);
    Tensor c = p.c;
    peers.push_back(
        {"cuBLAS", version_text(static_cast<size_t>(version)), "cublasSgemm",
         [p, to = reinterpret_cast<float*>(c.mutable_address())] { require(sgemm(p, to)); }});
  }
  return peers;
}

std::vector<std::string> absent_peers() {
  std::vector<std::string> absent;
  if (cublas_lt().handle == nullptr) absent.push_back("cuBLASLt (libcublasLt.so.13)");
  if (cublas().handle == nullptr) absent.push_back("cuBLAS (libcublas.so.13)");
  return absent;
}

}  // namespace verbatim::bench::gpu

#else

namespace verbatim::bench::gpu {
std::vector<Contender> product_peers(const Product&) { return {}; }
std::vector<std::string> absent_peers() { return {"cuBLAS (its headers, at build time)"}; }
}  // namespace verbatim::bench::gpu

#endif
