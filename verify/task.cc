#include <verbatim/verify/task.h>

#include <algorithm>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_codec.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

constexpr std::string_view kMagic = "VBTASK1\n";
constexpr size_t kMaxName = 4096, kMaxShownName = 64, kMaxShownText = size_t{1} << 20;
constexpr uint32_t kMaxShown = 4096, kMaxInputs = 4096;

Result<CommitLevel> read_level(Reader& r) {
  VB_ASSIGN(const uint8_t level, r.u8());
  if (level != 1 && level != 2) return r.fail("unknown commitment level " + std::to_string(level));
  return static_cast<CommitLevel>(level);
}

Status read_nonce(Reader& r, std::array<std::byte, 32>& nonce) {
  VB_ASSIGN(const ByteView bytes, r.raw(nonce.size()));
  std::copy(bytes.begin(), bytes.end(), nonce.begin());
  return {};
}

void write_shown(Writer& w, std::span<const Shown> shown) {
  w.u32(static_cast<uint32_t>(shown.size()));
  for (const Shown& s : shown) {
    w.text(s.name);
    w.blob(as_bytes(s.text));
  }
}

Status read_shown(Reader& r, std::vector<Shown>& shown) {
  VB_ASSIGN(const uint32_t n, r.count(8, kMaxShown));
  for (uint32_t i = 0; i < n; ++i) {
    Shown s;
    VB_ASSIGN(s.name, r.text(kMaxShownName));
    VB_ASSIGN(const ByteView text, r.blob(kMaxShownText));
    s.text = as_chars(text);
    if (!is_valid_utf8(s.text)) return r.fail("shown text is not UTF-8");
    if (!shown.empty() && s.name <= shown.back().name)
      return r.fail("shown names are not ascending");
    shown.push_back(std::move(s));
  }
  return {};
}

void write_limits(Writer& w, const NodeLimits& limits) {
  w.u64(limits.operations);
  w.u64(limits.tensor_bytes);
  w.u64(limits.node_bytes);
}

Status read_limits(Reader& r, NodeLimits& limits) {
  VB_ASSIGN(limits.operations, r.u64());
  VB_ASSIGN(limits.tensor_bytes, r.u64());
  VB_ASSIGN(limits.node_bytes, r.u64());
  return {};
}

bool fits(const GraphInput& want, const Tensor& have) {
  if (have.dtype() != want.dtype || have.rank() != static_cast<int>(want.dims.size())) return false;
  for (int i = 0; i < have.rank(); ++i)
    if (want.dims[i] >= 0 && want.dims[i] != have.dim(i)) return false;
  return true;
}

}  // namespace

Digest program_digest(const Program& program) {
  Writer w;
  w.raw(program_root(program.graph).bytes);
  write_chaining(w, program);
  return tagged_hash("verbatim.program.1", w.bytes());
}

TaskHeader task_header(const Task& task) {
  TaskHeader h;
  h.semantics = task.semantics;
  h.level = task.level;
  h.model_name = task.model_name;
  h.model_root = task.model_root;
  h.program_root = program_digest(task.program);
  h.max_steps = task.program.max_steps;
  for (size_t i = 0; i < task.inputs.size(); ++i)
    h.inputs.push_back({task.program.graph.inputs[i].name, tensor_root(task.inputs[i])});
  h.shown = task.shown;
  h.limits = task.limits;
  h.nonce = task.nonce;
  return h;
}

void encode_task_header(Writer& w, const TaskHeader& h) {
  w.u32(h.semantics);
  w.u8(static_cast<uint8_t>(h.level));
  w.text(h.model_name);
  w.raw(h.model_root.bytes);
  w.raw(h.program_root.bytes);
  w.u32(h.max_steps);
  w.u32(static_cast<uint32_t>(h.inputs.size()));
  for (const InputRoot& in : h.inputs) {
    w.text(in.name);
    w.raw(in.root.bytes);
  }
  write_shown(w, h.shown);
  write_limits(w, h.limits);
  w.raw(h.nonce);
}

Result<TaskHeader> decode_task_header(Reader& r) {
  TaskHeader h;
  VB_ASSIGN(h.semantics, r.u32());
  VB_ASSIGN(h.level, read_level(r));
  VB_ASSIGN(h.model_name, r.text(kMaxName));
  VB_ASSIGN(h.model_root, read_digest(r));
  VB_ASSIGN(h.program_root, read_digest(r));
  VB_ASSIGN(h.max_steps, r.u32());
  if (h.max_steps == 0 || h.max_steps > kMaxSteps)
    return r.fail("a program of " + std::to_string(h.max_steps) + " steps");
  VB_ASSIGN(const uint32_t inputs, r.count(36, kMaxInputs));
  for (uint32_t i = 0; i < inputs; ++i) {
    InputRoot in;
    VB_ASSIGN(in.name, r.text(kMaxName));
    VB_ASSIGN(in.root, read_digest(r));
    h.inputs.push_back(std::move(in));
  }
  VB_TRY(read_shown(r, h.shown));
  VB_TRY(read_limits(r, h.limits));
  VB_TRY(read_nonce(r, h.nonce));
  return h;
}

