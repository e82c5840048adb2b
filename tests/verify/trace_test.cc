// Stored traces: what is written is read, the first difference is named, and damaged files are
// refused.
#include <verbatim/verify/trace.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include <verbatim/core/tensor_root.h>

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
  EXPECT_TRUE(ok(trace_diff(t, t, 0)).equal);
}

TEST_F(TraceTest, DiffNamesTheFirstDifference) {
  const TraceReader a = ok(TraceReader::open(store("a")));
  const TraceReader b = ok(TraceReader::open(store("b", Fault{2, 3, 4, 0})));
  const TraceDiff d = ok(trace_diff(a, b, 0));
  EXPECT_FALSE(d.equal);
  EXPECT_EQ(d.step, 2u);
  EXPECT_EQ(d.node, 3u);
  EXPECT_EQ(d.element, 4);
  EXPECT_EQ(d.tile, 0);
  EXPECT_EQ(d.ulp, 1u);
  EXPECT_EQ(d.a_bits.size(), 8u);
  EXPECT_NE(d.a_bits, d.b_bits);
  EXPECT_EQ(d.title, task.program.graph.nodes[3].title());
}

TEST_F(TraceTest, ToleranceLetsSmallDifferencesPass) {
  const TraceReader a = ok(TraceReader::open(store("a")));
  const TraceReader b = ok(TraceReader::open(store("b", Fault{2, 3, 4, 0})));
  EXPECT_TRUE(ok(trace_diff(a, b, 1e-3)).equal);
  const TraceReader c = ok(TraceReader::open(store("c", Fault{2, 3, 4, 31})));
  const TraceDiff d = ok(trace_diff(a, c, 1e-6));
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
    const Result<TraceDiff> d = trace_diff(good, *t, 0);
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
  for (const auto& diff : {trace_diff(good, bad, 0), trace_diff(bad, good, 1e-3)}) {
    EXPECT_EQ(diff.status().code(), StatusCode::bad_input);
    EXPECT_NE(diff.status().message().find("recorded root"), std::string::npos);
  }
}

TEST_F(TraceTest, ToleranceIsANumberOfAtLeastZero) {
  const TraceReader t = ok(TraceReader::open(store("a")));
  for (const double tolerance : {std::nan(""), -1.0, -HUGE_VAL})
    EXPECT_EQ(trace_diff(t, t, tolerance).status().code(), StatusCode::usage);
}

}  // namespace
}  // namespace verbatim::test
