// Who else runs whole models: ONNX Runtime, and on a GPU Hugging Face's Transformers. Their
// packages for Python are what people install; so they run in a child (model_child.py), which takes
// turns with us as every other contender and times its runs itself.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <verbatim/cli/bench/bench.h>
#include <verbatim/cli/bench/child.h>

namespace verbatim::bench {

class ModelPeer {
 public:
  // `script` of this folder on the model in `folder`, with as many threads as we have now. `name`:
  // what it runs. An error of code unavailable where `python` has not got that.
  static Result<std::shared_ptr<ModelPeer>> start(const std::string& python,
                                                  const std::string& script,
                                                  const std::string& name,
                                                  const std::string& folder,
                                                  const std::vector<std::string>& arguments,
                                                  std::span<const int64_t> tokens);
  double seconds(int64_t runs);
  Result<std::vector<float>> output();
  // Keeps `self`.
  static Contender contender(const std::shared_ptr<ModelPeer>& self);

 private:
  ModelPeer(Child child, std::string name) : child_(std::move(child)), name_(std::move(name)) {}
  Child child_;
  std::string name_, version_, how_;
};

// Whether the angle between each row of both is small: an error names the least cosine.
Status check_cosines(std::span<const float> ours, std::span<const float> theirs, int64_t row_size,
                     double least);

}  // namespace verbatim::bench
