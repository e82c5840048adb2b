#include <verbatim/repops/models/silero.h>

#include <algorithm>

#include <verbatim/repops/models/layers.h>

namespace verbatim {
namespace {

constexpr int64_t kBins = 129, kHidden = 128;

// The weights' names are the safetensors file's, the operators and their order the ONNX file's:
// with the same weights both give the same bits.
struct Silero {
  LayerBuilder& b;
  std::map<int64_t, ValueId> integers = {};

  struct Step {
    ValueId probability, state;
  };

  ValueId index(const std::string& name, int64_t i) {
    return b.constant<int64_t>(name, Shape{}, {i});
  }
  // A vector of one integer: an axis, a bound of a slice.
  ValueId integer(int64_t i) {
    const auto it = integers.find(i);
    if (it != integers.end()) return it->second;
    return integers[i] = b.constant<int64_t>("integer." + std::to_string(i), Shape{1}, {i});
  }

  ValueId conv(ValueId x, const std::string& name, const Shape& weight, bool bias, int64_t stride,
               int64_t pad) {
    std::vector<ValueId> inputs = {x, b.weight(name + ".weight", weight)};
    if (bias) inputs.push_back(b.weight(name + ".bias", Shape{weight[0]}));
    return b.add(
        "Conv", std::move(inputs), name,
        {{"strides", std::vector<int64_t>{stride}}, {"pads", std::vector<int64_t>{pad, pad}}});
  }

  // |STFT|: channels 0 to 128 are the real parts, 129 to 257 the imaginary ones.
  ValueId magnitudes(ValueId samples) {
    const ValueId padded = b.add(
        "Pad", {samples, b.constant<int64_t>("stft.pads", Shape{4}, {0, 0, 0, kSileroContext})},
        "stft.pad", {{"mode", std::string("reflect")}});
    const ValueId parts = conv(b.add("Unsqueeze", {padded, integer(1)}, "stft.channel"),
                               "stft_conv", Shape{2 * kBins, 1, 256}, false, 128, 0);
    const ValueId two = b.constant<float>("stft.two", Shape{}, {2.0f});
    const auto squares = [&](const char* part, int64_t from, int64_t to) {
      const std::string name = std::string("stft.") + part;
      const ValueId x =
          b.add("Slice", {parts, integer(from), integer(to), integer(1), integer(1)}, name);
      return b.add("Pow", {x, two}, name + ".square");
    };
    const ValueId re = squares("real", 0, kBins), im = squares("imaginary", kBins, 2 * kBins);
    return b.add("Sqrt", {b.add("Add", {re, im}, "stft.power")}, "stft.magnitude");
  }

  ValueId encoder(ValueId x) {
    const auto layer = [&](const std::string& name, const Shape& weight, int64_t stride) {
      x = b.add("Relu", {conv(x, name, weight, true, stride, 1)}, name + ".relu");
    };
    layer("conv1", Shape{128, kBins, 3}, 1);
    layer("conv2", Shape{64, 128, 3}, 2);
    layer("conv3", Shape{64, 64, 3}, 2);
    layer("conv4", Shape{kHidden, 64, 3}, 1);
    return b.add("Gather", {x, index("first", 0)}, "encoder.first", {{"axis", int64_t{2}}});
  }

  ValueId gemm(ValueId x, const std::string& name) {
    return b.add("Gemm",
                 {x, b.weight("lstm_cell.weight_" + name, Shape{4 * kHidden, kHidden}),
                  b.weight("lstm_cell.bias_" + name, Shape{4 * kHidden})},
                 "lstm_cell." + name, {{"transB", int64_t{1}}});
  }

  // One LSTM cell; gates in the order input, forget, cell, output. Returns the new hidden and cell
  // state [B, 128].
  std::pair<ValueId, ValueId> lstm(ValueId x, ValueId state) {
    const ValueId hidden = b.add("Gather", {state, index("state.hidden", 0)}, "lstm_cell.hidden"),
                  cell = b.add("Gather", {state, index("state.cell", 1)}, "lstm_cell.cell");
    const ValueId gates = b.add("Add", {gemm(hidden, "hh"), gemm(x, "ih")}, "lstm_cell.gates");
    const ValueId parts =
        b.graph.add("Split", "", {gates}, {{"axis", int64_t{1}}, {"num_outputs", int64_t{4}}},
                    "lstm_cell.split", 4);
    const ValueId in = b.add("Sigmoid", {parts}, "lstm_cell.input_gate"),
                  forget = b.add("Sigmoid", {parts + 1}, "lstm_cell.forget_gate"),
                  candidate = b.add("Tanh", {parts + 2}, "lstm_cell.candidate"),
                  out = b.add("Sigmoid", {parts + 3}, "lstm_cell.output_gate");
    const ValueId next = b.add("Add",
                               {b.add("Mul", {forget, cell}, "lstm_cell.kept"),
                                b.add("Mul", {in, candidate}, "lstm_cell.added")},
                               "lstm_cell.next_cell");
    return {b.add("Mul", {out, b.add("Tanh", {next}, "lstm_cell.tanh")}, "lstm_cell.next_hidden"),
            next};
  }

