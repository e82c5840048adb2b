#include <verbatim/repops/program.h>

namespace verbatim {

Status validate_program(const Program& program) {
  VB_TRY(program.graph.validate());
  if (program.graph.outputs.empty()) return bad_input("a program without an output");
  if (program.max_steps == 0) return bad_input("a program of no steps");
  if (program.max_steps > kMaxSteps)
    return over_limit("a program of " + std::to_string(program.max_steps) + " steps");
  if (program.carries.size() > kMaxCarries)
    return over_limit("a program of " + std::to_string(program.carries.size()) + " carries");
  std::vector<bool> carried(program.graph.inputs.size());
  for (const Carry& c : program.carries) {
    if (c.output >= program.graph.outputs.size() || c.input >= carried.size())
      return bad_input("a carry names no input or output");
    if (carried[c.input])
      return bad_input("input " + program.graph.inputs[c.input].name + " is carried twice");
    carried[c.input] = true;
  }
  if (program.stop_output && *program.stop_output >= program.graph.outputs.size())
    return bad_input("the stop output does not exist");
  return {};
}

bool stops_after(const Program& program, std::span<const Tensor> outputs) {
  if (!program.stop_output) return false;
  const Tensor& t = outputs[*program.stop_output];
  return t.dtype() == DType::i64 && t.elements() == 1 && t.data<int64_t>()[0] == program.stop_value;
}

void write_chaining(Writer& w, const Program& program) {
  w.u32(static_cast<uint32_t>(program.carries.size()));
  for (const Carry& c : program.carries) {
    w.u32(c.output);
    w.u32(c.input);
  }
  w.u32(program.max_steps);
  w.u8(program.stop_output.has_value());
  w.u32(program.stop_output.value_or(0));
  w.i64(program.stop_output ? program.stop_value : 0);
}

Status read_chaining(Reader& r, Program& program) {
  VB_ASSIGN(const uint32_t carries, r.count(8, kMaxCarries));
  for (uint32_t i = 0; i < carries; ++i) {
    Carry c{};
    VB_ASSIGN(c.output, r.u32());
    VB_ASSIGN(c.input, r.u32());
    program.carries.push_back(c);
  }
  VB_ASSIGN(program.max_steps, r.u32());
  VB_ASSIGN(const uint8_t stops, r.u8());
  if (stops > 1) return r.fail("a flag that is neither 0 nor 1");
  VB_ASSIGN(const uint32_t output, r.u32());
  VB_ASSIGN(program.stop_value, r.i64());
  if (stops == 1)
    program.stop_output = output;
  else if (output != 0 || program.stop_value != 0)
    return r.fail("a stop rule without its flag");
  return {};
}

Bytes encode_program(const Program& program) {
  Writer w;
  w.blob(encode_graph(program.graph));
  write_chaining(w, program);
  return w.take();
}

Result<Program> decode_program(ByteView bytes, const std::string& source) {
  constexpr size_t kMaxGraphBytes = size_t{256} << 20;
  Reader r(bytes, source);
  Program program;
  VB_ASSIGN(const ByteView graph, r.blob(kMaxGraphBytes));
  VB_ASSIGN(program.graph, decode_graph(graph, source));
  VB_TRY(read_chaining(r, program));
  VB_TRY(r.finish());
  VB_TRY(validate_program(program).with_context(source));
  return program;
}

}  // namespace verbatim
