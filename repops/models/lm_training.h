// Training a language model on a text: the next token is what every position is to predict.
//
//   VB_ASSIGN(const TextBatches b, text_batches(*model->prompt_tokens(text), 4, 128));
//   VB_ASSIGN(const Training t, language_model_training(*model, settings));
//   Tensors inputs = {b.tokens, b.positions, b.labels};
//   inputs.insert(inputs.end(), t.state.begin(), t.state.end());
#pragma once

#include <string>
#include <vector>

#include <verbatim/repops/models/model.h>
#include <verbatim/repops/training.h>

namespace verbatim {

// tokens and labels int64 [batches, rows, length]: the text cut into pieces of `length` tokens that
// follow each other, batch after batch and row after row, each position's label being the token
// after it. positions int64 [length]: 0, 1, ...
struct TextBatches {
  Tensor tokens, positions, labels;
};
// Tokens that do not fill a batch are left out. A text of fewer pieces than `rows` is one batch of
// fewer rows; one of fewer tokens than a piece needs, a shorter piece. Errors: rows or length below
// 1, fewer than 2 tokens.
Result<TextBatches> text_batches(const std::vector<int64_t>& tokens, int64_t rows, int64_t length);

// A program whose own inputs are tokens, positions and labels, as in TextBatches. Trained are all
// tensors of the model that its graph uses, in the order of their names; `settings` need not name
// parameters and batches. Errors: a model that is not of the Llama type; training_program()'s.
Result<Training> language_model_training(const Model& model, TrainingSettings settings);

}  // namespace verbatim
