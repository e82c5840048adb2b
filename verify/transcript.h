// A dispute on paper: the task, who took part, every exchange in its order, and the verdict.
//
// Append-only and synced after each exchange, so that a dispute goes on after a crash. Every answer
// in it is signed by its party for its place; that an answer did not come is the referee's word.
// Layout: docs/formats.md.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <verbatim/core/file.h>
#include <verbatim/core/signature.h>
#include <verbatim/verify/protocol.h>
#include <verbatim/verify/task.h>
#include <verbatim/verify/verdict.h>

namespace verbatim {

struct TranscriptParty {
  std::string name;  // for people: an address
  PublicKey key;     // zero where the party never gave one
};

struct TranscriptHeader {
  Task task;
  Digest nonce;  // gives each party its session; a secret until the dispute has ended
  std::vector<TranscriptParty> parties;
};

struct Exchange {
  uint32_t party = 0;
  ByteView request;
  StatusCode failure = StatusCode::ok;  // deadline, unavailable or limit where there is no answer
  ByteView reply;
  Signature signature;
  size_t offset = 0;  // of its entry in the transcript that it was read from, in bytes
};

// A transcript that was read; views into the bytes that it was read from.
class Transcript {
 public:
  static Result<Transcript> open(const std::string& path);
  // The same from bytes that outlive the result.
  static Result<Transcript> parse(ByteView bytes, const std::string& source);

  const std::string& source() const { return source_; }  // the file's path, for messages
  const TranscriptHeader& header() const { return header_; }
  std::vector<std::string> party_names() const;
  const std::vector<Exchange>& exchanges() const { return exchanges_; }
  const std::optional<Verdict>& verdict() const {
    return verdict_;
  }  // none: the dispute is under way
  size_t verdict_offset() const { return verdict_offset_; }
  // Bytes up to the end of the last whole entry, and whether a torn one follows (a crash while
  // writing).
  size_t valid_bytes() const { return valid_bytes_; }
  bool torn() const { return torn_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::string source_;
  TranscriptHeader header_;
  std::vector<Exchange> exchanges_;
  std::optional<Verdict> verdict_;
  size_t verdict_offset_ = 0;
  size_t valid_bytes_ = 0;
  bool torn_ = false;
};

// The one writer of a file: while it lives, another one, of any process, is refused.
class TranscriptWriter {
 public:
  // A new file; an error where there is one already.
  static Result<TranscriptWriter> create(const std::string& path, const TranscriptHeader& header);
  // To go on: read the transcript once this is held, then cut() what is torn.
  static Result<TranscriptWriter> reopen(const std::string& path);
  // Writes after `valid_bytes`, cutting off a torn entry.
  Status cut(size_t valid_bytes);
  TranscriptWriter(TranscriptWriter&& other) noexcept;
  TranscriptWriter& operator=(TranscriptWriter&&) = delete;
  ~TranscriptWriter();

  // On disk when they return.
  Status append(const Exchange& exchange);
  Status append(const Verdict& verdict);

 private:
  TranscriptWriter(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  Status lock();
  Status write(ByteView bytes);
  int fd_;
  std::string path_;
};

Bytes encode_transcript_header(const TranscriptHeader& header);

}  // namespace verbatim
