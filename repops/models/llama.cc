// Llama-type decoders: a step takes the new tokens and the KV cache, and yields the next token and
// the longer cache.
//
// Touvron et al., "LLaMA" (arXiv 2302.13971), as Hugging Face's LlamaForCausalLM computes it. Step
// inputs, in order: tokens int64 [1, T], positions int64 [T], then for each layer past_key and
// past_value float32 [1, P, kv_heads * head_dim]. Outputs, in order: next_token int64 [1], logits
// float32 [1, vocabulary], next tokens [1, 1], next positions [1], then each layer's longer key and
// value. Step 0 is the prompt; every later step is one token. The choice of the token is a node of
// the graph like all others, so it can be committed to and disputed.
#include <verbatim/repops/models/layers.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

enum Output : uint32_t { kNextToken, kLogits, kNextTokens, kNextPositions, kFirstCache };
enum Input : uint32_t { kTokens, kPositions, kFirstPast };

struct Llama {
  const ModelConfig& c;
  LayerBuilder& b;
  ValueId cosine = 0, sine = 0;

  ValueId norm(ValueId x, const std::string& name) {
    return b.add("RMSNormalization", {x, b.weight(name + ".weight", Shape{c.hidden_size})}, name,
                 {{"axis", int64_t{-1}}, {"epsilon", c.norm_eps}});
  }

  // cos and sin of position * theta^(-2i / head_dim), each operation rounded to binary32, the
  // frequencies computed here once.
  void rotary_tables(ValueId positions) {
    std::vector<float> frequency;
    for (int64_t i = 0; i < c.head_dim; i += 2)
      frequency.push_back(
          1.0f / pow_f32(c.rope_theta, static_cast<float>(i) / static_cast<float>(c.head_dim)));
    const auto half = static_cast<int64_t>(frequency.size());
    const ValueId f = b.constant<float>("rotary.frequency", Shape{1, half}, frequency);
    const ValueId column =
        b.add("Unsqueeze",
              {b.add("Cast", {positions}, "rotary.position", {{"to", int64_t{1}}}),
               b.constant<int64_t>("axis.1", Shape{1}, {1})},
              "rotary.column");
    const ValueId angle = b.add("Mul", {column, f}, "rotary.angle");
    cosine = b.add("Cos", {angle}, "rotary.cos");
    sine = b.add("Sin", {angle}, "rotary.sin");
  }

  ValueId rotate(ValueId x, int64_t heads, const std::string& name) {
    return b.own("RotaryEmbedding", {x, cosine, sine}, name, {{"heads", heads}});
  }

