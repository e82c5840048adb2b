// Convolutions of a residual network's layers: conv_f32. Ours takes and gives plain [N, C, H, W].
#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/peers.h>

namespace verbatim::bench {
namespace {

struct Size {
  int64_t c, m, size, kernel;
};
constexpr Size kSizes[] = {{64, 64, 56, 3}, {64, 256, 56, 1}, {256, 256, 14, 3}, {512, 512, 7, 3}};

Result<Match> against_libraries(Backend& backend, const Size& s) {
  VB_ASSIGN(const Tensor x, random_tensor(Shape{1, s.c, s.size, s.size}, 1));
  VB_ASSIGN(const Tensor w, random_tensor(Shape{s.m, s.c, s.kernel, s.kernel}, 2));
  const int64_t pad = s.kernel / 2;
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            Operator::create(backend, "Conv", "", {x}, {w},
                             {{"pads", std::vector<int64_t>{pad, pad, pad, pad}}}));
  const double work = 2e-9 * static_cast<double>(s.c * s.m * s.kernel * s.kernel) *
                      static_cast<double>(s.size * s.size);
  const auto y = std::make_shared<Tensor>();
  VB_ASSIGN(*y, Tensor::zeros(DType::f32, Shape{1, s.m, s.size, s.size}));
  Match match{ours->contender(),
              float_convolution_peers({s.c, s.m, s.size, s.kernel, x.data<float>().data(),
                                       w.data<float>().data(), y->mutable_data<float>().data()}),
              work, "GFLOP/s", Limit::float_operations};
  match.check = [=]() -> Status {
    if (match.peers.empty()) return {};
    return close(ours->output().data<float>(), y->data<float>(), 1e-4, "oneDNN");
  };
  return match;
}

}  // namespace

void add_convolution_cases(std::vector<Case>& cases) {
  for (const Size& s : kSizes)
    cases.push_back({"conv_f32", shape_text({s.c, s.m, s.size, s.size, s.kernel, s.kernel}),
                     [=](Backend& b) { return against_libraries(b, s); }});
}

}  // namespace verbatim::bench