Digest task_id(const TaskHeader& header) {
  Writer w;
  encode_task_header(w, header);
  return tagged_hash("verbatim.task.1", w.bytes());
}

Digest task_id(const Task& task) { return task_id(task_header(task)); }

Status validate_task(const Task& task) {
  VB_TRY(validate_program(task.program));
  const Graph& g = task.program.graph;
  if (g.nodes.empty()) return bad_input("a program that computes nothing");
  if (g.inputs.size() > kMaxInputs) return over_limit("a task of too many inputs");
  if (task.inputs.size() != g.inputs.size())
    return bad_input(std::to_string(task.inputs.size()) + " inputs, the program takes " +
                     std::to_string(g.inputs.size()));
  for (size_t i = 0; i < task.inputs.size(); ++i)
    if (!fits(g.inputs[i], task.inputs[i]))
      return bad_input("input '" + g.inputs[i].name + "' is " + task.inputs[i].describe() +
                       ", which the program does not take");
  const auto presentable = [](const std::string& s, size_t limit) {
    return s.size() <= limit && printable(s) == s;
  };
  if (!presentable(task.model_name, kMaxName))
    return bad_input("the model's name is not printable");
  if (task.shown.size() > kMaxShown) return over_limit("a task shows at most " + std::to_string(kMaxShown) +
                      " texts, this has " + std::to_string(task.shown.size()) + ": make several runs of it");
  for (size_t i = 0; i < task.shown.size(); ++i) {
    const Shown& s = task.shown[i];
    if (!presentable(s.name, kMaxShownName) || s.text.size() > kMaxShownText ||
        !is_valid_utf8(s.text))
      return bad_input("shown text '" + printable(s.name) + "' is too long or not UTF-8");
    if (i > 0 && s.name <= task.shown[i - 1].name)
      return bad_input("shown names are not ascending");
  }
  return {};
}

Bytes encode_task(const Task& task) {
  Writer w;
  w.raw(as_bytes(kMagic));
  w.u32(task.semantics);
  w.u8(static_cast<uint8_t>(task.level));
  w.text(task.model_name);
  w.raw(task.model_root.bytes);
  w.blob(encode_graph(task.program.graph));
  write_chaining(w, task.program);
  w.u32(static_cast<uint32_t>(task.inputs.size()));
  for (const Tensor& t : task.inputs) write_tensor(w, t);
  write_shown(w, task.shown);
  write_limits(w, task.limits);
  w.raw(task.nonce);
  return w.take();
}

Result<Task> decode_task(ByteView bytes, const std::string& source) {
  if (bytes.size() > kMaxTaskBytes)
    return over_limit(source + ": a task of " + std::to_string(bytes.size()) + " bytes");
  Reader r(bytes, source);
  Task task;
  VB_ASSIGN(const ByteView magic, r.raw(kMagic.size()));
  if (as_chars(magic) != kMagic) return bad_input_at(source, 0, "not a task file");
  VB_ASSIGN(task.semantics, r.u32());
  VB_ASSIGN(task.level, read_level(r));
  VB_ASSIGN(task.model_name, r.text(kMaxName));
  VB_ASSIGN(task.model_root, read_digest(r));
  VB_ASSIGN(const ByteView graph, r.blob(kMaxTaskBytes));
  VB_ASSIGN(task.program.graph, decode_graph(graph, source + ": graph"));
  VB_TRY(read_chaining(r, task.program));
  VB_ASSIGN(const uint32_t inputs, r.count(6, kMaxInputs));
  for (uint32_t i = 0; i < inputs; ++i) {
    VB_ASSIGN(Tensor t, read_tensor(r, kMaxTaskBytes));
    task.inputs.push_back(std::move(t));
  }
  VB_TRY(read_shown(r, task.shown));
  VB_TRY(read_limits(r, task.limits));
  VB_TRY(read_nonce(r, task.nonce));
  VB_TRY(r.finish());
  VB_TRY(validate_task(task).with_context(source));
  return task;
}

Status write_task(const std::string& path, const Task& task) {
  VB_TRY(validate_task(task));
  const Bytes bytes = encode_task(task);
  if (bytes.size() > kMaxTaskBytes)
    return over_limit("a task of " + std::to_string(bytes.size()) + " bytes, at most " +
                      std::to_string(kMaxTaskBytes) + " fit in a task file");
  return write_file(path, bytes);
}

Result<Task> read_task(const std::string& path) {
  VB_ASSIGN(const Bytes bytes, read_file(path, kMaxTaskBytes));
  return decode_task(bytes, path);
}

}  // namespace verbatim
