#include <verbatim/verify/protocol.h>

#include <algorithm>

#include <verbatim/core/tensor_codec.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

constexpr std::string_view kRequestMagic = "VBASK1\n ";
constexpr uint32_t kMaxRoots = 1 << 16, kMaxProof = 64;
constexpr size_t kMaxReason = 512;

// The first byte of an encoded question or reply.
enum class QuestionTag : uint8_t {
  commit = 1,
  reveal,
  children,
  record,
  step,
  node,
  recorded,
  tensor
};
enum class ReplyTag : uint8_t {
  refusal = 0,
  commit,
  reveal,
  children,
  record,
  step,
  node,
  recorded,
  tensor
};

struct QuestionWriter {
  Writer& w;
  void tag(QuestionTag t) { w.u8(static_cast<uint8_t>(t)); }
  void operator()(const AskCommit&) { tag(QuestionTag::commit); }
  void operator()(const AskReveal&) { tag(QuestionTag::reveal); }
  void operator()(const AskChildren& q) {
    tag(QuestionTag::children);
    w.u8(static_cast<uint8_t>(q.tree.kind));
    w.u64(q.tree.step);
    w.u32(q.tree.value);
    w.u64(q.node.begin);
    w.u64(q.node.end);
  }
  void operator()(const AskRecord& q) { tag(QuestionTag::record), w.u64(q.step); }
  void operator()(const AskStep& q) { tag(QuestionTag::step), w.u64(q.step); }
  void operator()(const AskNode& q) { tag(QuestionTag::node), w.u64(q.step), w.u32(q.node); }
  void operator()(const AskRecorded& q) {
    tag(QuestionTag::recorded), w.u64(q.step), w.u32(q.index);
  }
  void operator()(const AskTensor& q) {
    tag(QuestionTag::tensor);
    w.u64(q.step);
    w.u32(q.value);
    w.u64(q.offset);
    w.u32(q.length);
  }
};

void write_digests(Writer& w, std::span<const Digest> digests) {
  w.u32(static_cast<uint32_t>(digests.size()));
  for (const Digest& d : digests) w.raw(d.bytes);
}

struct ReplyWriter {
  Writer& w;
  void tag(ReplyTag t) { w.u8(static_cast<uint8_t>(t)); }
  void operator()(const Refusal& r) { tag(ReplyTag::refusal), w.text(r.reason); }
  void operator()(const Committed& r) { tag(ReplyTag::commit), w.raw(r.hash.bytes); }
  void operator()(const Revealed& r) {
    tag(ReplyTag::reveal);
    w.raw(r.salt);
    w.u64(r.steps);
    w.raw(r.records_root.bytes);
    write_digests(w, r.outputs);
  }
  void operator()(const Children& r) { tag(ReplyTag::children), write_digests(w, r.hashes); }
  void operator()(const Record& r) {
    tag(ReplyTag::record), w.raw(r.record.bytes), write_digests(w, r.proof);
  }
  void operator()(const StepOpening& r) {
    tag(ReplyTag::step);
    w.raw(r.previous.bytes);
    w.raw(r.body_root.bytes);
    w.raw(r.node_root.bytes);
  }
  void operator()(const NodeOpening& r) {
    tag(ReplyTag::node);
    write_digests(w, r.inputs);
    write_digests(w, r.outputs);
    write_digests(w, r.proof);
  }
  void operator()(const Recorded& r) {
    tag(ReplyTag::recorded), w.raw(r.root.bytes), write_digests(w, r.proof);
  }
  void operator()(const TensorPart& r) {
    tag(ReplyTag::tensor);
    write_dtype(w, r.dtype);
    write_shape(w, r.shape);
    w.raw(r.leaves_root.bytes);
    w.blob(r.bytes);
  }
};

Result<std::vector<Digest>> read_digests(Reader& r, uint32_t max) {
  VB_ASSIGN(const uint32_t n, r.count(32, max));
  std::vector<Digest> digests(n);
  for (Digest& d : digests) {
    VB_ASSIGN(d, read_digest(r));
  }
  return digests;
}

