// BERT encoders with Sentence Transformers' pooling: token ids to one vector for each sentence.
//
// Devlin et al., "BERT" (NAACL 2019), as Hugging Face's BertModel computes it: embeddings are word
// + type + position, normalised; a layer is attention, residual, normalisation, feed-forward with
// exact GELU, residual, normalisation (post-norm). A sentence sees only its own `lengths[b]`
// tokens, so padding and neighbours in the batch never change its bits.
#include <verbatim/repops/models/layers.h>

namespace verbatim {
namespace {

struct Bert {
  const ModelConfig& c;
  LayerBuilder& b;

  ValueId layer_norm(ValueId x, const std::string& name) {
    return b.add("LayerNormalization",
                 {x, b.weight(name + ".weight", Shape{c.hidden_size}),
                  b.weight(name + ".bias", Shape{c.hidden_size})},
                 name, {{"axis", int64_t{-1}}, {"epsilon", c.norm_eps}});
  }

  // Positions 0 .. T-1, from the shape of the ids.
  ValueId positions(ValueId ids) {
    const ValueId axis = b.constant<int64_t>("axis.1", Shape{}, {1}),
                  zero = b.constant<int64_t>("zero", Shape{}, {0});
    const ValueId shape = b.add("Shape", {ids}, "embeddings.shape");
    const ValueId length = b.add("Gather", {shape, axis}, "embeddings.length");
    return b.add("Range", {zero, length, axis}, "embeddings.positions");
  }

  ValueId embeddings(ValueId ids) {
    const Shape words{c.vocab_size, c.hidden_size},
        places{c.max_position_embeddings, c.hidden_size};
    const ValueId word = b.add(
        "Gather", {b.weight("embeddings.word_embeddings.weight", words), ids}, "embeddings.word");
    // Every token has type 0 in a single sentence.
    const ValueId zero = b.constant<int64_t>("type.0", Shape{}, {0});
    const ValueId type =
        b.add("Gather",
              {b.weight("embeddings.token_type_embeddings.weight", Shape{2, c.hidden_size}), zero},
              "embeddings.type");
    const ValueId place =
        b.add("Gather", {b.weight("embeddings.position_embeddings.weight", places), positions(ids)},
              "embeddings.position");
    const ValueId sum =
        b.add("Add", {b.add("Add", {word, type}, "embeddings.word_type"), place}, "embeddings.sum");
    return layer_norm(sum, "embeddings.LayerNorm");
  }

  ValueId layer(ValueId x, ValueId lengths, int64_t index) {
    using Role = LayerBuilder::Role;
    const std::string name = "encoder.layer." + std::to_string(index);
    const Role role = 3 * (index + 1) > 2 * c.num_hidden_layers ? Role::sensitive : Role::usual;
    const int64_t h = c.hidden_size;
    const std::string self = name + ".attention.self";
    const ValueId q = b.linear(x, self + ".query", h, h, true, role),
                  k = b.linear(x, self + ".key", h, h, true, role),
                  v = b.linear(x, self + ".value", h, h, true, Role::sensitive);
    const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(h / c.num_attention_heads));
    const ValueId attended =
        b.attention({q, k, v, lengths}, self, {{"heads", c.num_attention_heads}, {"scale", scale}});
    const ValueId projected =
        b.linear(attended, name + ".attention.output.dense", h, h, true, role);
    const ValueId middle =
        layer_norm(b.add("Add", {projected, x}, name + ".attention.output.residual"),
                   name + ".attention.output.LayerNorm");
    const ValueId wide =
        b.linear(middle, name + ".intermediate.dense", h, c.intermediate_size, true, role);
    const ValueId active = b.add("Gelu", {wide}, name + ".intermediate.gelu");
    const ValueId narrow =
        b.linear(active, name + ".output.dense", c.intermediate_size, h, true, role);
    return layer_norm(b.add("Add", {narrow, middle}, name + ".output.residual"),
                      name + ".output.LayerNorm");
  }

  ValueId pool(ValueId x, ValueId lengths) {
    if (!c.cls_pooling) return b.own("MeanPool", {x, lengths}, "pooling.mean");
    return b.add("Gather", {x, b.constant<int64_t>("pooling.first", Shape{}, {0})}, "pooling.cls",
                 {{"axis", int64_t{1}}});
  }
};

}  // namespace

Result<Program> Model::embedding_program(const Precision& precision) const {
  if (kind_ != ModelKind::bert)
    return usage_error(name_ + " is not a sentence embedding model (a BERT folder)");
  LayerBuilder builder(tensors_, precision);
  Bert bert{config_, builder};
  const ValueId ids = builder.graph.input("input_ids", DType::i64, {-1, -1}),
                lengths = builder.graph.input("lengths", DType::i64, {-1});
  ValueId x = bert.embeddings(ids);
  for (int64_t i = 0; i < config_.num_hidden_layers && !builder.failed(); ++i)
    x = bert.layer(x, lengths, i);
  x = bert.pool(x, lengths);
  if (config_.normalize) x = builder.own("L2Normalize", {x}, "normalize");
  builder.graph.output("embeddings", x);
  Program program;
  VB_ASSIGN(program.graph, builder.finish());
  return program;
}

Result<Tensors> Model::embedding_inputs(const std::vector<std::string>& texts) const {
  if (kind_ != ModelKind::bert || !tokenizer_)
    return usage_error(name_ + " is not a sentence embedding model with a tokenizer");
  if (texts.empty()) return usage_error("no text to embed");
  std::vector<std::vector<int64_t>> all;
  size_t longest = 0;
  for (const std::string& text : texts) {
    VB_ASSIGN(std::vector<int64_t> ids, tokenizer_->encode(text, true));
    // Longer texts are cut as Sentence Transformers cuts them, keeping the closing [SEP].
    const auto limit = static_cast<size_t>(config_.max_seq_length);
    if (ids.size() > limit) {
      ids[limit - 1] = ids.back();
      ids.resize(limit);
    }
    longest = std::max(longest, ids.size());
    all.push_back(std::move(ids));
  }
  VB_ASSIGN(Tensor ids, Tensor::zeros(DType::i64, {static_cast<int64_t>(texts.size()),
                                                   static_cast<int64_t>(longest)}));
  VB_ASSIGN(Tensor lengths,
            Tensor::allocate(DType::i64, Shape{static_cast<int64_t>(texts.size())}));
  for (size_t i = 0; i < all.size(); ++i) {
    std::copy(all[i].begin(), all[i].end(),
              ids.mutable_data<int64_t>().begin() + static_cast<std::ptrdiff_t>(i * longest));
    lengths.mutable_data<int64_t>()[i] = static_cast<int64_t>(all[i].size());
  }
  return Tensors{ids, lengths};
}

}  // namespace verbatim
