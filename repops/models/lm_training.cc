#include <verbatim/repops/models/lm_training.h>

#include <algorithm>
#include <numeric>

namespace verbatim {
namespace {

std::vector<std::string> trained_tensors(const Model& model, const Graph& graph) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : model.tensors())
    if (std::ranges::find(graph.initializers, name, &Initializer::name) != graph.initializers.end())
      names.push_back(name);
  return names;
}

}  // namespace

Result<TextBatches> text_batches(const std::vector<int64_t>& tokens, int64_t rows, int64_t length) {
  const auto count = static_cast<int64_t>(tokens.size());
  if (rows < 1 || length < 1) return usage_error("a batch needs a row and a token");
  if (count < 2) return usage_error("the text has no token to predict");
  length = std::min(length, count - 1);
  const int64_t pieces = (count - 1) / length;
  rows = std::min(rows, pieces);
  const int64_t batches = pieces / rows;
  TextBatches b;
  VB_ASSIGN(b.tokens, Tensor::allocate(DType::i64, {batches, rows, length}));
  VB_ASSIGN(b.labels, Tensor::allocate(DType::i64, {batches, rows, length}));
  VB_ASSIGN(b.positions, Tensor::allocate(DType::i64, Shape{length}));
  const int64_t used = batches * rows * length;
  std::copy_n(tokens.begin(), used, b.tokens.mutable_data<int64_t>().begin());
  std::copy_n(tokens.begin() + 1, used, b.labels.mutable_data<int64_t>().begin());
  std::iota(b.positions.mutable_data<int64_t>().begin(), b.positions.mutable_data<int64_t>().end(),
            int64_t{0});
  return b;
}

Result<Training> language_model_training(const Model& model, TrainingSettings settings) {
  VB_ASSIGN(Program program, model.scoring_program(Precision{}));
  Graph& graph = program.graph;  // tokens, positions -> logits; for any number of rows
  graph.inputs[0].dims = {-1, -1};
  settings.parameters = trained_tensors(model, graph);
  const ValueId logits = graph.outputs[0].value;
  const std::string tokens = graph.inputs[0].name;
  GraphEditor e(std::move(graph));
  const ValueId labels = e.input("labels", DType::i64, {-1, -1});
  settings.batches = {tokens, "labels"};
  const ValueId loss = cross_entropy(e, logits, labels);
  VB_ASSIGN(const Graph with_loss, e.finish());
  return training_program(with_loss, loss, settings);
}

}  // namespace verbatim
