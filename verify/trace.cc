#include <verbatim/verify/trace.h>

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <tuple>

#include <verbatim/core/tensor_codec.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

constexpr std::string_view kMagic = "VBTRACE1";
constexpr size_t kMaxGraphBytes = size_t{256} << 20;
constexpr int64_t kChunkElements = int64_t{1} << 18;

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
  const int width = 8 * static_cast<int>(size_of(dtype));
  const uint64_t sign = uint64_t{1} << (width - 1);
  const auto magnitude = static_cast<int64_t>(bits & (sign - 1));
  return bits & sign ? -magnitude : magnitude;
}

bool is_nan_bits(DType dtype, uint64_t bits) {
  switch (dtype) {
    case DType::f64:
      return (bits & 0x7FFFFFFFFFFFFFFF) > 0x7FF0000000000000;
    case DType::f32:
      return (bits & 0x7FFFFFFF) > 0x7F800000;
    case DType::f16:
      return (bits & 0x7FFF) > 0x7C00;
    case DType::f8e4m3:
      return (bits & 0x7F) == 0x7F;
    case DType::f8e5m2:
      return (bits & 0x7F) > 0x7C;
    default:
      return (bits & 0x7FFF) > 0x7F80;
  }
}

double value_of(DType dtype, uint64_t bits) {
  switch (dtype) {
    case DType::f64:
      return std::bit_cast<double>(bits);
    case DType::f32:
      return std::bit_cast<float>(static_cast<uint32_t>(bits));
    case DType::bf16:
      return std::bit_cast<float>(static_cast<uint32_t>(bits << 16));
    case DType::f16:
      return float_from_half(static_cast<uint16_t>(bits));
    case DType::f8e4m3:
      return float_from_e4m3(static_cast<uint8_t>(bits));
    case DType::f8e5m2:
      return float_from_e5m2(static_cast<uint8_t>(bits));
    case DType::i8:
      return static_cast<int8_t>(bits);
    case DType::i16:
      return static_cast<int16_t>(bits);
    case DType::i32:
      return static_cast<int32_t>(bits);
    case DType::i64:
      return static_cast<double>(static_cast<int64_t>(bits));
    default:
      return static_cast<double>(bits);
  }
}

bool is_infinite(DType dtype, uint64_t bits) {
  return value_of(dtype, bits) - value_of(dtype, bits) != 0;
}

bool within(DType dtype, uint64_t a, uint64_t b, double tolerance) {
  if (a == b) return true;
  if (tolerance <= 0) return false;
  if (is_float(dtype) && (is_nan_bits(dtype, a) || is_nan_bits(dtype, b) || is_infinite(dtype, a) ||
                          is_infinite(dtype, b)))
    return false;
  const double difference = value_of(dtype, a) - value_of(dtype, b);
  return difference <= tolerance && -difference <= tolerance;
}

uint64_t ulp_distance(DType dtype, uint64_t a, uint64_t b) {
  if (!is_float(dtype) || is_nan_bits(dtype, a) || is_nan_bits(dtype, b)) return 0;
  const int64_t x = ordered(dtype, a), y = ordered(dtype, b);
  return x > y ? static_cast<uint64_t>(x) - static_cast<uint64_t>(y)
               : static_cast<uint64_t>(y) - static_cast<uint64_t>(x);
}

std::string hex_bits(DType dtype, uint64_t bits) {
  std::byte big_endian[8];
  for (int i = 0; i < 8; ++i) big_endian[i] = static_cast<std::byte>(bits >> (56 - 8 * i));
  return to_hex(ByteView(big_endian).last(size_of(dtype)));
}

uint64_t element_bits(const Bytes& bytes, size_t size, int64_t i) {
  uint64_t bits = 0;
  for (size_t j = 0; j < size; ++j)
    bits |= static_cast<uint64_t>(bytes[static_cast<size_t>(i) * size + j]) << (8 * j);
  return bits;
}

