// Weights in the safetensors format: 8 bytes of header length, a JSON header of names, types,
// shapes and offsets, then the bytes. https://github.com/huggingface/safetensors, "Format". Files
// are memory-mapped; a tensor stays valid as long as it is held.
#pragma once

#include <map>
#include <string>

#include <verbatim/core/codec.h>
#include <verbatim/core/tensor.h>

namespace verbatim {

using TensorMap = std::map<std::string, Tensor>;

// Strict, as the format asks: offsets ascending without gaps or overlaps, sizes that match types
// and shapes, nothing left over. `owner` keeps `bytes` valid.
Result<TensorMap> parse_safetensors(ByteView bytes, const std::string& source,
                                    std::shared_ptr<const void> owner);
// One file, or the shards that model.safetensors.index.json of the same folder names.
Result<TensorMap> load_safetensors(const std::string& folder);

// A file of these tensors in the order of their names. Errors: an element type that the format does
// not have.
Result<Bytes> encode_safetensors(const TensorMap& tensors);

}  // namespace verbatim
