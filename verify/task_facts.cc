#include <verbatim/verify/task_facts.h>

#include <verbatim/core/tensor_root.h>

namespace verbatim {

TaskFacts::TaskFacts(const Task& t)
    : task(&t),
      id(task_id(t)),
      producers(t.program.graph.producers()),
      carried_output(t.program.graph.inputs.size()),
      recorded(recorded_values(t.program)),
      appended(appended_values(t.program)) {
  const Program& program = t.program;
  for (const Tensor& input : t.inputs) input_roots.push_back(tensor_root(input));
  for (const Carry& carry : program.carries) carried_output[carry.input] = carry.output;
  const size_t outputs = program.graph.outputs.size(), first = recorded.size() - outputs;
  for (size_t i = 0; i < outputs; ++i) output_record.push_back(static_cast<uint32_t>(first + i));
}

}  // namespace verbatim
