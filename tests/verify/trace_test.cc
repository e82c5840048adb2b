// Stored traces: what is written is read, the first difference is named, and damaged files are
// refused.
#include <verbatim/verify/trace.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>

#include <verbatim/core/npy.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/semantics.h>
#include <verbatim/verify/trace_import.h>

#include "support.h"

namespace verbatim::test {
namespace {

class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Random random(8);
    task = make_task(random, {3, 5, 4, 4}, CommitLevel::full);
    task.program.stop_value = -1;
  }
  std::string store(const std::string& name, std::optional<Fault> fault = std::nullopt) {
    const std::string dir = ::testing::TempDir() + "/trace-" + name + std::to_string(::getpid());
    std::filesystem::remove_all(dir);
    auto writer = ok(TraceWriter::create(dir, task.program.graph));
    RunOptions options;
    options.sink = writer.get();
    if (fault)
      options.tamper = [&](uint64_t step, int32_t node, Tensors& outputs) {
        if (step == fault->step && node == fault->node)
          outputs[0] = ok(flip_bit(outputs[0], fault->element, fault->bit));
      };
    const auto backend = make_reference_backend();
    ok(run_program(task.program, *backend, task.inputs, options).status());
    stats = ok(writer->close());
    return dir;
  }
  Task task;
  TraceStats stats;
};

TEST_F(TraceTest, HoldsEveryValue) {
  const std::string dir = store("a");
  const TraceReader t = ok(TraceReader::open(dir));
  EXPECT_EQ(t.size(), 4 * task.program.graph.nodes.size());
  EXPECT_EQ(stats.values, t.size());
  EXPECT_EQ(stats.bytes, ok(read_file(dir + "/index", 1 << 24)).size() +
                             ok(read_file(dir + "/data", 1 << 24)).size());
  for (size_t i = 0; i < t.size(); ++i) EXPECT_TRUE(t.tensor(ok(t.record(i))).ok());
  EXPECT_TRUE(ok(trace_diff(t, t, {})).equal);
}

TEST_F(TraceTest, IsThereOnceItIsClosed) {
  const std::string parent = ::testing::TempDir() + "/unclosed" + std::to_string(::getpid());
  std::filesystem::remove_all(parent);
  std::filesystem::create_directory(parent);
  for (const bool closed : {false, true}) {
    auto writer = ok(TraceWriter::create(parent + "/trace", task.program.graph));
    EXPECT_FALSE(std::filesystem::exists(parent + "/trace"));
    if (closed) ok(writer->close().status());
    writer.reset();
    EXPECT_EQ(std::filesystem::exists(parent + "/trace"), closed);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(parent), {}), closed ? 1 : 0);
  }
  std::filesystem::remove_all(parent);
}

TEST_F(TraceTest, DiffNamesTheFirstDifference) {
  const TraceReader a = ok(TraceReader::open(store("a")));
  const TraceReader b = ok(TraceReader::open(store("b", Fault{2, 3, 4, 0})));
  const TraceDiff d = ok(trace_diff(a, b, {}));
  EXPECT_FALSE(d.equal);
  EXPECT_EQ(d.step, 2u);
  EXPECT_EQ(d.node, 3u);
  EXPECT_EQ(d.element, 4);
  EXPECT_EQ(d.tile, 0);
  EXPECT_EQ(d.ulp, 1u);
  EXPECT_EQ(d.apart, "1 ULP apart");
  EXPECT_EQ(d.a_bits.size(), 8u);
  EXPECT_NE(d.a_bits, d.b_bits);
  EXPECT_EQ(d.title, task.program.graph.nodes[3].title());
}

TEST_F(TraceTest, ToleranceLetsSmallDifferencesPass) {
  const TraceReader a = ok(TraceReader::open(store("a")));
  const TraceReader b = ok(TraceReader::open(store("b", Fault{2, 3, 4, 0})));
  EXPECT_TRUE(ok(trace_diff(a, b, {1e-3})).equal);
  const TraceReader c = ok(TraceReader::open(store("c", Fault{2, 3, 4, 31})));
  const TraceDiff d = ok(trace_diff(a, c, {1e-6}));
  EXPECT_FALSE(d.equal);
  EXPECT_EQ(d.node, 3u);
}