  Step step(ValueId samples, ValueId state) {
    const auto [hidden, cell] = lstm(encoder(magnitudes(samples)), state);
    const ValueId column = b.add("Unsqueeze", {hidden, integer(-1)}, "decoder.column");
    const ValueId next = b.add("Concat",
                               {b.add("Unsqueeze", {hidden, integer(0)}, "state.hidden_row"),
                                b.add("Unsqueeze", {cell, integer(0)}, "state.cell_row")},
                               "state.next", {{"axis", int64_t{0}}});
    const ValueId score = conv(b.add("Relu", {column}, "decoder.relu"), "final_conv",
                               Shape{1, kHidden, 1}, true, 1, 0);
    const ValueId flat = b.add(
        "Squeeze", {b.add("Sigmoid", {score}, "decoder.sigmoid"), integer(1)}, "decoder.squeeze");
    const ValueId mean =
        b.add("ReduceMean", {flat, integer(1)}, "decoder.mean", {{"keepdims", int64_t{0}}});
    return {b.add("Unsqueeze", {mean, integer(1)}, "probability"), next};
  }
};

}  // namespace

bool is_silero(const TensorMap& tensors) {
  return std::ranges::all_of(
      std::initializer_list<const char*>{"stft_conv.weight", "conv4.weight", "lstm_cell.weight_ih",
                                         "final_conv.weight"},
      [&](const char* name) { return tensors.contains(name); });
}

Result<Graph> silero_graph(const TensorMap& tensors) {
  LayerBuilder builder(tensors, {});
  const ValueId samples =
                    builder.graph.input("input", DType::f32, {-1, kSileroContext + kSileroChunk}),
                state = builder.graph.input("state", DType::f32, {2, -1, kHidden});
  const auto [probability, next] = Silero{builder}.step(samples, state);
  builder.graph.output("output", probability);
  builder.graph.output("stateN", next);
  return builder.finish();
}

Result<Program> silero_program(const TensorMap& tensors, int64_t chunks) {
  if (chunks < 1 || chunks > kMaxSteps)
    return usage_error("audio of " + std::to_string(chunks) + " chunks: 1 to " +
                       std::to_string(kMaxSteps) + " can be run");
  LayerBuilder builder(tensors, {});
  Silero silero{builder};
  enum Input : uint32_t { kAudio, kPosition, kState, kPast };
  enum Output : uint32_t { kProbabilities, kNextState, kNextPosition };
  const ValueId audio = builder.graph.input("audio", DType::f32,
                                            {-1, kSileroContext + kSileroChunk * chunks}),
                position = builder.graph.input("position", DType::i64, {1}),
                state = builder.graph.input("state", DType::f32, {2, -1, kHidden}),
                past = builder.graph.input("past", DType::f32, {-1, -1});
  const ValueId end =
      builder.add("Add", {position, silero.integer(kSileroContext + kSileroChunk)}, "chunk.end");
  const ValueId chunk = builder.add("Slice", {audio, position, end, silero.integer(1)}, "chunk");
  const auto [probability, next] = silero.step(chunk, state);
  builder.graph.output("probabilities", builder.add("Concat", {past, probability}, "probabilities",
                                                    {{"axis", int64_t{1}}}));
  builder.graph.output("stateN", next);
  builder.graph.output("next_position",
                       builder.add("Add", {position, silero.integer(kSileroChunk)}, "chunk.next"));
  Program program;
  VB_ASSIGN(program.graph, builder.finish());
  program.carries = {{kProbabilities, kPast}, {kNextState, kState}, {kNextPosition, kPosition}};
  program.max_steps = static_cast<uint32_t>(chunks);
  return program;
}

Result<std::vector<Tensor>> silero_inputs(const Tensor& audio) {
  if (audio.dtype() != DType::f32 || audio.rank() < 1 || audio.rank() > 2 || audio.elements() == 0)
    return bad_input("audio is " + audio.describe() +
                     ": float32 [N] or [B, N] is needed, samples in -1 to 1 at 16 kHz");
  const int64_t samples = audio.dim(audio.rank() - 1), rows = audio.elements() / samples;
  const int64_t chunks = samples / kSileroChunk + (samples % kSileroChunk != 0);
  VB_ASSIGN(const Shape shape,
            Shape::of(std::vector<int64_t>{rows, kSileroContext + kSileroChunk * chunks}));
  VB_ASSIGN(Tensor padded, Tensor::zeros(DType::f32, shape));
  const std::span<float> out = padded.mutable_data<float>();
  for (int64_t r = 0; r < rows; ++r)
    std::ranges::copy(
        audio.data<float>().subspan(static_cast<size_t>(r * samples), static_cast<size_t>(samples)),
        out.begin() + r * shape[1] + kSileroContext);
  VB_ASSIGN(Tensor position, Tensor::zeros(DType::i64, Shape{1}));
  VB_ASSIGN(Tensor state, Tensor::zeros(DType::f32, {2, rows, kHidden}));
  VB_ASSIGN(Tensor past, Tensor::zeros(DType::f32, {rows, 0}));
  return std::vector<Tensor>{std::move(padded), std::move(position), std::move(state),
                             std::move(past)};
}

}  // namespace verbatim
