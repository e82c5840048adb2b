// A stored run: every value that every node produced, for finding where two runs part.
//
//   VB_ASSIGN(auto writer, TraceWriter::create("trace-a", program.graph));
//   VB_ASSIGN(RunResult run, run_program(program, *backend, inputs, {.sink = writer.get()}));
//   VB_ASSIGN(TraceStats cost, writer->close());
//
//   VB_ASSIGN(TraceReader a, TraceReader::open("trace-a"));
//   VB_ASSIGN(TraceReader b, TraceReader::open("trace-b"));
//   VB_ASSIGN(TraceDiff diff, trace_diff(a, b, {}));
//
// DIR/index holds the graph and one record of fixed size for each value, DIR/data their
// little-endian bytes (docs/formats.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <verbatim/core/file.h>
#include <verbatim/core/hash.h>
#include <verbatim/repops/executor.h>

namespace verbatim {

struct TraceStats {
  uint64_t values = 0, bytes = 0;  // bytes of both files
  double seconds = 0;              // spent hashing and writing
};

class TraceWriter final : public TraceSink {
 public:
  // The folder is there once the trace is closed. Errors: unavailable, where there is one already
  // that is not empty: nothing is replaced. A partial trace may leave out values, as one of another
  // engine does.
  static Result<std::unique_ptr<TraceWriter>> create(const std::string& directory,
                                                     const Graph& graph, bool partial = false);
  ~TraceWriter() override;

  Status on_node(uint64_t step, int32_t node, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs) override;
  Status on_step_end(uint64_t, std::span<const Tensor>, std::span<const Tensor>) override {
    return {};
  }
  Result<TraceStats> close();  // a trace that was not closed leaves nothing behind

 private:
  struct Files;
  TraceWriter(std::unique_ptr<Files> files, const Graph& graph);
  std::unique_ptr<Files> files_;
  const Graph* graph_;
  TraceStats stats_;
};

struct TraceRecord {
  uint64_t step = 0;
  uint32_t node = 0, output = 0;
  DType dtype = DType::undefined;
  Shape shape;
  Digest root;
  uint64_t offset = 0;  // into DIR/data
};

class TraceReader {
 public:
  static Result<TraceReader> open(const std::string& directory);
  // The same from bytes in memory. `source` is for messages.
  static Result<TraceReader> parse(ByteView index, ByteView data, const std::string& source);

  const Graph& graph() const { return graph_; }
  bool partial() const { return partial_; }
  const std::string& name() const { return name_; }  // the folder, for messages
  size_t size() const { return records_.size() / kRecordBytes; }
  Result<TraceRecord> record(size_t i) const;
  // The value, checked against the record's root.
  Result<Tensor> tensor(const TraceRecord& record) const;

  static constexpr size_t kRecordBytes = 128;

 private:
  Graph graph_;
  bool partial_ = false;
  std::shared_ptr<const MappedFile> index_file_,
      data_file_;  // keep the views alive; null for parse()
  ByteView records_, data_;
  size_t records_offset_ = 0;
  std::string name_, source_;
};

struct TraceDiff {
  bool equal = true;  // nothing differs: which says nothing where nothing was compared
  uint64_t compared = 0, missing = 0;  // values that both have; that a partial trace left out
  std::string reason;  // what differs, where it is not an element: "shape", "the second trace ends"
  uint64_t step = 0;
  uint32_t node = 0, output = 0;
  std::string title;             // the node's operator and name
  int64_t tile = -1;             // leaf of the output's tensor root; -1 where shapes differ
  int64_t element = -1;          // flat index
  std::string a_bits, b_bits;    // hex, most significant digit first
  std::string a_value, b_value;  // decimal: of binary32 nine digits, which tell it from all others
  // Steps from one to the next representable value between the two; the zeros are one value. None
  // where that has no meaning: integers, a NaN, an infinity.
  std::optional<uint64_t> ulp;
  std::string apart;  // the same in words: "2 ULP apart", "one is NaN"; "" for integers
};

// How far apart a and b may be: |a - b| <= absolute + relative * |b|, as numpy.allclose has it.
// Both 0: not a bit.
struct Tolerance {
  double absolute = 0, relative = 0;
};

// The first element, in the order of steps, nodes and flat indices, that differs by more than the
// tolerance. A NaN differs from everything but its own bits, an infinity likewise. What a partial
// trace left out is passed over. All values up to there are read and checked against their roots.
// Errors: damaged files, a tolerance that is negative or not a number, nodes of other
// operators or names at one place, as of different programs. Weights and settings may differ.
Result<TraceDiff> trace_diff(const TraceReader& a, const TraceReader& b,
                             const Tolerance& tolerance);

}  // namespace verbatim