TEST_F(TraceTest, DamagedFilesAreRefused) {
  const std::string dir = store("a");
  const Bytes index = ok(read_file(dir + "/index", 1 << 24)),
              data = ok(read_file(dir + "/data", 1 << 24));
  const TraceReader good = ok(TraceReader::parse(index, data, "t"));
  EXPECT_FALSE(TraceReader::parse(ByteView(index).first(index.size() - 1), data, "t").ok());
  size_t silent = 0;
  for (size_t i = 0; i < index.size(); i += 3) {
    Bytes other = index;
    other[i] ^= std::byte{0x41};
    const Result<TraceReader> t = TraceReader::parse(other, data, "t");
    if (!t.ok()) continue;
    const Result<TraceDiff> d = trace_diff(good, *t, {});
    silent += d.ok() && d->equal;
  }
  // Names in the graph change nothing.
  EXPECT_LT(silent, index.size() / 3);
  Bytes other = data;
  other[0] ^= std::byte{1};
  const TraceReader t = ok(TraceReader::parse(index, other, "t"));
  EXPECT_FALSE(t.tensor(ok(t.record(0))).ok());
  EXPECT_FALSE(t.record(t.size()).ok());
}

// Equal indexes prove nothing about the data behind them.
TEST_F(TraceTest, DiffReadsTheDataWhereTheIndexesAreEqual) {
  const std::string dir = store("a");
  const Bytes index = ok(read_file(dir + "/index", 1 << 24));
  Bytes data = ok(read_file(dir + "/data", 1 << 24));
  const TraceReader good = ok(TraceReader::open(dir));
  data.back() ^= std::byte{1};
  const TraceReader bad = ok(TraceReader::parse(index, data, "t"));
  for (const auto& diff : {trace_diff(good, bad, {}), trace_diff(bad, good, {1e-3})}) {
    EXPECT_EQ(diff.status().code(), StatusCode::bad_input);
    EXPECT_NE(diff.status().message().find("recorded root"), std::string::npos);
  }
}

// A trace of one value alone, which a node "node" made.
TraceReader trace_of(const std::string& name, const Tensor& value, const char* op = "Identity",
                     bool partial = false) {
  GraphBuilder b;
  b.output("y", b.add(op, "", {b.input("x", value.dtype(), {-1})}, {}, "node"));
  const Graph graph = ok(b.finish());
  const std::string dir = ::testing::TempDir() + "/one-" + name + std::to_string(::getpid());
  std::filesystem::remove_all(dir);
  auto writer = ok(TraceWriter::create(dir, graph, partial));
  ok(writer->on_node(0, 0, {}, {{value}}));
  ok(writer->close().status());
  return ok(TraceReader::open(dir));
}
TraceReader trace_of(const std::string& name, float x) {
  return trace_of(name, ok(Tensor::from<float>(Shape{1}, std::vector<float>{x})));
}

// |a - b| <= absolute + relative * |b|, the second trace's value, as numpy.allclose has it.
TEST(TraceDiffs, ToleranceMayBeRelativeToTheSecond) {
  const TraceReader one = trace_of("1", 1), two = trace_of("2", 2),
                    infinite = trace_of("inf", HUGE_VALF);
  EXPECT_TRUE(ok(trace_diff(one, two, {.relative = 0.5})).equal);
  EXPECT_FALSE(ok(trace_diff(one, two, {.relative = 0.49})).equal);
  EXPECT_TRUE(ok(trace_diff(one, two, {.absolute = 0.25, .relative = 0.375})).equal);
  EXPECT_FALSE(ok(trace_diff(two, one, {.relative = 0.99})).equal);
  EXPECT_FALSE(ok(trace_diff(one, infinite, {.absolute = 1e300, .relative = 1})).equal);
  EXPECT_TRUE(ok(trace_diff(infinite, infinite, {.relative = 1})).equal);
}