Result<Question> read_children(Reader& r) {
  AskChildren q;
  VB_ASSIGN(const uint8_t kind, r.u8());
  if (kind < 1 || kind > 4) return r.fail("unknown tree " + std::to_string(kind));
  q.tree.kind = static_cast<TreeName::Kind>(kind);
  VB_ASSIGN(q.tree.step, r.u64());
  VB_ASSIGN(q.tree.value, r.u32());
  if ((q.tree.kind == TreeName::Kind::records && q.tree.step != 0) ||
      (q.tree.kind != TreeName::Kind::leaves && q.tree.value != 0))
    return r.fail("a field that this tree does not use is not zero");
  VB_ASSIGN(q.node.begin, r.u64());
  VB_ASSIGN(q.node.end, r.u64());
  return Question(q);
}

Result<Question> read_question(Reader& r) {
  VB_ASSIGN(const uint8_t tag, r.u8());
  switch (static_cast<QuestionTag>(tag)) {
    case QuestionTag::commit:
      return Question(AskCommit{});
    case QuestionTag::reveal:
      return Question(AskReveal{});
    case QuestionTag::children:
      return read_children(r);
    case QuestionTag::record: {
      VB_ASSIGN(const uint64_t step, r.u64());
      return Question(AskRecord{step});
    }
    case QuestionTag::step: {
      VB_ASSIGN(const uint64_t step, r.u64());
      return Question(AskStep{step});
    }
    case QuestionTag::node: {
      VB_ASSIGN(const uint64_t step, r.u64());
      VB_ASSIGN(const uint32_t node, r.u32());
      return Question(AskNode{step, node});
    }
    case QuestionTag::recorded: {
      VB_ASSIGN(const uint64_t step, r.u64());
      VB_ASSIGN(const uint32_t index, r.u32());
      return Question(AskRecorded{step, index});
    }
    case QuestionTag::tensor: {
      AskTensor q{};
      VB_ASSIGN(q.step, r.u64());
      VB_ASSIGN(q.value, r.u32());
      VB_ASSIGN(q.offset, r.u64());
      VB_ASSIGN(q.length, r.u32());
      if (q.length > kMaxTensorPart) return r.fail("asks for too much at once");
      return Question(q);
    }
  }
  return r.fail("unknown question " + std::to_string(tag));
}

Result<Reply> read_reveal(Reader& r) {
  Revealed reply;
  VB_ASSIGN(const ByteView salt, r.raw(reply.salt.size()));
  std::ranges::copy(salt, reply.salt.begin());
  VB_ASSIGN(reply.steps, r.u64());
  VB_ASSIGN(reply.records_root, read_digest(r));
  VB_ASSIGN(reply.outputs, read_digests(r, kMaxRoots));
  return Reply(std::move(reply));
}

Result<Reply> read_tensor_part(Reader& r) {
  TensorPart reply;
  VB_ASSIGN(reply.dtype, read_dtype(r));
  VB_ASSIGN(reply.shape, read_shape(r));
  if (!canonical_size(reply.dtype, reply.shape).ok()) return r.fail("a tensor of too many bytes");
  VB_ASSIGN(reply.leaves_root, read_digest(r));
  VB_ASSIGN(const ByteView bytes, r.blob(kMaxTensorPart));
  reply.bytes.assign(bytes.begin(), bytes.end());
  return Reply(std::move(reply));
}

