#include <verbatim/verify/transcript.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <verbatim/verify/referee.h>

namespace verbatim {
namespace {

constexpr std::string_view kMagic = "VBTRNS1\n";
constexpr size_t kMaxName = 256, kMaxVerdict = 1 << 20;
constexpr size_t kMaxEntryBytes = kMaxRequestBytes + kMaxReplyBytes + 256;

enum class EntryTag : uint8_t { exchange = 1, verdict = 2 };

bool is_party_failure(uint8_t code) {
  switch (static_cast<StatusCode>(code)) {
    case StatusCode::deadline:
    case StatusCode::unavailable:
    case StatusCode::limit:
      return true;
    default:
      return false;
  }
}

// An entry is its length, and then so many bytes: a torn one is told from a wrong one.
Bytes framed(Writer body) {
  Writer w;
  w.blob(body.bytes());
  return w.take();
}

Bytes encode_exchange(const Exchange& e) {
  Writer w;
  w.u8(static_cast<uint8_t>(EntryTag::exchange));
  w.u32(e.party);
  w.blob(e.request);
  w.u8(static_cast<uint8_t>(e.failure));
  if (e.failure == StatusCode::ok) {
    w.blob(e.reply);
    w.raw(e.signature.bytes);
  }
  return framed(std::move(w));
}

Result<Exchange> read_exchange(Reader& r, size_t parties) {
  Exchange e;
  VB_ASSIGN(e.party, r.u32());
  if (e.party >= parties) return r.fail("party " + std::to_string(e.party) + " does not exist");
  VB_ASSIGN(e.request, r.blob(kMaxRequestBytes));
  VB_ASSIGN(const uint8_t failure, r.u8());
  if (failure != 0 && !is_party_failure(failure))
    return r.fail("unknown failure " + std::to_string(failure));
  e.failure = static_cast<StatusCode>(failure);
  if (failure != 0) return e;
  VB_ASSIGN(e.reply, r.blob(kMaxReplyBytes));
  VB_ASSIGN(const ByteView signature, r.raw(e.signature.bytes.size()));
  std::ranges::copy(signature, e.signature.bytes.begin());
  return e;
}

Result<TranscriptHeader> read_header(Reader& r) {
  TranscriptHeader h;
  VB_ASSIGN(const ByteView magic, r.raw(kMagic.size()));
  if (as_chars(magic) != kMagic) return bad_input_at(r.source(), 0, "not a transcript");
  VB_ASSIGN(const ByteView task, r.blob(kMaxTaskBytes));
  VB_ASSIGN(h.task, decode_task(task, r.source() + ": task"));
  VB_ASSIGN(h.nonce, read_digest(r));
  VB_ASSIGN(const uint32_t parties, r.count(36, kMaxParties));
  for (uint32_t i = 0; i < parties; ++i) {
    TranscriptParty party;
    VB_ASSIGN(party.name, r.text(kMaxName));
    VB_ASSIGN(const ByteView key, r.raw(party.key.bytes.size()));
    std::ranges::copy(key, party.key.bytes.begin());
    h.parties.push_back(std::move(party));
  }
  return h;
}

Status failed(const std::string& path, const char* what) {
  return unavailable(path + ": cannot " + what + ": " + std::strerror(errno));
}

}  // namespace

Bytes encode_transcript_header(const TranscriptHeader& h) {
  Writer w;
  w.raw(as_bytes(kMagic));
  w.blob(encode_task(h.task));
  w.raw(h.nonce.bytes);
  w.u32(static_cast<uint32_t>(h.parties.size()));
  for (const TranscriptParty& party : h.parties) {
    w.text(party.name);
    w.raw(party.key.bytes);
  }
  return w.take();
}

Result<Transcript> Transcript::open(const std::string& path) {
  VB_ASSIGN(const auto file, MappedFile::open(path));
  VB_ASSIGN(Transcript t, parse(file->bytes(), path));
  t.file_ = file;
  return t;
}

Result<Transcript> Transcript::parse(ByteView bytes, const std::string& source) {
  Transcript t;
  t.source_ = source;
  Reader r(bytes, source);
  VB_ASSIGN(t.header_, read_header(r));
  t.valid_bytes_ = r.offset();
  while (r.remaining() > 0) {
    if (t.verdict_) return r.fail("bytes after the verdict");
    const size_t length = r.remaining() < 4 ? 0 : load_le<uint32_t>(bytes.data() + r.offset());
    if (r.remaining() < 4 || (length <= kMaxEntryBytes && r.remaining() - 4 < length)) {
      t.torn_ = true;
      return t;
    }
    const size_t begin = r.offset();
    VB_ASSIGN(const ByteView entry, r.blob(kMaxEntryBytes));
    Reader body(entry, source + ": entry " + std::to_string(t.exchanges_.size()),
                r.offset() - entry.size());
    VB_ASSIGN(const uint8_t tag, body.u8());
    if (tag == static_cast<uint8_t>(EntryTag::exchange)) {
      VB_ASSIGN(Exchange e, read_exchange(body, t.header_.parties.size()));
      e.offset = begin;
      t.exchanges_.push_back(e);
    } else if (tag == static_cast<uint8_t>(EntryTag::verdict)) {
      VB_ASSIGN(const ByteView verdict, body.blob(kMaxVerdict));
      VB_ASSIGN(t.verdict_, decode_verdict(verdict, source + ": verdict"));
      t.verdict_offset_ = begin;
    } else {
      return body.fail("unknown entry " + std::to_string(tag));
    }
    VB_TRY(body.finish());
    t.valid_bytes_ = r.offset();
  }
  return t;
}

std::vector<std::string> Transcript::party_names() const {
  std::vector<std::string> names;
  for (const TranscriptParty& party : header_.parties) names.push_back(party.name);
  return names;
}

TranscriptWriter::TranscriptWriter(TranscriptWriter&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
TranscriptWriter::~TranscriptWriter() {
  if (fd_ >= 0) ::close(fd_);
}

Result<TranscriptWriter> TranscriptWriter::create(const std::string& path,
                                                  const TranscriptHeader& header) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return failed(path, "create");
  TranscriptWriter writer(fd, path);
  VB_TRY(writer.lock());
  VB_TRY(writer.write(encode_transcript_header(header)));
  return writer;
}

Result<TranscriptWriter> TranscriptWriter::reopen(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return failed(path, "open");
  TranscriptWriter writer(fd, path);
  VB_TRY(writer.lock());
  return writer;
}

// Held until the descriptor is closed, by a crash too.
Status TranscriptWriter::lock() {
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return {};
  if (errno == EWOULDBLOCK)
    return unavailable(path_ + ": another process is writing this transcript");
  return failed(path_, "lock");
}

Status TranscriptWriter::cut(size_t valid_bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(valid_bytes)) != 0) return failed(path_, "truncate");
  if (::lseek(fd_, 0, SEEK_END) < 0) return failed(path_, "seek");
  return {};
}

// Trouble of the referee's own, hence never of a code that would be a party's failing.
Status TranscriptWriter::write(ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return internal_error(path_ + ": cannot write: " + std::strerror(errno));
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  if (::fsync(fd_) != 0) return internal_error(path_ + ": cannot sync: " + std::strerror(errno));
  return {};
}

Status TranscriptWriter::append(const Exchange& exchange) {
  return write(encode_exchange(exchange));
}

Status TranscriptWriter::append(const Verdict& verdict) {
  Writer w;
  w.u8(static_cast<uint8_t>(EntryTag::verdict));
  w.blob(encode_verdict(verdict));
  return write(framed(std::move(w)));
}

}  // namespace verbatim
