#include <verbatim/verify/dispute.h>

#include <algorithm>
#include <memory>

#include <verbatim/core/fp_guard.h>
#include <verbatim/verify/referee.h>

namespace verbatim {
namespace {

// The order of exchanges among all parties: first those recorded, then live ones, which get
// recorded.
struct Log {
  std::span<const Exchange> recorded;
  size_t next = 0;
  TranscriptWriter* writer = nullptr;  // none: judging
  std::string source = "";             // of what is recorded
};

class LoggedParty final : public Party {
 public:
  LoggedParty(Log& log, uint32_t index, const PublicKey& key, Party* live)
      : log_(log), index_(index), key_(key), live_(live) {}
  const PublicKey& key() const override { return key_; }

  Result<SignedAnswer> ask(ByteView request) override {
    return log_.next < log_.recorded.size() ? replay(request) : ask_live(request);
  }

 private:
  Result<SignedAnswer> replay(ByteView request) {
    const Exchange& e = log_.recorded[log_.next++];
    if (e.party != index_ || !std::ranges::equal(e.request, request))
      return bad_input_at(log_.source, e.offset,
                          "exchange " + std::to_string(log_.next - 1) +
                              " is not what this referee asks");
    if (e.failure != StatusCode::ok) return Status(e.failure, "as recorded");
    return SignedAnswer{{e.reply.begin(), e.reply.end()}, e.signature};
  }

  Result<SignedAnswer> ask_live(ByteView request) {
    if (log_.writer == nullptr)
      return bad_input(log_.source + ": the transcript ends before the dispute does");
    Result<SignedAnswer> answer =
        live_ == nullptr ? Status(StatusCode::unavailable, "never reached") : live_->ask(request);
    if (answer.ok() && answer->reply.size() > kMaxReplyBytes)
      answer = over_limit("too large an answer");
    Exchange e{index_, request, answer.status().code(), {}, {}};
    if (answer.ok()) {
      e.reply = answer->reply;
      e.signature = answer->signature;
    } else if (e.failure != StatusCode::deadline && e.failure != StatusCode::unavailable &&
               e.failure != StatusCode::limit) {
      return answer;  // our own trouble: nothing to hold against the party
    }
    VB_TRY(log_.writer->append(e));
    return answer;
  }

  Log& log_;
  uint32_t index_;
  PublicKey key_;
  Party* live_;
};

// The verdict that `log` leads to, live parties asked for what is not recorded.
Result<Verdict> settle_logged(const TranscriptHeader& header, Log& log,
                              std::span<Party* const> live, const RefereeOptions& options) {
  const FloatWatch watch;
  const FloatGuard guard;
  VB_TRY(watch.check());  // a referee in a wrong mode is no referee
  std::vector<std::unique_ptr<LoggedParty>> parties;
  std::vector<Party*> pointers;
  for (uint32_t i = 0; i < header.parties.size(); ++i) {
    parties.push_back(std::make_unique<LoggedParty>(log, i, header.parties[i].key,
                                                    live.empty() ? nullptr : live[i]));
    pointers.push_back(parties.back().get());
  }
  return settle(header.task, pointers, header.nonce, options);
}

Status all_used(const Log& log) {
  if (log.next == log.recorded.size()) return {};
  return bad_input_at(log.source, log.recorded[log.next].offset,
                      "exchange " + std::to_string(log.next) +
                          " and what follows is not asked by this referee");
}

}  // namespace

Result<Verdict> run_dispute(const Task& task, std::span<const Disputant> disputants,
                            const std::string& transcript_path, const RefereeOptions& options) {
  VB_TRY(validate_task(task));
  TranscriptHeader header{task, {}, {}};
  VB_ASSIGN(const Bytes nonce, random_bytes(header.nonce.bytes.size()));
  std::ranges::copy(nonce, header.nonce.bytes.begin());
  std::vector<Party*> live;
  for (const Disputant& d : disputants) {
    header.parties.push_back({printable(d.name.substr(0, 256)), d.party->key()});
    live.push_back(d.party);
  }
  VB_TRY(check_parties(live));
  VB_ASSIGN(TranscriptWriter writer, TranscriptWriter::create(transcript_path, header));
  Log log{{}, 0, &writer};
  VB_ASSIGN(Verdict verdict, settle_logged(header, log, live, options));
  VB_TRY(writer.append(verdict));
  return verdict;
}

Result<Verdict> resume_dispute(const std::string& transcript_path, const Connect& connect,
                               const RefereeOptions& options) {
  {  // a finished one is only read
    VB_ASSIGN(const Transcript finished, Transcript::open(transcript_path));
    if (finished.verdict()) return judge(finished, options);
  }
  VB_ASSIGN(TranscriptWriter writer, TranscriptWriter::reopen(transcript_path));
  VB_ASSIGN(const Transcript t, Transcript::open(transcript_path));
  if (t.verdict()) return judge(t, options);
  const TranscriptHeader& header = t.header();
  std::vector<Party*> live = connect(header);
  if (live.size() != header.parties.size())
    return usage_error("the transcript has " + std::to_string(header.parties.size()) + " parties");
  for (size_t i = 0; i < live.size(); ++i)
    if (live[i]->key() != header.parties[i].key) live[i] = nullptr;
  VB_TRY(writer.cut(t.valid_bytes()));
  Log log{t.exchanges(), 0, &writer, t.source()};
  VB_ASSIGN(Verdict verdict, settle_logged(header, log, live, options));
  VB_TRY(all_used(log));
  VB_TRY(writer.append(verdict));
  return verdict;
}

Result<Verdict> judge(const Transcript& t, const RefereeOptions& options) {
  if (t.torn())
    return bad_input_at(t.source(), t.valid_bytes(), "the transcript is cut short within an entry");
  if (!t.verdict())
    return bad_input(t.source() + ": no verdict yet; `verbatim dispute resume` goes on with it");
  const TranscriptHeader& header = t.header();
  Log log{t.exchanges(), 0, nullptr, t.source()};
  VB_ASSIGN(Verdict verdict, settle_logged(header, log, {}, options));
  const bool same = encode_verdict(verdict) == encode_verdict(*t.verdict());
  const bool gave_up = verdict.outcome == DisputeOutcome::no_verdict &&
                       EffectiveLimits{header.task.limits, options.limits}.own_are_lower();
  if (!same && gave_up) return verdict;
  VB_TRY(all_used(log));
  if (!same)
    return bad_input_at(t.source(), t.verdict_offset(),
                        "the answers do not lead to the verdict that is recorded");
  return verdict;
}

}  // namespace verbatim
