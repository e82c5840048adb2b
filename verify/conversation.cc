#include <verbatim/verify/conversation.h>

namespace verbatim {
namespace {

constexpr size_t kMaxRememberedBytes = 16 << 10, kMaxRemembered = 1024;

// The reason depends on the code alone: a transcript keeps no more, and must give the same verdict.
std::string failure_of(StatusCode code) {
  if (code == StatusCode::deadline) return "it did not answer in time";
  if (code == StatusCode::limit) return "its answer was too large";
  return "it could not be reached";
}

}  // namespace

Conversation::Conversation(Party& party, const Digest& task, const Digest& session)
    : party_(&party),
      task_(task),
      session_(session),
      previous_(exchange_start(task, session, party.key())) {}

void Conversation::fail(std::string reason) {
  if (failure_.empty()) failure_ = std::move(reason);
}

std::optional<Reply> Conversation::ask_any(const Question& question) {
  if (failed() || !trouble_.ok()) return std::nullopt;
  const Bytes asked = encode_question(question);
  if (const auto it = remembered_.find(asked); it != remembered_.end()) return it->second;

  const Bytes request = encode_request({task_, session_, sequence_, previous_, question});
  const Result<SignedAnswer> answer = party_->ask(request);
  ++sequence_;
  if (!answer.ok()) {
    const StatusCode code = answer.status().code();
    if (code == StatusCode::deadline || code == StatusCode::limit ||
        code == StatusCode::unavailable)
      fail(failure_of(code));
    else
      trouble_ = answer.status();
    return std::nullopt;
  }
  bytes_read_ += answer->reply.size() + answer->signature.bytes.size();
  if (answer->reply.size() > kMaxReplyBytes) {
    fail(failure_of(StatusCode::limit));
    return std::nullopt;
  }
  const Digest signed_digest =
      answer_digest(task_, key(), sequence_ - 1, previous_, request, answer->reply);
  if (!verify_signature(key(), signed_digest.bytes, answer->signature)) {
    fail("its answer is not signed with its key, for this place in this dispute");
    return std::nullopt;
  }
  previous_ = exchange_next(previous_, request, answer->reply);
  Result<Reply> reply = decode_reply(answer->reply, "answer");
  if (!reply.ok()) {
    fail("its answer is malformed: " + reply.status().message());
    return std::nullopt;
  }
  if (const Refusal* refusal = std::get_if<Refusal>(&*reply)) {
    fail("it declined to answer: " + refusal->reason);
    return std::nullopt;
  }
  if (answer->reply.size() <= kMaxRememberedBytes && remembered_.size() < kMaxRemembered)
    remembered_.emplace(asked, *reply);
  return *std::move(reply);
}

}  // namespace verbatim