  ValueId attention(ValueId x, ValueId past_key, ValueId past_value, std::vector<ValueId>& cache,
                    const std::string& name) {
    const int64_t q_size = c.num_attention_heads * c.head_dim,
                  kv_size = c.num_key_value_heads * c.head_dim;
    const ValueId q = rotate(b.linear(x, name + ".q_proj", c.hidden_size, q_size, c.attention_bias),
                             c.num_attention_heads, name + ".q_rotary");
    const ValueId k =
        rotate(b.linear(x, name + ".k_proj", c.hidden_size, kv_size, c.attention_bias),
               c.num_key_value_heads, name + ".k_rotary");
    const ValueId v = b.linear(x, name + ".v_proj", c.hidden_size, kv_size, c.attention_bias);
    const auto joined = [&](ValueId past, ValueId fresh, const char* what) {
      if (past == kAbsent) return fresh;
      return b.add("Concat", {past, fresh}, name + what, {{"axis", int64_t{1}}});
    };
    const ValueId keys = joined(past_key, k, ".keys"), values = joined(past_value, v, ".values");
    cache.push_back(keys);
    cache.push_back(values);
    const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(c.head_dim));
    const ValueId y = b.attention({q, keys, values}, name,
                                  {{"heads", c.num_attention_heads},
                                   {"kv_heads", c.num_key_value_heads},
                                   {"scale", scale},
                                   {"causal", int64_t{1}}});
    return b.linear(y, name + ".o_proj", q_size, c.hidden_size, c.attention_bias);
  }

  ValueId embedding() {
    return b.weight("model.embed_tokens.weight", Shape{c.vocab_size, c.hidden_size});
  }

  ValueId logits(ValueId x) {
    x = norm(x, "model.norm");
    if (c.tie_word_embeddings && b.is_fp32()) return b.own("Linear", {x, embedding()}, "lm_head");
    return b.linear(x, c.tie_word_embeddings ? "model.embed_tokens" : "lm_head", c.hidden_size,
                    c.vocab_size, false);
  }

  // silu(gate) * up, with silu(x) = x * sigmoid(x): two roundings.
  ValueId mlp(ValueId x, const std::string& name) {
    const ValueId gate =
        b.linear(x, name + ".gate_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
    const ValueId up =
        b.linear(x, name + ".up_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
    const ValueId silu =
        b.add("Mul", {gate, b.add("Sigmoid", {gate}, name + ".sigmoid")}, name + ".silu");
    return b.linear(b.add("Mul", {silu, up}, name + ".product"), name + ".down_proj",
                    c.intermediate_size, c.hidden_size, c.mlp_bias);
  }
};

// All layers: tokens int64 [1, T] at positions int64 [T] to hidden states [1, T, hidden], not yet
// normalised. Each layer's keys and values, longer by T than past(i, "key" or "value"), which may
// be absent, are appended to `cache`.
template <class Past>
ValueId hidden_states(Llama& llama, ValueId tokens, ValueId positions, std::vector<ValueId>& cache,
                      Past&& past) {
  LayerBuilder& b = llama.b;
  llama.rotary_tables(positions);
  ValueId x = b.add("Gather", {llama.embedding(), tokens}, "model.embed_tokens");
  for (int64_t i = 0; i < llama.c.num_hidden_layers && !b.failed(); ++i) {
    const std::string name = "model.layers." + std::to_string(i);
    const ValueId past_key = past(i, "key"), past_value = past(i, "value");
    const ValueId a = llama.attention(llama.norm(x, name + ".input_layernorm"), past_key,
                                      past_value, cache, name + ".self_attn");
    x = b.add("Add", {x, a}, name + ".attention_residual");
    const ValueId m = llama.mlp(llama.norm(x, name + ".post_attention_layernorm"), name + ".mlp");
    x = b.add("Add", {x, m}, name + ".mlp_residual");
  }
  return x;
}

// The absolute index of the token to be drawn: the last position + 1.
ValueId next_position(LayerBuilder& b, ValueId positions) {
  const ValueId last =
      b.add("Gather", {positions, b.constant<int64_t>("last", Shape{1}, {-1})}, "position.last");
  return b.add("Add", {last, b.constant<int64_t>("one", Shape{1}, {1})}, "position.next");
}

Attributes sampling_attributes(const SamplingSettings& s) {
  return {{"temperature", s.temperature},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"seed", static_cast<int64_t>(s.seed)}};
}

}  // namespace