// A distance is said where there is one, and what is the matter where there is none.
TEST(TraceDiffs, ADistanceIsOneOfNumbers) {
  const auto diff = [](uint32_t a, uint32_t b) {
    return ok(trace_diff(trace_of("a", float_of(a)), trace_of("b", float_of(b)), {}));
  };
  struct Case {
    uint32_t a, b;
    std::optional<uint64_t> ulp;
    const char *apart, *a_value, *b_value;
  };
  for (const Case& c : std::initializer_list<Case>{
           {0x3F800000, 0x3F800001, 1, "1 ULP apart", "1", "1.00000012"},
           {0x00000001, 0x80000001, 2, "2 ULP apart", "1.40129846e-45", "-1.40129846e-45"},
           {0x00000000, 0x80000000, 0, "zeros of opposite signs", "0", "-0"},
           {0x7FC00000, 0x3F800000, std::nullopt, "one is NaN", "NaN", "1"},
           {0x3F800000, 0xFFC00000, std::nullopt, "one is NaN", "1", "NaN"},
           {0x7FC00000, 0x7F800000, std::nullopt, "one is NaN", "NaN", "inf"},
           {0x7FC00000, 0x7FC00001, std::nullopt, "both are NaN, of different bits", "NaN", "NaN"},
           {0x7FC00000, 0xFFC00000, std::nullopt, "both are NaN, of different bits", "NaN", "NaN"},
           {0x7F7FFFFF, 0x7F800000, std::nullopt, "one is infinite", "3.40282347e+38", "inf"},
           {0x7F800000, 0xFF800000, std::nullopt, "infinities of opposite signs", "inf", "-inf"},
       }) {
    const TraceDiff d = diff(c.a, c.b);
    EXPECT_FALSE(d.equal);
    EXPECT_EQ(d.ulp, c.ulp) << c.apart;
    EXPECT_EQ(d.apart, c.apart);
    EXPECT_EQ(d.a_value, c.a_value);
    EXPECT_EQ(d.b_value, c.b_value);
  }
}

// Integers and truth values have no units in a last place.
TEST(TraceDiffs, IntegersAreShownWhole) {
  const auto trace = [](const char* name, int64_t x) {
    return trace_of(name, ok(Tensor::from<int64_t>(Shape{1}, std::vector<int64_t>{x})));
  };
  const TraceDiff d = ok(
      trace_diff(trace("a", INT64_MAX), trace("b", std::numeric_limits<int64_t>::min() + 1), {}));
  EXPECT_EQ(d.ulp, std::nullopt);
  EXPECT_EQ(d.apart, "");
  EXPECT_EQ(d.a_value, "9223372036854775807");
  EXPECT_EQ(d.b_value, "-9223372036854775807");
}

// Values of different programs have nothing to do with one another, whatever their places.
TEST(TraceDiffs, OfDifferentProgramsAreRefused) {
  const Tensor x = ok(Tensor::from<float>(Shape{1}, std::vector<float>{1}));
  const TraceReader neg = trace_of("neg", x, "Neg"), abs = trace_of("abs", x, "Abs");
  const Status refused = trace_diff(neg, abs, {}).status();
  EXPECT_EQ(refused.code(), StatusCode::bad_input);
  for (const std::string& part :
       {std::string("/one-neg"), std::string("/one-abs"), program_root(neg.graph()).hex(),
        program_root(abs.graph()).hex(), std::string("Neg node"), std::string("Abs node")})
    EXPECT_NE(refused.message().find(part), std::string::npos) << refused.message();
  // Another engine's values are those of our program's nodes, whatever that engine ran.
  const TraceReader imported = trace_of("imported", x, "Neg", true);
  EXPECT_TRUE(ok(trace_diff(neg, imported, {})).equal);
  EXPECT_TRUE(ok(trace_diff(imported, neg, {})).equal);
  EXPECT_EQ(trace_diff(imported, abs, {}).status().code(), StatusCode::bad_input);
}

