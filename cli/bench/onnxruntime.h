// ONNX Runtime as a contender. Its package for Python is what people install; so it runs in a child
// (onnxruntime_child.py), which takes turns with us as every other contender and times its runs
// itself.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <verbatim/cli/bench/bench.h>
#include <verbatim/cli/bench/child.h>

namespace verbatim::bench {

class OnnxRuntime {
 public:
  // `script` of this folder on the model in `folder`, with as many threads as we have now. An error
  // of code unavailable where `python` has no ONNX Runtime.
  static Result<std::shared_ptr<OnnxRuntime>> start(const std::string& python,
                                                    const std::string& script,
                                                    const std::string& folder,
                                                    const std::vector<int64_t>& arguments,
                                                    std::span<const int64_t> tokens);
  double seconds(int64_t runs);
  Result<std::vector<float>> output();
  // Keeps `self`.
  static Contender contender(const std::shared_ptr<OnnxRuntime>& self);

 private:
  explicit OnnxRuntime(Child child) : child_(std::move(child)) {}
  Child child_;
  std::string version_, provider_;
};

// Whether the angle between each row of both is small: an error names the least cosine.
Status check_cosines(std::span<const float> ours, std::span<const float> theirs, int64_t row_size,
                     double least);

}  // namespace verbatim::bench
