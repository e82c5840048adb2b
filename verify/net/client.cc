#include <verbatim/verify/net/client.h>

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <thread>

#include "provider.grpc.pb.h"

namespace verbatim {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Asked again, as each question is idempotent: a provider that cannot be reached so often, since it
// may be starting; one that is busy until its time is used up.
constexpr int kAttempts = 6;
constexpr milliseconds kFirstPause{50}, kFirstBusyPause{5}, kLongestPause{500};

grpc::ChannelArguments channel_arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(kMaxReplyBytes) + 4096);
  arguments.SetMaxSendMessageSize(static_cast<int>(kMaxTaskBytes) + (1 << 20));
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

Status from_grpc(const grpc::Status& status) {
  const std::string reason = printable(status.error_message());
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return {};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return {StatusCode::deadline, "out of time"};
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      // Of a server without a place, or without a thread; gRPC says the same, in other words, of a
      // message that it will not take.
      return reason.find("larger than max") == std::string::npos ? busy(reason)
                                                                 : over_limit(reason);
    default:
      return unavailable(reason);  // the party's failing, whatever it is
  }
}

}  // namespace

struct RemoteParty::State {
  State(const std::string& address, milliseconds budget)
      : stub(net::Provider::NewStub(grpc::CreateCustomChannel(
            address, grpc::InsecureChannelCredentials(), channel_arguments()))),
        left(budget) {}

  // Calls f(context), again where it may help, within the budget.
  template <class F>
  Status call(F&& f) {
    milliseconds pause = kFirstPause, busy_pause = kFirstBusyPause;
    for (int failures = 0;;) {
      if (left.count() <= 0) return {StatusCode::deadline, "its time is used up"};
      const Clock::time_point start = Clock::now();
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + left);
      const grpc::Status result = f(context);
      const Status status = from_grpc(result);
      const bool is_busy = status.code() == StatusCode::busy;
      const bool again = is_busy || (result.error_code() == grpc::StatusCode::UNAVAILABLE &&
                                     ++failures < kAttempts);
      if (again) {
        milliseconds& p = is_busy ? busy_pause : pause;
        std::this_thread::sleep_for(std::min(p, left));
        p = is_busy ? std::min(2 * p, kLongestPause) : 2 * p;
      }
      left -= std::chrono::ceil<milliseconds>(Clock::now() - start);
      if (!again || (left.count() <= 0 && !is_busy)) return status;
      if (left.count() <= 0)
        return {StatusCode::deadline, "its time is used up: " + status.message()};
    }
  }

  Status hello() {
    net::HelloReply reply;
    VB_TRY(call([&](grpc::ClientContext& c) { return stub->Hello(&c, {}, &reply); }));
    if (reply.key().size() != key.bytes.size()) return unavailable("its key is malformed");
    std::ranges::copy(as_bytes(reply.key()), key.bytes.begin());
    return {};
  }

  Status submit(const Task& task) {
    net::SubmitRequest request;
    request.set_task(std::string(as_chars(encode_task(task))));
    net::SubmitReply reply;
    return call([&](grpc::ClientContext& c) { return stub->Submit(&c, request, &reply); });
  }

  std::unique_ptr<net::Provider::Stub> stub;
  milliseconds left;
  PublicKey key;
  Status problem;
};

RemoteParty::RemoteParty(std::unique_ptr<State> state) : state_(std::move(state)) {}
RemoteParty::~RemoteParty() = default;
const PublicKey& RemoteParty::key() const { return state_->key; }
const Status& RemoteParty::problem() const { return state_->problem; }
milliseconds RemoteParty::time_left() const { return state_->left; }

Result<SignedAnswer> RemoteParty::ask(ByteView bytes) {
  if (!state_->problem.ok()) {
    const bool late = state_->problem.code() == StatusCode::deadline;
    return late ? state_->problem : unavailable(state_->problem.message());
  }
  net::AskRequest request;
  request.set_request(std::string(as_chars(bytes)));
  net::AskReply reply;
  VB_TRY(
      state_->call([&](grpc::ClientContext& c) { return state_->stub->Ask(&c, request, &reply); }));
  SignedAnswer answer;
  if (reply.signature().size() != answer.signature.bytes.size())
    return unavailable("its signature is malformed");
  std::ranges::copy(as_bytes(reply.signature()), answer.signature.bytes.begin());
  const ByteView body = as_bytes(reply.reply());
  answer.reply.assign(body.begin(), body.end());
  return answer;
}

std::unique_ptr<RemoteParty> connect_party(const std::string& address, const Task& task,
                                           milliseconds budget) {
  auto state = std::make_unique<RemoteParty::State>(address, budget);
  state->problem = state->hello().with_context(printable(address));
  if (state->problem.ok()) state->problem = state->submit(task).with_context(printable(address));
  return std::unique_ptr<RemoteParty>(new RemoteParty(std::move(state)));
}

}  // namespace verbatim