// Other settings, or other weights, are another program of the same nodes.
TEST(TraceDiffs, ProgramsOfTheSameNodesAreCompared) {
  const Tensor x = ok(Tensor::from<float>(Shape{1}, std::vector<float>{1}));
  const auto trace = [&](const char* name, int64_t setting, bool partial) {
    GraphBuilder b;
    const ValueId y = b.add("Neg", "", {b.input("x", DType::f32, {-1})}, {}, "node");
    b.output("y", b.add("Flatten", "", {y}, {{"axis", setting}}, "last"));
    const std::string dir = ::testing::TempDir() + "/two-" + name + std::to_string(::getpid());
    std::filesystem::remove_all(dir);
    const Graph graph = ok(b.finish());
    auto writer = ok(TraceWriter::create(dir, graph, partial));
    ok(writer->on_node(0, 0, {}, {{x}}));
    ok(writer->close().status());
    return ok(TraceReader::open(dir));
  };
  const TraceReader ours = trace("ours", 0, false), other = trace("other", 1, false),
                    theirs = trace("theirs", 1, true);
  EXPECT_TRUE(ok(trace_diff(ours, other, {})).equal);
  EXPECT_TRUE(ok(trace_diff(ours, theirs, {})).equal);
}

// The dumps of a run of our own, some left out, one changed.
class DumpsTest : public TraceTest {
 protected:
  void SetUp() override {
    TraceTest::SetUp();
    task.program.max_steps = 1;
    const Graph& graph = task.program.graph;
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      for (size_t j = 0; j < graph.nodes[i].outputs.size(); ++j)
        names.emplace("layer/" + std::to_string(i) + ":" + std::to_string(j),
                      graph.nodes[i].outputs[j]);
    ours = store("ours");
    theirs = ::testing::TempDir() + "/theirs" + std::to_string(::getpid());
    dumps = ::testing::TempDir() + "/dumps" + std::to_string(::getpid());
    std::filesystem::remove_all(theirs);
    std::filesystem::remove_all(dumps);
    std::filesystem::create_directory(dumps);
    const TraceReader t = ok(TraceReader::open(ours));
    for (size_t i = 0; i < t.size(); ++i) {
      const TraceRecord r = ok(t.record(i));
      const ValueId value = graph.nodes[r.node].outputs[r.output];
      for (const auto& [name, v] : names)
        if (v == value) {
          ok(write_npy(file_of(name), ok(t.tensor(r))));
          places.emplace(name, r);
        }
    }
    ASSERT_GE(names.size(), 4u);
  }
  std::string file_of(const std::string& name) const { return dumps + "/" + npy_file_name(name); }
  DumpReport import() {
    std::filesystem::remove_all(theirs);
    return ok(import_dumps(dumps, task.program.graph, names, theirs));
  }
  TraceDiff diff(const Tolerance& tolerance = {}) {
    return ok(trace_diff(ok(TraceReader::open(ours)), ok(TraceReader::open(theirs)), tolerance));
  }
  std::map<std::string, ValueId> names;
  std::map<std::string, TraceRecord> places;  // of those that were dumped
  std::string ours, theirs, dumps;
};

TEST_F(DumpsTest, AreATrace) {
  const DumpReport report = import();
  EXPECT_GE(report.values, 4u);
  EXPECT_TRUE(report.missing.empty());
  EXPECT_TRUE(report.unused.empty());
  const TraceDiff d = diff();
  EXPECT_TRUE(d.equal);
  EXPECT_EQ(d.compared, report.values);
}

// Whichever values are left out, and whichever is changed: that one's node is found, where it was
// not left out.
TEST_F(DumpsTest, TheFirstChangedValueIsFoundAmongThoseThatAreThere) {
  for (const auto& [name, place] : places) {
    const Tensor value = ok(read_npy(file_of(name)));
    if (value.dtype() != DType::f32 || value.elements() == 0) continue;
    Tensor other = ok(Tensor::allocate(DType::f32, value.shape()));
    std::ranges::transform(value.data<float>(), other.mutable_data<float>().begin(),
                           [](float x) { return x + 1; });
    ok(write_npy(file_of(name), other));
    ok(write_file(dumps + "/stranger.npy", {}));
    std::string left_out;
    for (const auto& [earlier, at] : places)
      if (at.node < place.node) left_out = earlier;
    Bytes kept;
    if (!left_out.empty()) {
      kept = ok(read_file(file_of(left_out), 1 << 20));
      std::filesystem::remove(file_of(left_out));
    }
    const DumpReport report = import();
    EXPECT_EQ(report.unused, std::vector<std::string>{"stranger.npy"});
    const TraceDiff d = diff({.absolute = 0.5});
    EXPECT_FALSE(d.equal);
    EXPECT_EQ(d.node, place.node) << name;
    EXPECT_EQ(d.output, place.output) << name;
    if (!left_out.empty()) {
      EXPECT_GE(report.missing.size(), 1u);
      EXPECT_GE(d.missing, 1u);
      ok(write_file(file_of(left_out), kept));
    }
    EXPECT_TRUE((import(), diff({.absolute = 2}).equal));
    ok(write_npy(file_of(name), value));
  }
}

