// What cases are made of: operators run as the executor runs them, on generated operands.
#pragma once

#include <memory>
#include <vector>

#include <verbatim/cli/bench/bench.h>
#include <verbatim/repops/graph.h>
#include <verbatim/repops/models/model.h>

namespace verbatim::bench {

// Gaussian-like numbers (the sum of four uniform ones) from Philox, the same everywhere.
Result<Tensor> random_tensor(const Shape& shape, uint64_t seed);

// x in a type that is computed with; itself where that is float32.
Result<Tensor> rounded_to(DType type, const Tensor& x);
// The numbers of a tensor of such a type.
std::vector<float> numbers_of(const Tensor& x);

// A graph of one operator, prepared on a backend: its inputs are given for each run, its constants
// are packed once.
class Operator {
 public:
  static Result<std::shared_ptr<Operator>> create(Backend& backend, std::string_view op,
                                                  std::string_view domain,
                                                  std::vector<Tensor> inputs,
                                                  std::vector<Tensor> constants,
                                                  Attributes attributes = {});
  void run();  // keeps the first output
  const Tensor& output() const { return output_; }
  Contender contender();  // "Verbatim", this backend

 private:
  Backend* backend_ = nullptr;
  Graph graph_;
  std::vector<Tensor> operands_;
  Tensor output_;
};

// out = softmax(scale * q k^T) v of some heads. Where causal there are as many keys as queries, and
// query t sees keys 0..t.
struct AttentionSize {
  int64_t heads, kv_heads, queries, keys, head_size;
  bool causal;

  double operations() const;  // 1e9 of them
  float scale() const;
  Attributes attributes() const;
  std::string text() const;
};
struct AttentionOperands {
  Tensor q, k, v;  // [1, tokens, heads * head_size]
};
Result<AttentionOperands> attention_operands(const AttentionSize& s);
// [tokens, heads, size] as [heads, tokens, size]: the layout that libraries' products like best.
Result<Tensor> by_head(const Tensor& x, int64_t tokens, int64_t heads);

// Both results are of the same product: |a - b| within `tolerance` of the root of the sum of
// squares of a row.
Status close(std::span<const float> ours, std::span<const float> theirs, double tolerance,
             const std::string& who);

// The model in `folder`; an error of code unavailable where no folder is given.
Result<std::shared_ptr<const Model>> load_model(const std::string& folder);
// What an embedding takes: texts of one length, of tokens that the vocabulary has.
Result<Tensors> random_tokens(const Model& model, int64_t texts, int64_t length);

// The best backend of the processor.
Result<std::unique_ptr<Backend>> make_processor_backend();

// cases_models.cc: decoders of random weights alone, on a GPU.
void add_decoder_cases(std::vector<Case>& cases, const std::string& python);

// Ends the program where a run that is measured fails.
void require(const Status& status);

std::string shape_text(std::initializer_list<int64_t> sizes);  // "512x512x64"

}  // namespace verbatim::bench
