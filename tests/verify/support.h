// Small programs and parties for the tests of verify/.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <verbatim/verify/dispute.h>
#include <verbatim/verify/provider.h>
#include <verbatim/verify/referee.h>

namespace verbatim::test {

template <class T>
T ok(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.status().message());
  return *std::move(result);
}
inline void ok(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

// A generator that gives the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t next();
  uint64_t below(uint64_t n) { return next() % n; }
  float real() { return static_cast<float>(static_cast<int64_t>(below(2001)) - 1000) / 1000.0f; }
  Tensor tensor(const Shape& shape);

 private:
  uint64_t state_, counter_ = 0;
};

// A chain of `layers` random operators over a state of [rows, columns] that is carried from step to
// step, a cache that each step appends to and reads, and an int64 that may stop the program. Roots
// are computed.
struct ProgramSize {
  int64_t rows = 3, columns = 5;
  int layers = 4;
  uint32_t max_steps = 6;
};
Program make_program(Random& random, const ProgramSize& size);
Task make_task(Random& random, const ProgramSize& size, CommitLevel level);

std::array<std::byte, 32> seed(uint8_t n);
SigningKey test_key(uint8_t n);
std::unique_ptr<Provider> make_provider(const Task& task, uint8_t key,
                                        std::optional<Fault> fault = std::nullopt,
                                        uint64_t state_bytes = uint64_t{1} << 30);

// A provider in this process.
class LocalParty final : public Party {
 public:
  explicit LocalParty(Provider& provider) : provider_(provider) {}
  const PublicKey& key() const override { return provider_.key(); }
  Result<SignedAnswer> ask(ByteView request) override {
    ++asked;
    return provider_.answer(request);
  }
  int asked = 0;

 private:
  Provider& provider_;
};

// A party that may say anything: `change` gets the true reply of a provider, and what it returns is
// signed properly.
class LyingParty final : public Party {
 public:
  using Change = std::function<Reply(const Request&, Reply)>;
  using Mangle = std::function<Result<Bytes>(const Question&, Bytes)>;
  // The provider may be of another task than the one that is disputed.
  LyingParty(Provider& provider, uint8_t key, Change change)
      : provider_(provider), key_(test_key(key)), change_(std::move(change)) {}
  const PublicKey& key() const override { return key_.public_key(); }
  Result<SignedAnswer> ask(ByteView request) override;
  Mangle mangle;  // the encoded reply, before it is signed; an error is what the referee gets
  std::function<void(SignedAnswer&)> after;  // what was signed

 private:
  Provider& provider_;
  SigningKey key_;
  Change change_;
  Digest inner_session_;
  uint64_t inner_sequence_ = 0;
  Digest inner_previous_;
};

// Lies about which steps were taken: claims `records` (step records) and `outputs`, and answers the
// rest as the provider does.
LyingParty::Change forged_records(const Task& task, const PublicKey& key,
                                  std::vector<Digest> records, uint64_t steps,
                                  std::vector<Digest> outputs);

// Of a run of `program` as if it were the task's; with a fault, a liar's.
Commitment commit(const Task& task, const Program& program,
                  std::optional<Fault> fault = std::nullopt);
inline Commitment commit(const Task& task) { return commit(task, task.program); }
// The least limit with which an honest provider takes the task, of those up to 2^20.
uint64_t least(Task task, uint64_t NodeLimits::*limit);
Digest session(uint8_t n);
Digest new_session();  // another one each time

}  // namespace verbatim::test