Result<Reply> read_reply(Reader& r) {
  VB_ASSIGN(const uint8_t tag, r.u8());
  switch (static_cast<ReplyTag>(tag)) {
    case ReplyTag::refusal: {
      VB_ASSIGN(std::string reason, r.text(kMaxReason));
      return Reply(Refusal{std::move(reason)});
    }
    case ReplyTag::commit: {
      VB_ASSIGN(const Digest hash, read_digest(r));
      return Reply(Committed{hash});
    }
    case ReplyTag::reveal:
      return read_reveal(r);
    case ReplyTag::children: {
      VB_ASSIGN(std::vector<Digest> hashes, read_digests(r, kMaxWalkWidth));
      return Reply(Children{std::move(hashes)});
    }
    case ReplyTag::record: {
      VB_ASSIGN(const Digest record, read_digest(r));
      VB_ASSIGN(MerkleProof proof, read_digests(r, kMaxProof));
      return Reply(Record{record, std::move(proof)});
    }
    case ReplyTag::step: {
      StepOpening reply;
      VB_ASSIGN(reply.previous, read_digest(r));
      VB_ASSIGN(reply.body_root, read_digest(r));
      VB_ASSIGN(reply.node_root, read_digest(r));
      return Reply(reply);
    }
    case ReplyTag::node: {
      NodeOpening reply;
      VB_ASSIGN(reply.inputs, read_digests(r, kMaxRoots));
      VB_ASSIGN(reply.outputs, read_digests(r, kMaxRoots));
      VB_ASSIGN(reply.proof, read_digests(r, kMaxProof));
      return Reply(std::move(reply));
    }
    case ReplyTag::recorded: {
      VB_ASSIGN(const Digest root, read_digest(r));
      VB_ASSIGN(MerkleProof proof, read_digests(r, kMaxProof));
      return Reply(Recorded{root, std::move(proof)});
    }
    case ReplyTag::tensor:
      return read_tensor_part(r);
  }
  return r.fail("unknown reply " + std::to_string(tag));
}

}  // namespace

Bytes encode_question(const Question& question) {
  Writer w;
  std::visit(QuestionWriter{w}, question);
  return w.take();
}

Bytes encode_request(const Request& request) {
  Writer w;
  w.raw(as_bytes(kRequestMagic));
  w.raw(request.task.bytes);
  w.raw(request.session.bytes);
  w.u64(request.sequence);
  w.raw(request.previous.bytes);
  w.raw(encode_question(request.question));
  return w.take();
}

Result<Request> decode_request(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  Request request;
  VB_ASSIGN(const ByteView magic, r.raw(kRequestMagic.size()));
  if (as_chars(magic) != kRequestMagic) return bad_input_at(source, 0, "not a request");
  VB_ASSIGN(request.task, read_digest(r));
  VB_ASSIGN(request.session, read_digest(r));
  VB_ASSIGN(request.sequence, r.u64());
  VB_ASSIGN(request.previous, read_digest(r));
  VB_ASSIGN(request.question, read_question(r));
  VB_TRY(r.finish());
  return request;
}

Bytes encode_reply(const Reply& reply) {
  Writer w;
  std::visit(ReplyWriter{w}, reply);
  return w.take();
}

Result<Reply> decode_reply(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  VB_ASSIGN(Reply reply, read_reply(r));
  VB_TRY(r.finish());
  return reply;
}

Digest commit_hash(const PublicKey& key, const Digest& task, const Digest& session,
                   const std::array<std::byte, 32>& salt, const Digest& final_root,
                   uint64_t steps) {
  Writer w;
  w.raw(key.bytes);
  w.raw(task.bytes);
  w.raw(session.bytes);
  w.raw(salt);
  w.raw(final_root.bytes);
  w.u64(steps);
  return tagged_hash("verbatim.commit.1", w.bytes());
}

Digest party_session(const Digest& nonce, uint32_t party) {
  Writer w;
  w.raw(nonce.bytes);
  w.u32(party);
  return tagged_hash("verbatim.session.1", w.bytes());
}

Digest exchange_start(const Digest& task, const Digest& session, const PublicKey& key) {
  Writer w;
  w.raw(task.bytes);
  w.raw(session.bytes);
  w.raw(key.bytes);
  return tagged_hash("verbatim.start.1", w.bytes());
}

Digest exchange_next(const Digest& previous, ByteView request, ByteView reply) {
  Writer w;
  w.raw(previous.bytes);
  w.raw(sha256(request).bytes);
  w.raw(sha256(reply).bytes);
  return tagged_hash("verbatim.exchange.1", w.bytes());
}

Digest answer_digest(const Digest& task, const PublicKey& key, uint64_t sequence,
                     const Digest& previous, ByteView request, ByteView reply) {
  Writer w;
  w.raw(task.bytes);
  w.raw(key.bytes);
  w.u64(sequence);
  w.raw(previous.bytes);
  w.raw(sha256(request).bytes);
  w.raw(sha256(reply).bytes);
  return tagged_hash("verbatim.answer.1", w.bytes());
}

}  // namespace verbatim
