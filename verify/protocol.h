// What referee and provider say to each other: questions, replies, and the signature that ties a
// reply to its place.
//
// All layouts are fixed and canonical (docs/formats.md). A question never carries what the referee
// expects, and a reply never carries positions or counts that the public program determines.
#pragma once

#include <array>
#include <string>
#include <variant>
#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/core/shape.h>
#include <verbatim/core/signature.h>
#include <verbatim/repops/graph.h>
#include <verbatim/verify/merkle_walk.h>

namespace verbatim {

inline constexpr uint32_t kMaxTensorPart = 1 << 20;  // bytes of a tensor in one reply
inline constexpr size_t kMaxReplyBytes = 3 << 20;    // a longer reply forfeits
inline constexpr size_t kMaxRequestBytes = 4096;

// The Merkle trees that a referee walks.
struct TreeName {
  enum class Kind : uint8_t {
    records = 1,   // step records and absent records: max_steps leaves
    nodes = 2,     // node hashes of `step`
    recorded = 3,  // roots of recorded_values() of `step` (light level)
    leaves = 4,    // leaves of the tensor root of `value` in `step`
  } kind = Kind::records;
  uint64_t step = 0;   // 0 for records
  uint32_t value = 0;  // 0 but for leaves
  bool operator==(const TreeName&) const = default;
};

struct AskCommit {};
struct AskReveal {};
struct AskChildren {
  TreeName tree;
  LeafRange node;
};
struct AskRecord {
  uint64_t step;
};
struct AskStep {
  uint64_t step;
};
struct AskNode {
  uint64_t step;
  uint32_t node;
};
struct AskRecorded {
  uint64_t step;
  uint32_t index;  // into recorded_values()
};
struct AskTensor {
  uint64_t step;
  uint32_t value;
  uint64_t offset;  // bytes
  uint32_t length;  // at most kMaxTensorPart; 0 asks for type and shape alone
};
using Question = std::variant<AskCommit, AskReveal, AskChildren, AskRecord, AskStep, AskNode,
                              AskRecorded, AskTensor>;

struct Refusal {  // the party will not or cannot answer; it forfeits
  std::string reason;
};
struct Committed {
  Digest hash;  // commit_hash()
};
struct Revealed {
  std::array<std::byte, 32> salt{};
  uint64_t steps = 0;
  Digest records_root;
  std::vector<Digest> outputs;  // roots of the outputs of the last step
};
struct Children {
  std::vector<Digest> hashes;
};
struct Record {
  Digest record;
  MerkleProof proof;  // under the records root
};
struct StepOpening {
  Digest previous, body_root;
  Digest node_root;  // over the node hashes; the body root itself under the full level
};
struct NodeOpening {
  std::vector<Digest> inputs, outputs;
  MerkleProof proof;  // of the node hash under the node root
};
struct Recorded {
  Digest root;
  MerkleProof proof;  // under the body root
};
struct TensorPart {
  DType dtype = DType::undefined;
  Shape shape;
  Digest leaves_root;  // with type and shape it gives the tensor root: a header proves itself
  Bytes bytes;         // little-endian
};
using Reply = std::variant<Refusal, Committed, Revealed, Children, Record, StepOpening, NodeOpening,
                           Recorded, TensorPart>;

// A question in its place: which task, which dispute, the how-manieth of this party, after what.
struct Request {
  Digest task;
  Digest session;         // party_session(): of this party in this dispute
  uint64_t sequence = 0;  // from 0
  Digest previous;        // exchange_start() or exchange_next() of the exchange before
  Question question;
};

Bytes encode_question(const Question& question);
Bytes encode_request(const Request& request);
Result<Request> decode_request(ByteView bytes, const std::string& source);
Bytes encode_reply(const Reply& reply);
Result<Reply> decode_reply(ByteView bytes, const std::string& source);

Digest commit_hash(const PublicKey& key, const Digest& task, const Digest& session,
                   const std::array<std::byte, 32>& salt, const Digest& final_root, uint64_t steps);

// The session of a party in a dispute. The nonce is the referee's secret while the dispute lasts:
// whoever knows one session could otherwise ask in another party's place, and learn what it reveals
// or put it out of step.
Digest party_session(const Digest& nonce, uint32_t party);

// The chain over all exchanges with one party in one dispute.
Digest exchange_start(const Digest& task, const Digest& session, const PublicKey& key);
Digest exchange_next(const Digest& previous, ByteView request, ByteView reply);
// What a party signs: its reply, in its place.
Digest answer_digest(const Digest& task, const PublicKey& key, uint64_t sequence,
                     const Digest& previous, ByteView request, ByteView reply);

struct SignedAnswer {
  Bytes reply;
  Signature signature;
};

}  // namespace verbatim
