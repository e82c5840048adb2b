// A provider process: tasks come in over gRPC, run, and are answered for.
//
//   ServeOptions options;
//   options.listen = "127.0.0.1:7000";   // port 0 picks a free one
//   options.key = key;
//   options.load_program = [&](const Task& task) { return bind_weights(task.program, model_graph);
//   }; options.make_backend = [] { return make_backend("avx2"); }; VB_TRY(serve_provider(options,
//   [](const std::string& address) { std::cerr << "listening on " << address << "\n"; }));
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <verbatim/verify/provider.h>

namespace verbatim {

struct ServeOptions {
  std::string listen;
  std::optional<SigningKey> key;  // required
  // The task's program with weights, or why this provider will not run it.
  std::function<Result<Program>(const Task&)> load_program;
  std::function<Result<std::unique_ptr<Backend>>()> make_backend;
  ProviderOptions provider;
  // Kept at once. One that has ended and was not asked about for the lease of a dispute
  // (ProviderOptions) makes room.
  size_t max_tasks = 4;
  // Answered at once for one task, and submitted at once; further ones are told to come again.
  size_t max_requests = 2;
  std::chrono::milliseconds run_limit = std::chrono::minutes(10);  // a task that takes longer is
                                                                   // given up
};

// Whatever a task makes the provider, its model or its backend throw is an error of that task
// alone.
class ProviderServer {
 public:
  // Errors: unavailable where it cannot listen.
  static Result<std::unique_ptr<ProviderServer>> start(ServeOptions options);
  ~ProviderServer();  // stops

  const std::string& address() const;  // with the port that was picked
  void wait();                         // until stop()
  void stop();  // from any thread; gives running tasks up after the node at hand

 private:
  struct State;
  explicit ProviderServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// start(), ready(address), wait().
Status serve_provider(ServeOptions options,
                      const std::function<void(const std::string& address)>& ready = {});

}  // namespace verbatim
