#include <verbatim/verify/net/server.h>

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <thread>

#include <verbatim/core/no_throw.h>

#include "provider.grpc.pb.h"

namespace verbatim {
namespace {

constexpr int kMaxReceiveBytes = static_cast<int>(kMaxTaskBytes) + (1 << 20);
constexpr size_t kMaxReasonBytes = 1024;

ByteView view(const std::string& s) { return as_bytes(s); }
std::string text(ByteView b) { return std::string(as_chars(b)); }

grpc::Status to_grpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string reason = shortened(status.message(), kMaxReasonBytes);
  switch (status.code()) {
    case StatusCode::bad_input:
    case StatusCode::usage:
      return {grpc::StatusCode::INVALID_ARGUMENT, reason};
    case StatusCode::busy:
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, reason};
    case StatusCode::internal:
      return {grpc::StatusCode::INTERNAL, reason};
    default:
      return {grpc::StatusCode::FAILED_PRECONDITION, reason};
  }
}

using Clock = std::chrono::steady_clock;

// One of a few places, for as long as it lives: what is asked at once is bounded.
class Place {
 public:
  Place(std::atomic<size_t>& taken, size_t places) : taken_(taken), got_(++taken <= places) {}
  ~Place() { --taken_; }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  bool got() const { return got_; }

 private:
  std::atomic<size_t>& taken_;
  const bool got_;
};

// Whether a task should go on: asked by its run before each node.
class Leash {
 public:
  explicit Leash(std::chrono::milliseconds limit) : deadline_(Clock::now() + limit) {}
  bool stops() const { return dropped_ || (running_ && Clock::now() > deadline_); }
  void drop() { dropped_ = true; }
  void finish() { running_ = false; }  // what comes after, answers, has no deadline here
  bool running() const { return running_; }

 private:
  const Clock::time_point deadline_;
  std::atomic<bool> dropped_ = false, running_ = true;
};

// A task being run by its own thread, until its leash says that it has ended.
struct Job {
  Job(std::unique_ptr<Provider> p, std::shared_ptr<Leash> l)
      : provider(std::move(p)), leash(std::move(l)) {
    runner = std::thread([this] {
      (void)provider->run();  // the provider keeps the status and answers with it
      leash->finish();
    });
  }
  ~Job() {
    leash->drop();
    runner.join();
  }
  const std::unique_ptr<Provider> provider;
  const std::shared_ptr<Leash> leash;
  std::atomic<size_t> requests = 0;  // being answered
  Clock::time_point used = Clock::now();
  std::thread runner;
};

class Service final : public net::Provider::Service {
 public:
  explicit Service(ServeOptions options) : options_(std::move(options)) {}

  grpc::Status Hello(grpc::ServerContext*, const net::HelloRequest*,
                     net::HelloReply* reply) override {
    reply->set_key(text(options_.key->public_key().bytes));
    return grpc::Status::OK;
  }

  grpc::Status Submit(grpc::ServerContext*, const net::SubmitRequest* request,
                      net::SubmitReply*) override {
    const Place place(submits_, options_.max_requests);
    if (!place.got()) return to_grpc(busy("other tasks are coming in; ask again"));
    return to_grpc(no_throw([&] { return submit(view(request->task())); }));
  }

  grpc::Status Ask(grpc::ServerContext*, const net::AskRequest* request,
                   net::AskReply* reply) override {
    return to_grpc(no_throw([&]() -> Status {
      VB_ASSIGN(const SignedAnswer answer, ask(view(request->request())));
      reply->set_reply(text(answer.reply));
      reply->set_signature(text(answer.signature.bytes));
      return {};
    }));
  }

  // Gives up all running tasks.
  void drop_all() {
    const std::lock_guard lock(jobs_mutex_);
    for (const auto& job : jobs_) job->leash->drop();
  }