Result<Program> Model::generation_program(const GenerateSettings& settings) const {
  if (kind_ != ModelKind::llama)
    return usage_error(name_ + " is not a language model (a Llama-type folder)");
  if (settings.max_tokens < 1 || settings.max_tokens > config_.max_position_embeddings)
    return usage_error("max-tokens must be 1 to " +
                       std::to_string(config_.max_position_embeddings));
  LayerBuilder b(tensors_, settings.precision);
  Llama llama{config_, b};
  const int64_t kv_size = config_.num_key_value_heads * config_.head_dim;
  const ValueId tokens = b.graph.input("tokens", DType::i64, {1, -1}),
                positions = b.graph.input("positions", DType::i64, {-1});
  std::vector<ValueId> cache;
  ValueId x = hidden_states(llama, tokens, positions, cache, [&](int64_t i, const char* what) {
    return b.graph.input("past_" + std::string(what) + "." + std::to_string(i), DType::f32,
                         {1, -1, kv_size});
  });
  // Only the last row decides the next token.
  x = b.add("Gather", {x, b.constant<int64_t>("last_row", Shape{}, {-1})}, "model.last_row",
            {{"axis", int64_t{1}}});
  const ValueId logits = llama.logits(x);
  const ValueId next = next_position(b, positions);
  const ValueId token =
      b.own("Sample", {logits, next}, "sample", sampling_attributes(settings.sampling));
  b.graph.output("next_token", token);
  b.graph.output("logits", logits);
  b.graph.output(
      "next_tokens",
      b.add("Unsqueeze", {token, b.constant<int64_t>("axis.0", Shape{1}, {0})}, "next_tokens"));
  b.graph.output("next_positions", next);
  for (size_t i = 0; i < cache.size(); ++i)
    b.graph.output((i % 2 ? "value." : "key.") + std::to_string(i / 2), cache[i]);

  Program program;
  VB_ASSIGN(program.graph, b.finish());
  program.carries = {{kNextTokens, kTokens}, {kNextPositions, kPositions}};
  for (uint32_t i = 0; i < cache.size(); ++i)
    program.carries.push_back({kFirstCache + i, kFirstPast + i});
  program.max_steps = static_cast<uint32_t>(settings.max_tokens);
  if (!config_.eos_token_ids.empty()) {
    program.stop_output = kNextToken;
    program.stop_value = config_.eos_token_ids[0];
  }
  return program;
}

Result<Program> Model::scoring_program(const Precision& precision) const {
  if (kind_ != ModelKind::llama)
    return usage_error(name_ + " is not a language model (a Llama-type folder)");
  LayerBuilder b(tensors_, precision);
  Llama llama{config_, b};
  const ValueId tokens = b.graph.input("tokens", DType::i64, {1, -1}),
                positions = b.graph.input("positions", DType::i64, {-1});
  std::vector<ValueId> cache;
  const ValueId x =
      hidden_states(llama, tokens, positions, cache, [](int64_t, const char*) { return kAbsent; });
  b.graph.output("logits", llama.logits(x));
  Program program;
  VB_ASSIGN(program.graph, b.finish());
  return program;
}

Result<std::vector<int64_t>> Model::prompt_tokens(std::string_view prompt) const {
  if (!tokenizer_) return usage_error(name_ + " has no tokenizer");
  VB_ASSIGN(std::vector<int64_t> ids, tokenizer_->encode(prompt, true));
  if (ids.empty())
    return usage_error(
        "the prompt has no tokens, and the tokenizer adds no beginning-of-sequence token");
  // SentencePiece's dummy space would stand after the BOS token of an empty prompt.
  if (prompt.empty()) ids.resize(1);
  return ids;
}

Result<Tensors> Model::generation_inputs(const std::vector<int64_t>& tokens,
                                         const GenerateSettings& settings) const {
  const auto count = static_cast<int64_t>(tokens.size());
  if (count == 0) return usage_error("an empty prompt");
  if (count + settings.max_tokens > config_.max_position_embeddings)
    return usage_error("the prompt has " + std::to_string(count) + " tokens; with " +
                       std::to_string(settings.max_tokens) +
                       " new ones it passes the model's context of " +
                       std::to_string(config_.max_position_embeddings));
  for (int64_t t : tokens)
    if (t < 0 || t >= config_.vocab_size)
      return bad_input("token " + std::to_string(t) + " is outside the vocabulary");
  std::vector<int64_t> positions(tokens.size());
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int64_t>(i);
  Tensors inputs(2);
  VB_ASSIGN(inputs[kTokens], Tensor::from<int64_t>(Shape{1, count}, tokens));
  VB_ASSIGN(inputs[kPositions], Tensor::from<int64_t>(Shape{count}, positions));
  for (int64_t i = 0; i < 2 * config_.num_hidden_layers; ++i) {
    VB_ASSIGN(Tensor empty,
              Tensor::zeros(DType::f32, {1, 0, config_.num_key_value_heads * config_.head_dim}));
    inputs.push_back(std::move(empty));
  }
  return inputs;
}

}  // namespace verbatim
