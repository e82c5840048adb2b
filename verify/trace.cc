#include <verbatim/verify/trace.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <tuple>

#include <verbatim/core/fp_guard.h>
#include <verbatim/core/tensor_codec.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/ops/number.h>

namespace verbatim {
namespace {

constexpr std::string_view kMagic = "VBTRACE1", kPartialMagic = "VBTRACEP";
constexpr size_t kMaxGraphBytes = size_t{256} << 20;
constexpr uint64_t kChunkBytes = uint64_t{1} << 20;

struct FileCloser {
  void operator()(std::FILE* f) const { std::fclose(f); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

Status write_all(std::FILE* file, ByteView bytes, const std::string& path) {
  if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size())
    return unavailable(path + ": cannot write: " + std::strerror(errno));
  return {};
}

Result<File> create_file(const std::string& path) {
  File file(std::fopen(path.c_str(), "wbe"));
  if (!file) return unavailable(path + ": cannot create: " + std::strerror(errno));
  return file;
}

Bytes encode_record(const TraceRecord& record) {
  Writer w;
  w.u64(record.step);
  w.u32(record.node);
  w.u32(record.output);
  w.u64(record.offset);
  w.raw(record.root.bytes);
  write_dtype(w, record.dtype);
  write_shape(w, record.shape);
  Bytes bytes = w.take();
  bytes.resize(TraceReader::kRecordBytes);
  return bytes;
}

static_assert(kMaxRank == 8, "a shape of eight dimensions leaves six bytes of a record");

Result<TraceRecord> decode_record(Reader& r) {
  TraceRecord record;
  VB_ASSIGN(record.step, r.u64());
  VB_ASSIGN(record.node, r.u32());
  VB_ASSIGN(record.output, r.u32());
  VB_ASSIGN(record.offset, r.u64());
  VB_ASSIGN(record.root, read_digest(r));
  VB_ASSIGN(record.dtype, read_dtype(r));
  VB_ASSIGN(record.shape, read_shape(r));
  VB_ASSIGN(const ByteView rest, r.raw(r.remaining()));
  if (std::ranges::any_of(rest, [](std::byte b) { return b != std::byte{0}; }))
    return r.fail("the rest of the record is not zero");
  return record;
}

// Position on a line on which neighbouring floats of the type are neighbours; both zeros are 0.
int64_t ordered(DType dtype, uint64_t bits) {
  if (dtype == DType::f8e8m0) return static_cast<int64_t>(bits);  // it has no sign
  const uint64_t sign = uint64_t{1} << (bit_width(dtype) - 1);
  const auto magnitude = static_cast<int64_t>(bits & (sign - 1));
  return bits & sign ? -magnitude : magnitude;
}

double value_of(DType dtype, uint64_t bits) {
  return visit_dtype<double>(dtype, 0, [bits](auto type) {
    using T = decltype(type);
    if constexpr (std::is_same_v<T, bool>) {
      return static_cast<double>(bits);
    } else {
      using Code = std::conditional_t<
          sizeof(T) == 1, uint8_t,
          std::conditional_t<sizeof(T) == 2, uint16_t,
                             std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>;
      return static_cast<double>(load(std::bit_cast<T>(static_cast<Code>(bits))));
    }
  });
}

// value_of() would round what has more than 53 bits.
std::string decimal_integer(DType dtype, uint64_t bits) {
  if (dtype == DType::u64) return std::to_string(bits);
  if (dtype == DType::i64) return std::to_string(static_cast<int64_t>(bits));
  return std::to_string(static_cast<int64_t>(value_of(dtype, bits)));
}

bool is_nan_bits(DType dtype, uint64_t bits) { return is_nan(value_of(dtype, bits)); }

bool is_infinite(DType dtype, uint64_t bits) {
  return value_of(dtype, bits) - value_of(dtype, bits) != 0;
}

bool within(DType dtype, uint64_t a, uint64_t b, const Tolerance& tolerance) {
  if (a == b) return true;
  if (tolerance.absolute <= 0 && tolerance.relative <= 0) return false;
  if (is_float(dtype) && (is_nan_bits(dtype, a) || is_nan_bits(dtype, b) || is_infinite(dtype, a) ||
                          is_infinite(dtype, b)))
    return false;
  const double y = value_of(dtype, b), difference = value_of(dtype, a) - y;
  const double allowed = tolerance.absolute + tolerance.relative * (y < 0 ? -y : y);
  return difference <= allowed && -difference <= allowed;
}

// Nine digits tell each binary32 from all others, seventeen each binary64.
std::string decimal(DType dtype, uint64_t bits) {
  if (!is_float(dtype)) return decimal_integer(dtype, bits);
  if (is_nan_bits(dtype, bits)) return "NaN";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value_of(dtype, bits),
                                 std::chars_format::general, dtype == DType::f64 ? 17 : 9);
  return {text, end.ptr};
}

// Two floats of different bits: how far apart they are, and in words.
void measure(DType dtype, uint64_t a, uint64_t b, TraceDiff& diff) {
  const int nans = is_nan_bits(dtype, a) + is_nan_bits(dtype, b);
  if (nans > 0) {
    diff.apart = nans == 1 ? "one is NaN" : "both are NaN, of different bits";
  } else if (is_infinite(dtype, a) || is_infinite(dtype, b)) {
    diff.apart = is_infinite(dtype, a) && is_infinite(dtype, b) ? "infinities of opposite signs"
                                                                : "one is infinite";
  } else {
    const int64_t x = ordered(dtype, a), y = ordered(dtype, b);
    diff.ulp = x > y ? static_cast<uint64_t>(x) - static_cast<uint64_t>(y)
                     : static_cast<uint64_t>(y) - static_cast<uint64_t>(x);
    diff.apart =
        *diff.ulp == 0 ? "zeros of opposite signs" : std::to_string(*diff.ulp) + " ULP apart";
  }
}

// Fills the place of the first element that differs; false where there is none.
bool diff_elements(const Tensor& a, const Tensor& b, const Tolerance& tolerance, TraceDiff& diff) {
  const DType dtype = a.dtype();
  const LeafLayout layout = leaf_layout(dtype, a.shape());
  for (int64_t leaf = 0; leaf < layout.leaf_count(); ++leaf) {
    const ByteRange range = layout.bytes(leaf);
    const Bytes x = little_endian_bytes(a, range), y = little_endian_bytes(b, range);
    if (x == y) continue;
    const auto p = layout.element_bits(leaf, x), q = layout.element_bits(leaf, y);
    for (size_t i = 0; i < p.size(); ++i) {
      if (within(dtype, p[i], q[i], tolerance)) continue;
      diff.element = layout.elements(leaf).first + static_cast<int64_t>(i);
      diff.tile = leaf;
      diff.a_bits = element_hex(dtype, p[i]);
      diff.b_bits = element_hex(dtype, q[i]);
      diff.a_value = decimal(dtype, p[i]);
      diff.b_value = decimal(dtype, q[i]);
      if (is_float(dtype)) measure(dtype, p[i], q[i], diff);
      return true;
    }
  }
  return false;
}

TraceDiff differs_at(const TraceReader& trace, const TraceRecord& r, std::string reason) {
  TraceDiff diff;
  diff.equal = false;
  diff.reason = std::move(reason);
  diff.step = r.step;
  diff.node = r.node;
  diff.output = r.output;
  diff.title = trace.graph().nodes[r.node].title();
  return diff;
}

// The difference of one value of two traces, or an equal TraceDiff.
Result<TraceDiff> diff_records(const TraceReader& a, const TraceRecord& x, const TraceReader& b,
                               const TraceRecord& y, const Tolerance& tolerance) {
  if (x.dtype != y.dtype) return differs_at(a, x, "element type");
  if (!(x.shape == y.shape)) return differs_at(a, x, "shape");
  // Read even where the index says that the roots are equal: the index is not the data.
  VB_ASSIGN(const Tensor p, a.tensor(x));
  VB_ASSIGN(const Tensor q, b.tensor(y));
  if (x.root == y.root) return TraceDiff{};
  TraceDiff diff = differs_at(a, x, "");
  if (!diff_elements(p, q, tolerance, diff)) return TraceDiff{};
  return diff;
}

}  // namespace

struct TraceWriter::Files {
  Files(std::string path, TemporaryFolder temporary)
      : directory(std::move(path)), folder(std::move(temporary)) {}
  std::string directory;
  TemporaryFolder folder;
  std::string index_path, data_path;
  File index, data;
  uint64_t data_offset = 0;
};

TraceWriter::TraceWriter(std::unique_ptr<Files> files, const Graph& graph)
    : files_(std::move(files)), graph_(&graph) {}
TraceWriter::~TraceWriter() = default;

Result<std::unique_ptr<TraceWriter>> TraceWriter::create(const std::string& directory,
                                                         const Graph& graph, bool partial) {
  VB_TRY(check_new_folder(directory));
  VB_ASSIGN(TemporaryFolder folder, TemporaryFolder::beside(directory));
  auto files = std::make_unique<Files>(directory, std::move(folder));
  files->index_path = files->folder.path() + "/index";
  files->data_path = files->folder.path() + "/data";
  VB_ASSIGN(files->index, create_file(files->index_path));
  VB_ASSIGN(files->data, create_file(files->data_path));
  Writer header;
  header.raw(as_bytes(partial ? kPartialMagic : kMagic));
  header.blob(encode_graph(graph));
  VB_TRY(write_all(files->index.get(), header.bytes(), files->index_path));
  std::unique_ptr<TraceWriter> writer(new TraceWriter(std::move(files), graph));
  writer->stats_.bytes = header.bytes().size();
  return writer;
}

Status TraceWriter::on_node(uint64_t step, int32_t node, std::span<const Tensor>,
                            std::span<const Tensor> outputs) {
  const auto start = std::chrono::steady_clock::now();
  const Node& n = graph_->nodes[node];
  for (size_t i = 0; i < n.outputs.size(); ++i) {
    if (n.outputs[i] == kAbsent || !outputs[i].defined()) continue;
    VB_ASSIGN(const Tensor t, outputs[i].on_host());
    const TraceRecord record{
        step,           static_cast<uint32_t>(node), static_cast<uint32_t>(i), t.dtype(), t.shape(),
        tensor_root(t), files_->data_offset};
    VB_TRY(write_all(files_->index.get(), encode_record(record), files_->index_path));
    VB_ASSIGN(const int64_t canonical, canonical_size(t.dtype(), t.shape()));
    const auto bytes = static_cast<uint64_t>(canonical);
    for (uint64_t begin = 0; begin < bytes; begin += kChunkBytes)
      VB_TRY(write_all(files_->data.get(),
                       little_endian_bytes(t, {begin, std::min(begin + kChunkBytes, bytes)}),
                       files_->data_path));
    files_->data_offset += bytes;
    stats_.bytes += bytes + TraceReader::kRecordBytes;
    ++stats_.values;
  }
  stats_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {};
}

Result<TraceStats> TraceWriter::close() {
  for (auto [file, path] : {std::pair{&files_->index, &files_->index_path},
                            std::pair{&files_->data, &files_->data_path}}) {
    if (!*file) return usage_error(*path + ": closed already");
    if (std::fclose(file->release()) != 0)
      return unavailable(*path + ": cannot write: " + std::strerror(errno));
  }
  VB_TRY(files_->folder.become(files_->directory));
  return stats_;
}

Result<TraceReader> TraceReader::open(const std::string& directory) {
  VB_ASSIGN(const auto index, MappedFile::open(directory + "/index"));
  VB_ASSIGN(const auto data, MappedFile::open(directory + "/data"));
  VB_ASSIGN(TraceReader reader, parse(index->bytes(), data->bytes(), directory));
  reader.index_file_ = index;
  reader.data_file_ = data;
  return reader;
}

Result<TraceReader> TraceReader::parse(ByteView index, ByteView data, const std::string& source) {
  TraceReader reader;
  reader.name_ = source;
  reader.source_ = source + "/index";
  reader.data_ = data;
  Reader r(index, reader.source_);
  VB_ASSIGN(const ByteView magic, r.raw(kMagic.size()));
  reader.partial_ = as_chars(magic) == kPartialMagic;
  if (as_chars(magic) != kMagic && !reader.partial_)
    return bad_input_at(reader.source_, 0, "not a trace");
  VB_ASSIGN(const ByteView graph, r.blob(kMaxGraphBytes));
  VB_ASSIGN(reader.graph_, decode_graph(graph, reader.source_ + ": graph"));
  reader.records_offset_ = r.offset();
  reader.records_ = index.subspan(r.offset());
  if (reader.records_.size() % kRecordBytes != 0)
    return bad_input_at(reader.source_, index.size(), "cut short within a record");
  return reader;
}

Result<TraceRecord> TraceReader::record(size_t i) const {
  const size_t offset = records_offset_ + i * kRecordBytes;
  if (i >= size()) return bad_input_at(source_, offset, "no such record");
  Reader r(records_.subspan(i * kRecordBytes, kRecordBytes), source_);
  Result<TraceRecord> record = decode_record(r);
  if (!record.ok())
    return bad_input_at(source_, offset,
                        "record " + std::to_string(i) + ": " + record.status().message());
  if (record->node >= graph_.nodes.size() ||
      record->output >= graph_.nodes[record->node].outputs.size())
    return bad_input_at(source_, offset, "record of a node or output that the graph lacks");
  const Result<int64_t> bytes = canonical_size(record->dtype, record->shape);
  if (!bytes.ok() || record->offset > data_.size() ||
      static_cast<uint64_t>(*bytes) > data_.size() - record->offset)
    return bad_input_at(source_, offset, "record points beyond the data");
  return record;
}

Result<Tensor> TraceReader::tensor(const TraceRecord& record) const {
  VB_ASSIGN(const int64_t canonical, canonical_size(record.dtype, record.shape));
  const auto bytes = static_cast<size_t>(canonical);
  if (record.offset > data_.size() || bytes > data_.size() - record.offset)
    return bad_input(source_ + ": record points beyond the data");
  VB_ASSIGN(Tensor t, tensor_from_little_endian(record.dtype, record.shape,
                                                data_.subspan(record.offset, bytes)));
  if (tensor_root(t) != record.root)
    return bad_input(source_ + ": the data of step " + std::to_string(record.step) + ", node " +
                     std::to_string(record.node) + " do not have the recorded root");
  return t;
}

namespace {

// "ours is of program 12ab... (53 nodes, the first Gather embeddings)"
std::string describe_program(const TraceReader& trace) {
  const std::vector<Node>& nodes = trace.graph().nodes;
  return trace.name() + " is of program " + program_root(trace.graph()).hex() + " (" +
         std::to_string(nodes.size()) + " nodes" +
         (nodes.empty() ? "" : ", the first " + nodes[0].title()) + ")";
}

// Values are compared of nodes that are the same; the programs need not be, beyond them: a model
// before and after fine-tuning, or other settings.
Status check_same_node(const TraceReader& a, const TraceReader& b, uint32_t node) {
  const Node &x = a.graph().nodes[node], &y = b.graph().nodes[node];
  if (x.domain == y.domain && x.op == y.op && x.name == y.name) return {};
  return bad_input("the traces are of different programs (node " + std::to_string(node) + " is " +
                   x.title() + " in one, " + y.title() + " in the other): " + describe_program(a) +
                   ", " + describe_program(b));
}

// Whose value comes next: of both traces, or one that the other lacks.
enum class Turn : uint8_t { both, a, b };

Turn turn_of(const std::optional<TraceRecord>& x, const std::optional<TraceRecord>& y) {
  const auto place = [](const TraceRecord& r) { return std::tuple(r.step, r.node, r.output); };
  if (!x || !y) return x ? Turn::a : Turn::b;
  if (place(*x) == place(*y)) return Turn::both;
  return place(*x) < place(*y) ? Turn::a : Turn::b;
}

}  // namespace

Result<TraceDiff> trace_diff(const TraceReader& a, const TraceReader& b,
                             const Tolerance& tolerance) {
  if (!(tolerance.absolute >= 0) || !(tolerance.relative >= 0))
    return usage_error("a tolerance is a number of at least 0");
  const FloatWatch watch;
  const FloatGuard guard;  // distances are computed here
  VB_TRY(watch.check());
  TraceDiff all;
  for (size_t i = 0, j = 0; i < a.size() || j < b.size();) {
    std::optional<TraceRecord> x, y;
    if (i < a.size()) {
      VB_ASSIGN(x, a.record(i));
    }
    if (j < b.size()) {
      VB_ASSIGN(y, b.record(j));
    }
    const Turn turn = turn_of(x, y);
    TraceDiff diff;
    if (turn == Turn::both) {
      VB_TRY(check_same_node(a, b, x->node));
      VB_ASSIGN(diff, diff_records(a, *x, b, *y, tolerance));
      ++all.compared;
    } else if (!(turn == Turn::a ? b : a).partial()) {
      const bool in_a = turn == Turn::a;
      diff = differs_at(in_a ? a : b, in_a ? *x : *y,
                        std::string(in_a ? "the second trace " : "the first trace ") +
                            (x && y ? "lacks the value" : "ends"));
    } else {
      ++all.missing;
    }
    i += turn != Turn::b;
    j += turn != Turn::a;
    diff.compared = all.compared;
    diff.missing = all.missing;
    if (!diff.equal) return diff;
  }
  return all;
}

}  // namespace verbatim
