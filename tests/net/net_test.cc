// Providers in processes of their own, over real sockets: settled as in one process, and never held
// up by one that fails.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <new>
#include <stdexcept>
#include <thread>
#include <utility>

#include <verbatim/verify/net/client.h>
#include <verbatim/verify/net/server.h>

#include "../verify/support.h"

namespace verbatim::test {
namespace {

using namespace std::chrono_literals;

// A server in a child process.
class ServerProcess {
 public:
  ServerProcess(const Task& task, uint8_t key, std::optional<Fault> fault) {
    int fds[2];
    if (::pipe(fds) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // not to outlive a test that crashes
      ::close(fds[0]);
      ServeOptions options;
      options.listen = "127.0.0.1:0";
      options.key = test_key(key);
      options.provider.fault = fault;
      options.load_program = [&](const Task& t) {
        return bind_weights(t.program, task.program.graph);
      };
      options.make_backend = []() -> Result<std::unique_ptr<Backend>> {
        return make_reference_backend();
      };
      (void)serve_provider(options, [&](const std::string& address) {
        (void)!::write(fds[1], address.data(), address.size());
        ::close(fds[1]);
      });
      ::_exit(0);
    }
    ::close(fds[1]);
    char buffer[64];
    const ssize_t n = ::read(fds[0], buffer, sizeof buffer);
    ::close(fds[0]);
    if (n > 0) address_.assign(buffer, static_cast<size_t>(n));
  }
  ~ServerProcess() { kill(); }
  void signal(int number) { ::kill(pid_, number); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  const std::string& address() const { return address_; }

 private:
  pid_t pid_ = -1;
  std::string address_;
};

// 20 steps of 30 operators over a state of 1 MiB: a whole trace holds 600 MiB.
Task large_task() {
  GraphBuilder b;
  ValueId x = b.input("x", DType::f32, {512, 512});
  const ValueId c = b.constant("c", Random(1).tensor({512}));
  for (int i = 0; i < 30; ++i) x = b.add(i % 2 ? "Mul" : "Add", "", {x, c});
  b.output("y", x);
  Task task;
  task.level = CommitLevel::full;
  task.program.graph = ok(b.finish());
  task.program.graph.compute_roots();
  task.program.carries = {{0, 0}};
  task.program.max_steps = 20;
  task.inputs = {Random(2).tensor({512, 512})};
  ok(validate_task(task));
  return task;
}

// A referee in a child process, so that its memory is its own: disputes `task` between two
// providers, and tells the refuted party and place on a pipe.
class RefereeProcess {
 public:
  RefereeProcess(const Task& task, std::vector<std::string> addresses) {
    if (::pipe(start_) != 0 || ::pipe(result_) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    char go;
    if (::read(start_[0], &go, 1) != 1) ::_exit(1);
    const std::string text = refutation(task, addresses);
    (void)!::write(result_[1], text.data(), text.size());
    ::_exit(0);
  }
  ~RefereeProcess() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    for (const int fd : {start_[0], start_[1], result_[0], result_[1]}) ::close(fd);
  }
  // Runs the dispute; the result and the most memory that the process ever held, in bytes.
  std::pair<std::string, int64_t> run() {
    (void)!::write(start_[1], "g", 1);
    rusage usage{};
    ::wait4(std::exchange(pid_, -1), nullptr, 0, &usage);
    char buffer[512];
    const ssize_t n = ::read(result_[0], buffer, sizeof buffer);
    return {std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0), usage.ru_maxrss * 1024};
  }

