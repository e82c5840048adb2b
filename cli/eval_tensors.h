// eval --tensors: the error of single operators, in every precision and format, against binary64.
#pragma once

#include <string>

#include <verbatim/cli/common.h>

namespace verbatim::cli {

// Products and attention of generated tensors and, where a model (BERT type) and a text are given,
// of what its linear layers and its attention get in binary32 for the text's first two lines.
Result<int> evaluate_tensors(const Context& context, const std::string& model,
                             const std::string& text);

}  // namespace verbatim::cli
