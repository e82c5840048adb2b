// What a tokenizer is made of, as read from its file and before it is put together.
#pragma once

#include <verbatim/core/status.h>
#include <verbatim/repops/models/tokenizer.h>
#include <verbatim/repops/models/tokenizer_added.h>
#include <verbatim/repops/models/tokenizer_decode.h>
#include <verbatim/repops/models/tokenizer_model.h>
#include <verbatim/repops/models/tokenizer_normalize.h>
#include <verbatim/repops/models/tokenizer_split.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace verbatim::tokenizer {

struct Parts {
  std::vector<AddedToken> added_tokens;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  Model model;
  std::vector<int64_t> prefix, suffix;  // special tokens around the text's
  // None: the tokens are joined by spaces.
  std::optional<std::vector<Decoder>> decoders;
};

// Errors: bad_input where the parts contradict each other, limit for added tokens that are too
// long.
Result<std::unique_ptr<Tokenizer>> assemble(Parts parts);

}  // namespace verbatim::tokenizer