 private:
  static std::string refutation(const Task& task, const std::vector<std::string>& addresses) {
    const auto a = connect_party(addresses[0], task, 60s),
               b = connect_party(addresses[1], task, 60s);
    const auto v = settle(task, std::vector<Party*>{a.get(), b.get()}, new_session());
    if (!v.ok() || v->refuted.size() != 1) return "not settled";
    const auto& r = v->refuted[0];
    return std::to_string(r.party) + ":" + std::to_string(r.where->step) + ":" +
           std::to_string(r.where->node) + ":" + std::to_string(r.where->element);
  }
  int start_[2], result_[2];
  pid_t pid_ = -1;
};

// gRPC does not survive a fork, so all processes start before the first channel.
struct Servers {
  Servers() {
    Random random(21);
    task = make_task(random, {3, 5, 4, 20}, CommitLevel::full);
    task.program.stop_value = -1;
    honest = std::make_unique<ServerProcess>(task, 1, std::nullopt);
    liar = std::make_unique<ServerProcess>(task, 2, Fault{9, 4, 3, 20});
    doomed = std::make_unique<ServerProcess>(task, 3, Fault{9, 4, 3, 21});
    sleepy = std::make_unique<ServerProcess>(task, 4, Fault{9, 4, 3, 22});
    large = large_task();
    large_honest = std::make_unique<ServerProcess>(large, 7, std::nullopt);
    large_liar = std::make_unique<ServerProcess>(large, 8, Fault{13, 21, 200'000, 5});
    referee = std::make_unique<RefereeProcess>(
        large, std::vector{large_honest->address(), large_liar->address()});
  }
  Task task, large;
  std::unique_ptr<ServerProcess> honest, liar, doomed, sleepy, large_honest, large_liar;
  std::unique_ptr<RefereeProcess> referee;
};
Servers* servers = nullptr;

std::string transcript_path(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/" + name + std::to_string(::getpid());
  ::unlink(path.c_str());
  return path;
}

// Lets a test act in the middle of a dispute.
class Interrupted final : public Party {
 public:
  Interrupted(Party& inner, int at, std::function<void()> act)
      : inner_(inner), left_(at), act_(std::move(act)) {}
  const PublicKey& key() const override { return inner_.key(); }
  Result<SignedAnswer> ask(ByteView request) override {
    if (left_-- == 0) act_();
    return inner_.ask(request);
  }

 private:
  Party& inner_;
  int left_;
  std::function<void()> act_;
};

TEST(Net, RefutesALiarInAnotherProcessAndTheTranscriptJudgesAlike) {
  const auto a = connect_party(servers->honest->address(), servers->task, 60s);
  const auto b = connect_party(servers->liar->address(), servers->task, 60s);
  ASSERT_TRUE(a->problem().ok()) << a->problem().message();
  ASSERT_TRUE(b->problem().ok()) << b->problem().message();
  const std::string path = transcript_path("net");
  const Verdict v =
      ok(run_dispute(servers->task, std::vector<Disputant>{{"a", a.get()}, {"b", b.get()}}, path));
  ASSERT_EQ(v.refuted.size(), 1u);
  EXPECT_EQ(v.refuted[0].party, 1u);
  EXPECT_EQ(v.refuted[0].where->step, 9u);
  EXPECT_EQ(v.refuted[0].where->node, 4);
  EXPECT_EQ(v.refuted[0].where->element, 3);
  const Transcript t = ok(Transcript::open(path));
  EXPECT_EQ(encode_verdict(ok(judge(t))), encode_verdict(v));
}

TEST(Net, TheRefereeNeverHoldsATrace) {
  const auto [refuted, peak] = servers->referee->run();
  EXPECT_EQ(refuted, "1:13:21:200000");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer takes memory of its own";
#endif
  EXPECT_LT(peak, int64_t{64} << 20);
  RecordProperty("peak_bytes", std::to_string(peak));
}

TEST(Net, KilledInMidDisputeForfeits) {
  const auto a = connect_party(servers->honest->address(), servers->task, 60s);
  const auto b = connect_party(servers->doomed->address(), servers->task, 60s);
  Interrupted c(*b, 4, [] { servers->doomed->kill(); });
  const auto start = std::chrono::steady_clock::now();
  const Verdict v = ok(settle(servers->task, std::vector<Party*>{a.get(), &c}, new_session()));
  EXPECT_EQ(v.outcome, DisputeOutcome::forfeit);
  EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
}

TEST(Net, SleepingServerForfeitsWithinItsBudget) {
  const auto a = connect_party(servers->honest->address(), servers->task, 60s);
  const auto b = connect_party(servers->sleepy->address(), servers->task, 3s);
  Interrupted c(*b, 4, [] { servers->sleepy->signal(SIGSTOP); });
  const auto start = std::chrono::steady_clock::now();
  const Verdict v = ok(settle(servers->task, std::vector<Party*>{a.get(), &c}, new_session()));
  EXPECT_EQ(v.outcome, DisputeOutcome::forfeit);
  ASSERT_EQ(v.forfeited.size(), 1u);
  EXPECT_EQ(v.forfeited[0].reason, "it did not answer in time");
  EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took, 5s);
  EXPECT_GT(a->time_left(), 50s);  // the other's time is its own
}

TEST(Net, NobodyThereForfeits) {
  const auto a = connect_party(servers->honest->address(), servers->task, 60s);
  const auto b = connect_party("127.0.0.1:1", servers->task, 5s);
  EXPECT_EQ(b->problem().code(), StatusCode::unavailable);
  const Verdict v = ok(settle(servers->task, std::vector<Party*>{a.get(), b.get()}, new_session()));
  EXPECT_EQ(v.outcome, DisputeOutcome::forfeit);
  EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
}

TEST(Net, AnotherModelIsRefusedWithAReason) {
  Random random(22);
  const Task other = make_task(random, {3, 5, 4, 20}, CommitLevel::full);
  const auto party = connect_party(servers->honest->address(), other, 10s);
  EXPECT_NE(party->problem().message().find("not in this model"), std::string::npos)
      << party->problem().message();
}

TEST(Net, TwoServersCannotShareAnAddress) {
  ServeOptions options;
  options.listen = servers->honest->address();
  options.key = test_key(5);
  options.load_program = [](const Task&) -> Result<Program> { return Program(); };
  options.make_backend = []() -> Result<std::unique_ptr<Backend>> {
    return make_reference_backend();
  };
  EXPECT_EQ(ProviderServer::start(options).status().code(), StatusCode::unavailable);
}

// A server in this process; what a test does not set is an honest provider of servers->task.
class Local {
 public:
  explicit Local(const std::function<void(ServeOptions&)>& change) {
    ServeOptions options;
    options.listen = "127.0.0.1:0";
    options.key = test_key(6);
    options.load_program = [](const Task& t) -> Result<Program> {
      return bind_weights(t.program, servers->task.program.graph);
    };
    options.make_backend = []() -> Result<std::unique_ptr<Backend>> {
      return make_reference_backend();
    };
    change(options);
    server_ = ok(ProviderServer::start(std::move(options)));
  }
  // A dispute with it about the task of that nonce.
  static Task task(uint8_t nonce) {
    Task task = servers->task;
    task.nonce[1] = std::byte{nonce};
    return task;
  }
  std::unique_ptr<RemoteParty> connect(uint8_t nonce = 0,
                                       std::chrono::milliseconds budget = 20s) const {
    return connect_party(server_->address(), task(nonce), budget);
  }
  Verdict settle(uint8_t nonce) const {
    const auto party = connect(nonce);
    return ok(verbatim::settle(task(nonce), std::vector<Party*>{party.get()}, new_session()));
  }
  ProviderServer& server() { return *server_; }

