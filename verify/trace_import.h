// Another engine's values as a trace, for finding where it parts from ours: a folder of .npy files,
// one for each named value, as a hook in ONNX Runtime or PyTorch writes them.
//
//   VB_ASSIGN(DumpReport report, import_dumps("dumps", graph, node_value_names(graph),
//   "trace-theirs")); VB_ASSIGN(TraceDiff diff, trace_diff(ours, theirs, {.absolute = 1e-5,
//   .relative = 1e-4}));
#pragma once

#include <map>
#include <string>
#include <vector>

#include <verbatim/repops/graph.h>

namespace verbatim {

// What may be dumped of a graph of our own: a node's first output by the node's name (what PyTorch
// calls the module), further ones by NAME:1 and so on, and the graph's outputs. A name of several
// values is left out.
std::map<std::string, ValueId> node_value_names(const Graph& graph);

struct DumpReport {
  uint64_t values = 0;               // imported
  std::vector<std::string> missing;  // named values without a file: allowed
  std::vector<std::string> unused;   // files that are no value's, or one of several values'
};

// Writes a partial trace of one step: for each node output that `names` names, what
// npy_file_name(name) in `dumps` holds. The graph's initializer roots must have been computed.
// Types and shapes are what the files say: trace_diff compares them. The trace is there once all of
// it is. Errors: unavailable (a file; the trace's folder is there already), bad_input (a damaged
// file; a folder without any value of the graph).
Result<DumpReport> import_dumps(const std::string& dumps, const Graph& graph,
                                const std::map<std::string, ValueId>& names,
                                const std::string& trace);

}  // namespace verbatim
