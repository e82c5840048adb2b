// OpenBLAS, found at run time: its C interface is stable, and a build does not need its headers.
#include <dlfcn.h>

#include <cstdlib>

#include <verbatim/cli/bench/peers.h>
#include <verbatim/core/cpu.h>

namespace verbatim::bench {
namespace {

struct OpenBlas {
  using Sgemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                         const float* a, int lda, const float* b, int ldb, float beta, float* c,
                         int ldc);
  using Sgemv = void (*)(int order, int trans, int m, int n, float alpha, const float* a, int lda,
                         const float* x, int x_step, float beta, float* y, int y_step);
  Sgemm sgemm = nullptr;
  Sgemv sgemv = nullptr;
  void (*set_threads)(int) = nullptr;
  std::string version, kernel;
};

// "OpenBLAS 0.3.21 NO_LAPACK ...": the second word.
std::string second_word(const std::string& text) {
  const size_t begin = text.find(' ') + 1;
  return text.substr(begin, text.find(' ', begin) - begin);
}

OpenBlas load() {
  OpenBlas blas;
  ::unsetenv("OPENBLAS_L2_SIZE");
  // A processor newer than the library gets the kernels of an old one: name the best that it can
  // run.
  if (cpu_features().avx512) {
    ::setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
  } else {
    ::unsetenv("OPENBLAS_CORETYPE");
  }
  void* library = nullptr;
  for (const char* name :
       {"libopenblas.so.0", "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"})
    if (library == nullptr) library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return blas;
  blas.sgemm = reinterpret_cast<OpenBlas::Sgemm>(::dlsym(library, "cblas_sgemm"));
  blas.sgemv = reinterpret_cast<OpenBlas::Sgemv>(::dlsym(library, "cblas_sgemv"));
  blas.set_threads = reinterpret_cast<void (*)(int)>(::dlsym(library, "openblas_set_num_threads"));
  const auto text = [&](const char* function) -> std::string {
    const auto f = reinterpret_cast<char* (*)()>(::dlsym(library, function));
    return f ? f() : "unknown";
  };
  blas.version = second_word(text("openblas_get_config"));
  blas.kernel = text("openblas_get_corename");
  return blas;
}

}  // namespace

void add_openblas(std::vector<Contender>& to, const FloatProduct& p) {
  static const OpenBlas blas = load();
  if (blas.sgemm == nullptr || blas.sgemv == nullptr || blas.set_threads == nullptr) return;
  constexpr int kRowMajor = 101, kAsItIs = 111, kTransposed = 112;
  const int m = static_cast<int>(p.m), n = static_cast<int>(p.n), k = static_cast<int>(p.k);
  to.push_back({"OpenBLAS", blas.version, blas.kernel,
                [=] {
                  if (m == 1 && p.batch == 1 && !p.b_turned)
                    return blas.sgemv(kRowMajor, kTransposed, k, n, 1, p.b, n, p.a, 1, 0, p.c, 1);
                  for (int64_t i = 0; i < p.batch; ++i)
                    blas.sgemm(kRowMajor, p.a_turned ? kTransposed : kAsItIs,
                               p.b_turned ? kTransposed : kAsItIs, m, n, k, 1, p.a + i * p.m * p.k,
                               p.a_turned ? m : k, p.b + i * p.k * p.n, p.b_turned ? k : n, 0,
                               p.c + i * p.m * p.n, n);
                },
                blas.set_threads});
}

}  // namespace verbatim::bench
