#include <verbatim/cli/bench/model_peer.h>

#include <cmath>
#include <sstream>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/core/parallel.h>

namespace verbatim::bench {
namespace {

double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace

Result<std::shared_ptr<ModelPeer>> ModelPeer::start(const std::string& python,
                                                    const std::string& script,
                                                    const std::string& name,
                                                    const std::string& folder,
                                                    const std::vector<std::string>& arguments,
                                                    std::span<const int64_t> tokens) {
  std::vector<std::string> command = {python, VERBATIM_BENCH_FOLDER "/" + script, folder,
                                      std::to_string(thread_count())};
  command.insert(command.end(), arguments.begin(), arguments.end());
  VB_ASSIGN(Child started, Child::start(command));
  const std::shared_ptr<ModelPeer> self(new ModelPeer(std::move(started), name));
  std::string line;
  for (const int64_t id : tokens) line += std::to_string(id) + " ";
  const Status sent = self->child_.send(line);
  VB_ASSIGN(const std::string answer, self->child_.receive());
  if (answer.starts_with("absent "))
    return unavailable("no " + name + " in " + python +
                       " (--python, VERBATIM_PYTHON): " + answer.substr(7));
  VB_TRY(sent);
  if (answer != "ready") return internal_error(name + "'s child says: " + answer);
  VB_ASSIGN(const std::string version, self->child_.ask("version"));
  const size_t space = version.find(' ');
  self->version_ = version.substr(0, space);
  self->how_ = version.substr(space + 1);
  return self;
}

double ModelPeer::seconds(int64_t runs) {
  const Result<std::string> answer = child_.ask("run " + std::to_string(runs));
  require(answer.status());
  return std::strtod(answer->c_str(), nullptr);
}

Result<std::vector<float>> ModelPeer::output() {
  VB_ASSIGN(const std::string answer, child_.ask("output"));
  std::istringstream text(answer);
  std::vector<float> numbers;
  for (float v; text >> v;) numbers.push_back(v);
  return numbers;
}

Contender ModelPeer::contender(const std::shared_ptr<ModelPeer>& self) {
  return {.name = self->name_,
          .version = self->version_,
          .kernel = self->how_,
          .run = [self] { self->seconds(1); },
          .seconds = [self](int64_t times) { return self->seconds(times); }};
}

Status check_cosines(std::span<const float> ours, std::span<const float> theirs, int64_t row_size,
                     double least) {
  if (theirs.size() != ours.size()) return internal_error("the peer's result has another size");
  const auto size = static_cast<size_t>(row_size);
  for (size_t i = 0; i < ours.size(); i += size) {
    const double c = cosine(ours.subspan(i, size), theirs.subspan(i, size));
    if (!(c >= least))
      return internal_error("a result's cosine with the peer's is " + std::to_string(c));
  }
  return {};
}

}  // namespace verbatim::bench
