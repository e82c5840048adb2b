#include <verbatim/verify/trace_import.h>

#include <filesystem>
#include <set>

#include <verbatim/core/npy.h>
#include <verbatim/verify/trace.h>

namespace verbatim {
namespace {

constexpr size_t kMaxFiles = 1 << 20;

Result<std::set<std::string>> npy_files(const std::string& folder) {
  std::set<std::string> files;
  std::error_code error;
  std::filesystem::directory_iterator it(folder, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (it->path().extension() == ".npy") files.insert(it->path().filename().string());
    if (files.size() > kMaxFiles)
      return over_limit(folder + ": more than " + std::to_string(kMaxFiles) + " files");
  }
  if (error) return unavailable(folder + ": " + error.message());
  return files;
}

// Adds a name; kAbsent where it is another value's, too.
void add_name(std::map<std::string, ValueId>& names, const std::string& name, ValueId value) {
  const auto [it, is_new] = names.emplace(name, value);
  if (!is_new && it->second != value) it->second = kAbsent;
}

// Which file holds which value, and what is left over on both sides.
struct Matching {
  std::map<ValueId, std::string> file_of_value;
  DumpReport report;
};

Matching match(const std::set<std::string>& files, const Graph& graph,
               const std::map<std::string, ValueId>& names) {
  std::map<std::string, ValueId> value_of_file;
  for (const auto& [name, value] : names) add_name(value_of_file, npy_file_name(name), value);
  std::map<ValueId, std::string> name_of_value;
  for (const auto& [name, value] : names) name_of_value.emplace(value, name);
  Matching m;
  for (const auto& [file, value] : value_of_file)
    if (value != kAbsent && files.contains(file)) m.file_of_value.emplace(value, file);
  for (const Node& node : graph.nodes)
    for (const ValueId v : node.outputs) {
      if (v == kAbsent) continue;
      if (m.file_of_value.contains(v))
        ++m.report.values;
      else if (const auto named = name_of_value.find(v); named != name_of_value.end())
        m.report.missing.push_back(named->second);
    }
  for (const std::string& file : files)
    if (const auto it = value_of_file.find(file);
        it == value_of_file.end() || it->second == kAbsent)
      m.report.unused.push_back(file);
  return m;
}

}  // namespace

std::map<std::string, ValueId> node_value_names(const Graph& graph) {
  std::map<std::string, ValueId> names;
  for (const Node& node : graph.nodes)
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kAbsent && !node.name.empty())
        add_name(names, i == 0 ? node.name : node.name + ":" + std::to_string(i), node.outputs[i]);
  for (const GraphOutput& out : graph.outputs) add_name(names, out.name, out.value);
  std::erase_if(names, [](const auto& name) { return name.second == kAbsent; });
  return names;
}

Result<DumpReport> import_dumps(const std::string& dumps, const Graph& graph,
                                const std::map<std::string, ValueId>& names,
                                const std::string& trace) {
  VB_ASSIGN(const std::set<std::string> files, npy_files(dumps));
  Matching matching = match(files, graph, names);
  if (matching.report.values == 0)
    return bad_input(dumps + ": none of its " + std::to_string(files.size()) +
                     " .npy files is called like a value of the model");
  VB_ASSIGN(const auto writer, TraceWriter::create(trace, graph, true));
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    std::vector<Tensor> outputs;
    for (const ValueId v : graph.nodes[i].outputs) {
      outputs.emplace_back();
      if (const auto it = matching.file_of_value.find(v); it != matching.file_of_value.end()) {
        VB_ASSIGN(outputs.back(), read_npy(dumps + "/" + it->second));
      }
    }
    VB_TRY(writer->on_node(0, static_cast<int32_t>(i), {}, outputs));
  }
  VB_TRY(writer->close().status());
  return std::move(matching.report);
}

}  // namespace verbatim