 private:
  Status submit(ByteView bytes) {
    VB_ASSIGN(Task task, decode_task(bytes, "task"));
    const Digest id = task_id(task);
    const std::lock_guard lock(submit_mutex_);  // one at a time: loading takes memory
    if (find(id)) return {};
    VB_TRY(make_room());
    VB_ASSIGN(Program program, options_.load_program(task));
    VB_ASSIGN(std::unique_ptr<Backend> backend, options_.make_backend());
    const auto leash = std::make_shared<Leash>(options_.run_limit);
    ProviderOptions options = options_.provider;
    options.stop = [leash] { return leash->stops(); };
    VB_ASSIGN(auto provider,
              Provider::create(std::move(task), std::move(program), std::move(backend),
                               *options_.key, std::move(options)));
    auto job = std::make_shared<Job>(std::move(provider), leash);
    const std::lock_guard jobs_lock(jobs_mutex_);
    jobs_.push_back(std::move(job));
    return {};
  }

  Result<SignedAnswer> ask(ByteView bytes) {
    VB_ASSIGN(const Request request, decode_request(bytes, "request"));
    const std::shared_ptr<Job> job = find(request.task);
    if (!job) return unavailable("no such task here; submit it first");
    // Nobody waits here for a run: whoever does would keep others from asking.
    if (job->leash->running()) return busy("the task is running; ask again");
    const Place place(job->requests, options_.max_requests);
    if (!place.got()) return busy("others ask about this task; ask again");
    return job->provider->answer(bytes);
  }

  std::shared_ptr<Job> find(const Digest& task) {
    const std::lock_guard lock(jobs_mutex_);
    const auto it =
        std::ranges::find(jobs_, task, [](const auto& j) { return j->provider->task(); });
    if (it == jobs_.end()) return nullptr;
    (*it)->used = Clock::now();
    jobs_.splice(jobs_.end(), jobs_, it);  // the latest used is last
    return jobs_.back();
  }

  Status make_room() {
    std::shared_ptr<Job> old;  // destroyed outside the lock
    const std::lock_guard lock(jobs_mutex_);
    if (jobs_.size() < options_.max_tasks) return {};
    const auto it = std::ranges::find_if(jobs_, [](const auto& j) { return !j->leash->running(); });
    if (it == jobs_.end())
      return busy("it runs " + std::to_string(jobs_.size()) + " tasks; ask again");
    const auto idle = Clock::now() - (*it)->used;
    if (idle < options_.provider.lease)
      return busy_for("it answers for " + std::to_string(jobs_.size()) + " tasks",
                      options_.provider.lease - idle);
    old = *it;
    old->leash->drop();  // an answer under way may still hold it
    jobs_.erase(it);
    return {};
  }

  ServeOptions options_;
  std::atomic<size_t> submits_ = 0;
  std::mutex submit_mutex_, jobs_mutex_;
  std::list<std::shared_ptr<Job>> jobs_;
};

}  // namespace

struct ProviderServer::State {
  explicit State(ServeOptions options) : service(std::move(options)) {}
  Service service;
  std::unique_ptr<grpc::Server> server;
  std::string address;
};

ProviderServer::ProviderServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
ProviderServer::~ProviderServer() { stop(); }

Result<std::unique_ptr<ProviderServer>> ProviderServer::start(ServeOptions options) {
  if (!options.key || !options.load_program || !options.make_backend)
    return usage_error("a provider needs a key, a model and a backend");
  const std::string listen = options.listen;
  const auto threads = static_cast<int>(options.max_requests * (options.max_tasks + 1)) + 4;
  auto state = std::make_unique<State>(std::move(options));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  grpc::ResourceQuota quota("provider");
  quota.SetMaxThreads(std::max(threads, 8));
  builder.SetResourceQuota(quota);
  builder.RegisterService(&state->service);
  state->server = builder.BuildAndStart();
  if (!state->server || port == 0) return unavailable("cannot listen on " + printable(listen));
  const size_t colon = listen.rfind(':');
  state->address = listen.substr(0, colon == std::string::npos ? listen.size() : colon) + ":" +
                   std::to_string(port);
  return std::unique_ptr<ProviderServer>(new ProviderServer(std::move(state)));
}

const std::string& ProviderServer::address() const { return state_->address; }
void ProviderServer::wait() { state_->server->Wait(); }
void ProviderServer::stop() {
  state_->service.drop_all();
  state_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
}

Status serve_provider(ServeOptions options,
                      const std::function<void(const std::string& address)>& ready) {
  VB_ASSIGN(const auto server, ProviderServer::start(std::move(options)));
  if (ready) ready(server->address());
  server->wait();
  return {};
}

}  // namespace verbatim