 private:
  std::unique_ptr<ProviderServer> server_;
};

// Each node takes 20 ms, so that the whole task, of some 180 nodes, takes seconds.
class Slow final : public Backend {
 public:
  std::string_view name() const override { return "slow"; }
  Status prepare(const Graph&) override { return {}; }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    std::this_thread::sleep_for(20ms);
    return evaluate_reference(node, inputs);
  }
};
void make_slow(ServeOptions& options) {
  options.make_backend = []() -> Result<std::unique_ptr<Backend>> {
    return std::unique_ptr<Backend>(new Slow);
  };
}

TEST(Net, ATaskBeyondTheTimeLimitIsGivenUpAndMakesRoom) {
  Local local([](ServeOptions& options) {
    make_slow(options);
    options.max_tasks = 1;
    options.run_limit = 300ms;
    options.provider.lease = 0ms;
  });
  const auto a = local.connect();
  ASSERT_TRUE(a->problem().ok()) << a->problem().message();
  const auto busy = local.connect(1, 100ms);
  EXPECT_EQ(busy->problem().code(), StatusCode::deadline);
  EXPECT_NE(busy->problem().message().find("it runs 1 tasks"), std::string::npos)
      << busy->problem().message();
  const auto start = std::chrono::steady_clock::now();
  const Verdict v = ok(settle(servers->task, std::vector<Party*>{a.get()}, new_session()));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
  ASSERT_EQ(v.forfeited.size(), 1u);
  EXPECT_NE(v.forfeited[0].reason.find("stopped in step"), std::string::npos)
      << v.forfeited[0].reason;
  const auto next = local.connect(1);
  EXPECT_TRUE(next->problem().ok()) << next->problem().message();
}

// However many tasks are handed in after it.
TEST(Net, ATaskThatIsInUseIsKept) {
  Local local([](ServeOptions& options) {
    options.max_tasks = 2;
    options.provider.lease = 1500ms;
  });
  EXPECT_EQ(local.settle(0).winners.size(), 1u);
  EXPECT_EQ(local.settle(1).winners.size(), 1u);
  const auto refused = local.connect(2, 200ms);
  EXPECT_NE(refused->problem().message().find("answers for 2 tasks; ask again in 2 s"),
            std::string::npos)
      << refused->problem().message();
  const auto party = local.connect(0);
  EXPECT_EQ(ok(settle(Local::task(0), std::vector<Party*>{party.get()}, new_session())).winners,
            std::vector<uint32_t>{0});
  EXPECT_EQ(local.settle(2).winners.size(), 1u);  // waits until the lease of task 1 is over
}

// Others wait for a task that runs, more of them than the server answers at once.
TEST(Net, WhoeverWaitsForATaskKeepsNobodyFromAsking) {
  std::atomic<bool> slow = false;
  Local local([&](ServeOptions& options) {
    options.load_program = [&](const Task& t) {
      slow = t.nonce[1] != std::byte{0};
      return bind_weights(t.program, servers->task.program.graph);
    };
    options.make_backend = [&]() -> Result<std::unique_ptr<Backend>> {
      return slow ? std::unique_ptr<Backend>(new Slow) : make_reference_backend();
    };
  });
  EXPECT_EQ(local.settle(0).winners.size(), 1u);
  std::vector<std::thread> waiting;
  for (int i = 0; i < 12; ++i)
    waiting.emplace_back([&] { EXPECT_EQ(local.settle(1).winners.size(), 1u); });
  std::this_thread::sleep_for(500ms);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(local.settle(0).winners, std::vector<uint32_t>{0});
  EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
  for (std::thread& t : waiting) t.join();
}

// Even while somebody waits for an answer.
TEST(Net, StoppingGivesUpWhatRuns) {
  Local local(make_slow);
  const auto a = local.connect();
  ASSERT_TRUE(a->problem().ok()) << a->problem().message();
  std::thread referee(
      [&] { (void)settle(servers->task, std::vector<Party*>{a.get()}, new_session()); });
  std::this_thread::sleep_for(200ms);
  const auto start = std::chrono::steady_clock::now();
  local.server().stop();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
  referee.join();
}

// Whatever is thrown, where a task is loaded or where it runs, the server goes on.
TEST(Net, ExceptionsAreErrorsOfTheirTaskAlone) {
  class Throwing final : public Backend {
   public:
    std::string_view name() const override { return "throwing"; }
    Status prepare(const Graph&) override { return {}; }
    Result<Tensors> run(const Node&, std::span<const Tensor>) override { throw std::bad_alloc(); }
  };
  Local local([](ServeOptions& options) {
    options.load_program = [](const Task& t) -> Result<Program> {
      if (t.nonce[1] == std::byte{1}) throw std::bad_alloc();
      if (t.nonce[1] == std::byte{2}) throw std::runtime_error("odd");
      return bind_weights(t.program, servers->task.program.graph);
    };
    options.make_backend = []() -> Result<std::unique_ptr<Backend>> {
      return std::unique_ptr<Backend>(new Throwing);
    };
  });
  EXPECT_NE(local.connect(1)->problem().message().find("out of memory"), std::string::npos);
  EXPECT_NE(local.connect(2)->problem().message().find("odd"), std::string::npos);
  const auto a = local.connect();
  ASSERT_TRUE(a->problem().ok()) << a->problem().message();
  const Verdict v = ok(settle(servers->task, std::vector<Party*>{a.get()}, new_session()));
  ASSERT_EQ(v.forfeited.size(), 1u);
  EXPECT_EQ(v.forfeited[0].reason, "it declined to answer: out of memory");
  EXPECT_TRUE(local.connect()->problem().ok());
}

class NetEnvironment final : public ::testing::Environment {
 public:
  void SetUp() override { servers = new Servers; }
  void TearDown() override {
    delete servers;
    servers = nullptr;
  }
};
const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new NetEnvironment);

}  // namespace
}  // namespace verbatim::test
