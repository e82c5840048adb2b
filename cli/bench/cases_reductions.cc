// Reductions of a matrix: reduce_rows and reduce_columns, a sum or a maximum.
#include <array>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/peers.h>

namespace verbatim::bench {
namespace {

// Rows as long as an encoder's, long ones, and a matrix that is not in any cache.
constexpr std::array<int64_t, 2> kSizes[] = {{512, 384}, {64, 8192}, {8192, 4096}};

Result<Match> reduction(Backend& backend, std::array<int64_t, 2> size, bool along_rows,
                        bool maximum) {
  const auto [rows, columns] = size;
  VB_ASSIGN(const Tensor x, random_tensor(Shape{rows, columns}, 1));
  VB_ASSIGN(const Tensor axes,
            Tensor::from<int64_t>(Shape{1}, std::array<int64_t, 1>{along_rows ? 1 : 0}));
  VB_ASSIGN(Tensor y, Tensor::zeros(DType::f32, Shape{along_rows ? rows : columns}));
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            Operator::create(backend, maximum ? "ReduceMax" : "ReduceSum", "", {x}, {axes}));
  Match match{ours->contender(),
              float_reduction_peers({rows, columns, along_rows, maximum, x.data<float>().data(),
                                     y.mutable_data<float>().data()}),
              4e-9 * static_cast<double>(x.elements()), "GB/s", Limit::read_bandwidth};
  match.check = [=, has_peer = !match.peers.empty()]() -> Status {
    if (!has_peer) return {};
    return close(ours->output().data<float>(), y.data<float>(), 1e-4, "Eigen");
  };
  return match;
}

}  // namespace

void add_reduction_cases(std::vector<Case>& cases) {
  for (const bool along_rows : {true, false})
    for (const bool maximum : {false, true})
      for (const auto& size : kSizes)
        cases.push_back({along_rows ? "reduce_rows" : "reduce_columns",
                         shape_text({size[0], size[1]}) + (maximum ? " max" : " sum"),
                         [=](Backend& b) { return reduction(b, size, along_rows, maximum); }});
}

}  // namespace verbatim::bench