TEST_F(DumpsTest, WhatCannotBeImportedIsSaid) {
  const std::string some = places.begin()->first;
  ok(write_file(file_of(some), as_bytes("no tensor")));
  const Status damaged = import_dumps(dumps, task.program.graph, names, theirs).status();
  EXPECT_EQ(damaged.code(), StatusCode::bad_input);
  EXPECT_NE(damaged.message().find(npy_file_name(some)), std::string::npos) << damaged.message();
  std::filesystem::remove_all(dumps);
  EXPECT_EQ(import_dumps(dumps, task.program.graph, names, theirs).status().code(),
            StatusCode::unavailable);
  std::filesystem::create_directory(dumps);
  EXPECT_EQ(import_dumps(dumps, task.program.graph, names, theirs).status().code(),
            StatusCode::bad_input);
  EXPECT_FALSE(std::filesystem::exists(theirs));
}

// Whatever is wrong with the dumps, or nothing: a trace that is there stays as it is.
TEST_F(DumpsTest, AnImportReplacesNothing) {
  const auto files = [&] {
    return std::pair(ok(read_file(ours + "/index", 1 << 24)),
                     ok(read_file(ours + "/data", 1 << 24)));
  };
  const auto before = files();
  EXPECT_FALSE(import_dumps(dumps, task.program.graph, names, ours).ok());
  EXPECT_EQ(files(), before);
  std::filesystem::remove_all(dumps);
  std::filesystem::create_directory(dumps);
  EXPECT_FALSE(import_dumps(dumps, task.program.graph, names, ours).ok());
  EXPECT_EQ(files(), before);
}

// PyTorch's modules are our nodes.
TEST(NodeValueNames, AreThoseOfNodesTheirFurtherOutputsAndTheGraphs) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {-1});
  const ValueId top =
      b.add("TopK", "",
            {x, b.constant("k", ok(Tensor::from<int64_t>(Shape{1}, std::vector<int64_t>{1})))}, {},
            "top", 2);
  const ValueId twice = b.add("Neg", "", {top}, {}, "same");
  b.output("y", b.add("Neg", "", {twice}, {}, "same"));
  EXPECT_EQ(node_value_names(ok(b.finish())),
            (std::map<std::string, ValueId>{{"top", top}, {"top:1", top + 1}, {"y", twice + 1}}));
}

// Two names that share a file name are no one value's.
TEST_F(DumpsTest, AFileOfTwoValuesIsNotUsed) {
  const auto first = names.begin(), second = std::next(first);
  std::map<std::string, ValueId> clashing = {
      {"a/b", first->second}, {"a:b", second->second}, {"c", second->second}};
  ok(write_npy(dumps + "/a_b.npy", ok(read_npy(file_of(first->first)))));
  ok(write_npy(dumps + "/c.npy", ok(read_npy(file_of(second->first)))));
  const DumpReport report = ok(import_dumps(dumps, task.program.graph, clashing, theirs));
  EXPECT_EQ(report.values, 1u);
  EXPECT_NE(std::ranges::find(report.unused, "a_b.npy"), report.unused.end());
}

TEST_F(TraceTest, ToleranceIsANumberOfAtLeastZero) {
  const TraceReader t = ok(TraceReader::open(store("a")));
  for (const double tolerance : {std::nan(""), -1.0, -HUGE_VAL})
    EXPECT_EQ(trace_diff(t, t, {.absolute = tolerance}).status().code(), StatusCode::usage);
  EXPECT_EQ(trace_diff(t, t, {.relative = -1}).status().code(), StatusCode::usage);
}

}  // namespace
}  // namespace verbatim::test