// Fills the place of the first element that differs; false where there is none.
bool diff_elements(const Tensor& a, const Tensor& b, double tolerance, TraceDiff& diff) {
  const DType dtype = a.dtype();
  const size_t size = size_of(dtype);
  for (int64_t begin = 0; begin < a.elements(); begin += kChunkElements) {
    const int64_t end = std::min(begin + kChunkElements, a.elements());
    const Bytes x = little_endian_bytes(a, begin, end), y = little_endian_bytes(b, begin, end);
    if (x == y) continue;
    for (int64_t i = 0; i < end - begin; ++i) {
      const uint64_t p = element_bits(x, size, i), q = element_bits(y, size, i);
      if (within(dtype, p, q, tolerance)) continue;
      diff.element = begin + i;
      diff.tile = leaf_layout(dtype, a.shape()).leaf_of(diff.element);
      diff.a_bits = hex_bits(dtype, p);
      diff.b_bits = hex_bits(dtype, q);
      diff.ulp = ulp_distance(dtype, p, q);
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
                               const TraceRecord& y, double tolerance) {
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
  std::string index_path, data_path;
  File index, data;
  uint64_t data_offset = 0;
};

TraceWriter::TraceWriter(std::unique_ptr<Files> files, const Graph& graph)
    : files_(std::move(files)), graph_(&graph) {}
TraceWriter::~TraceWriter() = default;

Result<std::unique_ptr<TraceWriter>> TraceWriter::create(const std::string& directory,
                                                         const Graph& graph) {
  if (::mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST)
    return unavailable(directory + ": cannot create: " + std::strerror(errno));
  auto files = std::make_unique<Files>();
  files->index_path = directory + "/index";
  files->data_path = directory + "/data";
  VB_ASSIGN(files->index, create_file(files->index_path));
  VB_ASSIGN(files->data, create_file(files->data_path));
  Writer header;
  header.raw(as_bytes(kMagic));
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
    const Tensor& t = outputs[i];
    const TraceRecord record{
        step,           static_cast<uint32_t>(node), static_cast<uint32_t>(i), t.dtype(), t.shape(),
        tensor_root(t), files_->data_offset};
    VB_TRY(write_all(files_->index.get(), encode_record(record), files_->index_path));
    for (int64_t begin = 0; begin < t.elements(); begin += kChunkElements)
      VB_TRY(
          write_all(files_->data.get(),
                    little_endian_bytes(t, begin, std::min(begin + kChunkElements, t.elements())),
                    files_->data_path));
    files_->data_offset += t.byte_size();
    stats_.bytes += t.byte_size() + TraceReader::kRecordBytes;
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
  reader.source_ = source + "/index";
  reader.data_ = data;
  Reader r(index, reader.source_);
  VB_ASSIGN(const ByteView magic, r.raw(kMagic.size()));
  if (as_chars(magic) != kMagic) return bad_input_at(reader.source_, 0, "not a trace");
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
  const uint64_t bytes = static_cast<uint64_t>(record->shape.elements()) * size_of(record->dtype);
  if (bytes / size_of(record->dtype) != static_cast<uint64_t>(record->shape.elements()) ||
      record->offset > data_.size() || bytes > data_.size() - record->offset)
    return bad_input_at(source_, offset, "record points beyond the data");
  return record;
}

Result<Tensor> TraceReader::tensor(const TraceRecord& record) const {
  const size_t bytes = static_cast<size_t>(record.shape.elements()) * size_of(record.dtype);
  if (record.offset > data_.size() || bytes > data_.size() - record.offset)
    return bad_input(source_ + ": record points beyond the data");
  VB_ASSIGN(Tensor t, tensor_from_little_endian(record.dtype, record.shape,
                                                data_.subspan(record.offset, bytes)));
  if (tensor_root(t) != record.root)
    return bad_input(source_ + ": the data of step " + std::to_string(record.step) + ", node " +
                     std::to_string(record.node) + " do not have the recorded root");
  return t;
}

Result<TraceDiff> trace_diff(const TraceReader& a, const TraceReader& b, double tolerance) {
  if (!(tolerance >= 0)) return usage_error("a tolerance is a number of at least 0");
  const auto place = [](const TraceRecord& r) { return std::tuple(r.step, r.node, r.output); };
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    VB_ASSIGN(const TraceRecord x, a.record(i));
    VB_ASSIGN(const TraceRecord y, b.record(i));
    if (place(x) != place(y)) return differs_at(a, x, "the traces are of different programs");
    VB_ASSIGN(TraceDiff diff, diff_records(a, x, b, y, tolerance));
    if (!diff.equal) return diff;
  }
  if (a.size() == b.size()) return TraceDiff{};
  const bool a_longer = a.size() > b.size();
  VB_ASSIGN(const TraceRecord r, (a_longer ? a : b).record(std::min(a.size(), b.size())));
  return differs_at(a_longer ? a : b, r,
                    a_longer ? "the second trace ends" : "the first trace ends");
}

}  // namespace verbatim
