#include <verbatim/cli/bench/peers.h>

#include <verbatim/core/cpu.h>

namespace verbatim::bench {

const TargetPeers* target_peers() {
#if defined(VERBATIM_BENCH_X86)
  if (cpu_features().avx512) return &avx512::kPeers;
  if (cpu_features().avx2_fma) return &avx2::kPeers;
#elif defined(VERBATIM_BENCH_ARM)
  return &neon::kPeers;
#endif
  return nullptr;
}

std::vector<Contender> float_product_peers(const FloatProduct& p) {
  std::vector<Contender> peers;
  add_openblas(peers, p);
  add_onednn(peers, p);
  if (const TargetPeers* t = target_peers())
    peers.push_back(
        {"Eigen", t->eigen_version, t->name, [p, t] { t->eigen_product(p); }, t->eigen_threads});
  return peers;
}

std::vector<Contender> int8_product_peers(const Int8Product& p) {
  std::vector<Contender> peers;
  add_onednn(peers, p);
  return peers;
}

std::vector<Contender> bfloat16_product_peers(const BFloat16Product& p) {
  std::vector<Contender> peers;
  add_onednn(peers, p);
  return peers;
}

std::vector<Contender> float_attention_peers(const FloatAttention& p) {
  std::vector<Contender> peers;
  add_onednn(peers, p);
  if (const TargetPeers* t = target_peers())
    peers.push_back(
        {"Eigen", t->eigen_version, t->name, [p, t] { t->eigen_attention(p); }, t->eigen_threads});
  return peers;
}

std::vector<Contender> float_convolution_peers(const FloatConvolution& p) {
  std::vector<Contender> peers;
  add_onednn(peers, p);
  return peers;
}

std::vector<Contender> float_reduction_peers(const FloatReduction& p) {
  std::vector<Contender> peers;
  if (const TargetPeers* t = target_peers())
    peers.push_back(
        {"Eigen", t->eigen_version, t->name, [p, t] { t->eigen_reduction(p); }, t->eigen_threads});
  return peers;
}

std::vector<std::string> absent_peers() {
  std::vector<std::string> absent;
  const FloatProduct none{};
  const auto missing = [&](auto add, const char* what) {
    std::vector<Contender> found;
    add(found, none);
    if (found.empty()) absent.push_back(what);
  };
  missing(add_openblas, "OpenBLAS (package libopenblas0-pthread)");
  missing([](auto& to, const FloatProduct& p) { add_onednn(to, p); },
          "oneDNN (package libdnnl-dev, at build time)");
  if (target_peers() == nullptr) absent.push_back("Eigen (package libeigen3-dev, at build time)");
  return absent;
}

}  // namespace verbatim::bench
