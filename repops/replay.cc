#include <verbatim/repops/replay.h>

#include <algorithm>
#include <numeric>

#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_codec.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

constexpr std::string_view kMagic = "VBREPLAY";
constexpr uint32_t kFormat = 1;
constexpr size_t kMaxBlob = size_t{256} << 20;
constexpr uint32_t kMaxThreads = 1024, kMaxParts = 1 << 16;

using StepRoots = std::vector<std::vector<Digest>>;

Result<StepRoots> output_roots(const Program& program, Backend& backend, const Tensors& inputs) {
  StepRoots roots;
  RunOptions options;
  Status hashing;
  options.on_step = [&](uint64_t, std::span<const Tensor> outputs) {
    Result<std::vector<Digest>> step = tensor_roots(outputs);
    hashing = step.status();
    if (step.ok()) roots.push_back(*std::move(step));
    return hashing.ok();
  };
  VB_ASSIGN(const RunResult result, run_program(program, backend, inputs, options));
  (void)result;
  VB_TRY(std::move(hashing));
  return roots;
}

// Rows [begin, begin + count) of dimension 0.
Result<Tensor> rows(const Tensor& t, int64_t begin, int64_t count) {
  if (t.rank() == 0 || begin + count > t.dim(0))
    return bad_input("split passes the batch of " + t.describe());
  std::vector<int64_t> dims(t.shape().dims().begin(), t.shape().dims().end());
  dims[0] = count;
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor part, Tensor::allocate(t.dtype(), shape));
  const size_t row = static_cast<size_t>(t.shape().elements(1, t.rank())) * size_of(t.dtype());
  std::ranges::copy(t.bytes().subspan(static_cast<size_t>(begin) * row, part.byte_size()),
                    part.mutable_bytes().begin());
  return part;
}

// Runs the parts apart and compares each output row by row with the whole run's.
Result<std::string> compare_split(const Replay& replay, Backend& backend, const Tensors& whole) {
  int64_t begin = 0;
  for (int64_t count : replay.split) {
    Tensors part;
    for (const Tensor& t : replay.inputs) {
      VB_ASSIGN(Tensor p, rows(t, begin, count));
      part.push_back(std::move(p));
    }
    VB_ASSIGN(const RunResult result, run_program(replay.program, backend, part));
    for (size_t i = 0; i < whole.size(); ++i) {
      VB_ASSIGN(const Tensor expected, rows(whole[i], begin, count));
      if (!identical(expected, result.outputs[i]))
        return "output '" + replay.program.graph.outputs[i].name + "' of rows " +
               std::to_string(begin) + " to " + std::to_string(begin + count - 1) +
               " run alone differs from the same rows in the batch";
    }
    begin += count;
  }
  return std::string();
}

Result<std::string> compare(const Replay& replay, Backend& backend) {
  VB_ASSIGN(const StepRoots roots, output_roots(replay.program, backend, replay.inputs));
  if (roots.size() != replay.outputs.size())
    return std::to_string(roots.size()) + " steps, recorded are " +
           std::to_string(replay.outputs.size());
  for (size_t step = 0; step < roots.size(); ++step)
    for (size_t i = 0; i < roots[step].size(); ++i)
      if (roots[step][i] != replay.outputs[step][i])
        return "step " + std::to_string(step) + ", output '" +
               replay.program.graph.outputs[i].name + "': digest " + roots[step][i].hex() +
               ", recorded is " + replay.outputs[step][i].hex();
  if (replay.split.empty()) return std::string();
  VB_ASSIGN(const RunResult whole, run_program(replay.program, backend, replay.inputs));
  return compare_split(replay, backend, whole.outputs);
}

}  // namespace

Result<Replay> record_replay(Program program, Tensors inputs, std::vector<int64_t> split,
                             uint32_t threads) {
  Replay replay{std::move(program), std::move(inputs), std::move(split), threads, {}};
  replay.program.graph.compute_roots();
  const std::unique_ptr<Backend> reference = make_reference_backend();
  VB_ASSIGN(replay.outputs, output_roots(replay.program, *reference, replay.inputs));
  return replay;
}

Bytes encode_replay(const Replay& replay) {
  Writer w;
  w.raw(as_bytes(kMagic));
  w.u32(kFormat);
  w.u32(kSemanticsVersion);
  w.blob(encode_program(replay.program));
  for (const Initializer& init : replay.program.graph.initializers) write_tensor(w, init.tensor);
  for (const Tensor& t : replay.inputs) write_tensor(w, t);
  w.u32(replay.threads);
  w.u32(static_cast<uint32_t>(replay.split.size()));
  for (int64_t n : replay.split) w.i64(n);
  w.u32(static_cast<uint32_t>(replay.outputs.size()));
  for (const auto& step : replay.outputs)
    for (const Digest& root : step) w.raw(root.bytes);
  return w.take();
}

Result<Replay> decode_replay(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  VB_ASSIGN(const ByteView magic, r.raw(kMagic.size()));
  if (as_chars(magic) != kMagic) return bad_input_at(source, 0, "not a replay file");
  VB_ASSIGN(const uint32_t format, r.u32());
  VB_ASSIGN(const uint32_t semantics, r.u32());
  if (format != kFormat) return unsupported(source + ": replay format " + std::to_string(format));
  if (semantics != kSemanticsVersion)
    return unsupported(source + ": semantics version " + std::to_string(semantics));
  Replay replay;
  VB_ASSIGN(const ByteView program, r.blob(kMaxBlob));
  VB_ASSIGN(replay.program, decode_program(program, source));
  for (Initializer& init : replay.program.graph.initializers) {
    VB_ASSIGN(init.tensor, read_tensor(r, kMaxBlob));
    if (tensor_root(init.tensor) != init.root)
      return r.fail("weight '" + init.name + "' does not have its recorded root");
  }
  for (size_t i = 0; i < replay.program.graph.inputs.size(); ++i) {
    VB_ASSIGN(Tensor t, read_tensor(r, kMaxBlob));
    replay.inputs.push_back(std::move(t));
  }
  VB_ASSIGN(replay.threads, r.u32());
  if (replay.threads < 1 || replay.threads > kMaxThreads)
    return r.fail("thread count " + std::to_string(replay.threads));
  VB_ASSIGN(const uint32_t parts, r.count(8, kMaxParts));
  int64_t batch = 0;
  for (uint32_t i = 0; i < parts; ++i) {
    VB_ASSIGN(const int64_t n, r.i64());
    if (n < 1 || n > kMaxParts) return r.fail("split of " + std::to_string(n) + " rows");
    replay.split.push_back(n);
    batch += n;
  }
  if (parts > 0 &&
      (replay.inputs.empty() || std::ranges::any_of(replay.inputs, [&](const Tensor& t) {
         return t.rank() == 0 || t.dim(0) != batch;
       })))
    return r.fail("the split does not add up to the batch");
  const size_t outputs = replay.program.graph.outputs.size();
  VB_ASSIGN(const uint32_t steps, r.count(32 * outputs, replay.program.max_steps));
  for (uint32_t s = 0; s < steps; ++s) {
    std::vector<Digest> step;
    for (size_t i = 0; i < outputs; ++i) {
      VB_ASSIGN(const Digest root, read_digest(r));
      step.push_back(root);
    }
    replay.outputs.push_back(std::move(step));
  }
  VB_TRY(r.finish());
  return replay;
}

Result<std::string> run_replay(const Replay& replay, Backend& backend) {
  const int before = thread_count();
  set_thread_count(static_cast<int>(replay.threads));
  Result<std::string> result = compare(replay, backend);
  set_thread_count(before);
  return result;
}

}  // namespace verbatim
