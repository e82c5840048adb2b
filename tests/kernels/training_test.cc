// Ten steps of training have the same bits on every backend, with every number of threads.
#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/executor.h>

#include <gtest/gtest.h>

#include "kernels/compare.h"
#include "support/small_transformer.h"

namespace verbatim {
namespace {

// Of all outputs of the last step, and of the losses and norms of all steps.
std::string digest(Optimizer optimizer, const std::string& backend_name) {
  const test::SmallTraining small = test::small_training(optimizer, 10);
  const auto backend = *test::make_tested_backend(backend_name);
  const Result<RunResult> r = run_program(small.training.program, *backend, small.inputs);
  EXPECT_TRUE(r.ok()) << r.status().message();
  if (!r.ok()) return "";
  Writer w;
  for (const Tensors& step : r->step_outputs)
    for (int i = 0; i < 2; ++i) w.raw(tensor_root(step[i]).bytes);
  for (const Tensor& t : r->outputs) w.raw(tensor_root(t).bytes);
  return tagged_hash("verbatim.training.test", w.bytes()).hex();
}

TEST(Training, TenStepsHaveTheSameBitsEverywhere) {
  const int threads = thread_count();
  for (const auto& [optimizer, golden] :
       {std::pair(Optimizer::sgd,
                  "6797289482b7e6d58778ab3a881e9f27c25a78c8427725b6b5054c2c1875ae9d"),
        std::pair(Optimizer::adamw,
                  "0658f1d764b247e2b2535891777f0a342f10127ca383b01cfc2e8a4c9bf07ef6")})
    for (const BackendInfo& info : test::tested_backends()) {
      if (!info.missing.empty()) continue;
      for (const int count : {1, 2, 5}) {
        set_thread_count(count);
        EXPECT_EQ(digest(optimizer, info.name), golden) << info.name << ", " << count << " threads";
      }
    }
  set_thread_count(threads);
}

}  // namespace
}  // namespace verbatim
