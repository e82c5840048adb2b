// Golden vectors: every backend of this machine gives what the files hold, to the bit, and so it
// does with several threads and with prepared weights. With VERBATIM_RECORD_GOLDEN set the scalar
// reference writes the files anew; tests/golden/check.py then says, from the document alone,
// whether it was right.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include <verbatim/core/file.h>
#include <verbatim/repops/replay.h>

#include "kernels/compare.h"
#include "kernels/golden.h"
#include "support/paths.h"

namespace verbatim::test {
namespace {

std::vector<std::pair<std::string, Result<Tensors>>> every_way_of(Backend& backend,
                                                                  const Golden& g) {
  if (g.c.node.domain != "function") return every_way(backend, g.c);
  std::vector<std::pair<std::string, Result<Tensors>>> ways;
  ways.emplace_back("", evaluate_golden(g));
  return ways;
}

void expect_golden(Backend& backend, const Golden& g) {
  for (const auto& [how, have] : every_way_of(backend, g)) {
    const std::string what = g.name + " by " + std::string(backend.name()) + ", " + how;
    ASSERT_TRUE(have.ok()) << what << ": " << have.status().message();
    EXPECT_EQ(golden_difference(g, *have), "") << what;
  }
}

std::vector<Json> read_lines(const std::string& path) {
  const Bytes bytes = *read_file(path, 1 << 24);
  std::istringstream text{std::string(as_chars(bytes))};
  std::vector<Json> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
  return lines;
}

void record(const std::string& folder) {
  for (const auto& [file, cases] : golden_cases()) {
    std::string text;
    for (Json line : cases) {
      const Result<Golden> g = read_golden(line);
      ASSERT_TRUE(g.ok()) << g.status().message();
      const Result<Tensors> outputs = evaluate_golden(*g);
      ASSERT_TRUE(outputs.ok()) << g->name << ": " << outputs.status().message();
      line.erase("count");
      line["outputs"] = Json::array();
      for (const Tensor& t : *outputs) line["outputs"].push_back(golden_output(t));
      text += line.dump() + "\n";
    }
    ASSERT_TRUE(write_file(folder + "/" + file + ".jsonl", as_bytes(text)).ok());
  }
}

TEST(Golden, EveryBackendGivesTheRecordedBits) {
  const std::string folder = std::string(kTestsDir) + "/golden";
  if (std::getenv("VERBATIM_RECORD_GOLDEN") != nullptr) record(folder);
  std::vector<std::string> names;
  for (const BackendInfo& info : tested_backends())
    if (info.missing.empty()) names.push_back(info.name);
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jsonl") continue;
    for (const Json& line : read_lines(entry.path().string())) {
      const Result<Golden> g = read_golden(line);
      ASSERT_TRUE(g.ok()) << entry.path() << ": " << g.status().message();
      for (const std::string& name : names) expect_golden(**make_tested_backend(name), *g);
      ++count;
    }
  }
  // The generator's cases are all there, so that a file that was left out is missed.
  size_t cases = 0;
  for (const auto& [file, list] : golden_cases()) cases += list.size();
  EXPECT_EQ(count, cases);
}

// Bodies are graphs, which cases do not hold: replay files have these operators.
constexpr std::string_view kInReplays[] = {"If", "Loop", "Scan"};

using Names = std::set<std::pair<std::string, std::string>>;

void add_operators(const std::vector<Node>& nodes, Names& names) {
  for (const Node& node : nodes) {
    names.emplace(node.domain, node.op);
    for (const auto& [name, value] : node.attributes.map())
      if (const auto* body = std::get_if<Body>(&value)) add_operators((*body)->nodes, names);
  }
}

TEST(Golden, EveryOperatorHasACaseOrAReplayFile) {
  Names cases, replayed;
  for (const auto& [file, list] : golden_cases())
    for (const Json& c : list) cases.emplace(c.at("domain"), c.at("op"));
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(kTestsDir) + "/replay")) {
    if (entry.path().extension() != ".vreplay") continue;
    const Result<Replay> replay =
        decode_replay(*read_file(entry.path().string(), 1 << 24), entry.path().string());
    ASSERT_TRUE(replay.ok()) << replay.status().message();
    add_operators(replay->program.graph.nodes, replayed);
  }
  for (const OpDef* op : all_ops()) {
    const std::pair<std::string, std::string> name(op->domain, op->name);
    const bool bodies = std::ranges::find(kInReplays, op->name) != std::end(kInReplays);
    EXPECT_TRUE((bodies ? replayed : cases).contains(name))
        << "'" << op->domain << "' " << op->name << " has no "
        << (bodies ? "replay file" : "golden case");
  }
}

}  // namespace
}  // namespace verbatim::test
