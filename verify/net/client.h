// A provider seen from a referee, over gRPC, within a budget of time.
//
//   auto party = connect_party("a.example:7000", task, std::chrono::seconds(60));
//   if (!party->problem().ok()) std::cerr << party->problem().message() << "\n";   // it will
//   forfeit std::vector<Disputant> who = {{"a.example:7000", party.get()}, ...}; VB_ASSIGN(Verdict
//   verdict, run_dispute(task, who, "d.transcript"));
//
// The budget is for the whole dispute: time spent waiting for this party, whatever it is asked, is
// taken from it, and a call never waits longer than what is left. So no party can hold the referee,
// or use up another's time.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <verbatim/verify/party.h>
#include <verbatim/verify/task.h>

namespace verbatim {

class RemoteParty final : public Party {
 public:
  ~RemoteParty() override;
  const PublicKey& key() const override;  // zero where it was never reached
  Result<SignedAnswer> ask(ByteView request) override;

  // Why it could not be reached or would not take the task; it then answers nothing.
  const Status& problem() const;
  std::chrono::milliseconds time_left() const;

 private:
  friend std::unique_ptr<RemoteParty> connect_party(const std::string&, const Task&,
                                                    std::chrono::milliseconds);
  struct State;
  explicit RemoteParty(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Asks for its key and hands it the task; both count against the budget. Never fails: see
// problem().
std::unique_ptr<RemoteParty> connect_party(const std::string& address, const Task& task,
                                           std::chrono::milliseconds budget);

}  // namespace verbatim
