// A referee's side of the exchanges with one party: places each question, checks each signature,
// and remembers.
//
// A party that fails once is not asked again. It is never asked the same thing twice, so it cannot
// say one thing to one opponent and another to the next.
#pragma once

#include <map>
#include <optional>
#include <string>

#include <verbatim/verify/party.h>

namespace verbatim {

class Conversation {
 public:
  Conversation(Party& party, const Digest& task, const Digest& session);

  // The reply, of the type that the question calls for (Committed for AskCommit, ...). Nothing
  // where the party failed, now or before.
  template <class R>
  std::optional<R> ask(const Question& question) {
    const std::optional<Reply> reply = ask_any(question);
    if (!reply) return std::nullopt;
    if (const R* r = std::get_if<R>(&*reply)) return *r;
    fail("its answer is of the wrong kind");
    return std::nullopt;
  }

  // Records that the party failed: a reply that does not hash to what it must is no better than
  // none.
  void fail(std::string reason);
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  // Trouble of the referee's own; the dispute cannot go on.
  const Status& trouble() const { return trouble_; }

  const PublicKey& key() const { return party_->key(); }
  const Digest& session() const { return session_; }
  uint64_t bytes_read() const { return bytes_read_; }
  uint64_t exchanges() const { return sequence_; }

 private:
  std::optional<Reply> ask_any(const Question& question);

  Party* party_;
  Digest task_, session_;
  Digest previous_;
  uint64_t sequence_ = 0;
  uint64_t bytes_read_ = 0;
  std::string failure_;
  Status trouble_;
  std::map<Bytes, Reply> remembered_;  // small replies, by encoded question
};

}  // namespace verbatim
