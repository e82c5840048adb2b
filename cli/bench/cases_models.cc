// Whole models against ONNX Runtime. Its package for Python is what people install; so it runs in a
// child (onnxruntime_minilm.py), which takes turns with us as every other contender and times its
// runs itself.
#include <cmath>
#include <sstream>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/child.h>
#include <verbatim/core/parallel.h>
#include <verbatim/repops/models/model.h>

namespace verbatim::bench {
namespace {

struct ModelCase {
  std::string precision;
  double least_cosine;  // of our embeddings and ONNX Runtime's in binary32
  int64_t texts, tokens;
};

// Our side: a prepared program, one step of which is a run.
struct Encoder {
  Program program;
  Tensors inputs, outputs;
  std::optional<Executor> executor;

  Status run() {
    VB_ASSIGN(outputs, executor->run_step(0, inputs));
    return {};
  }
};

Result<std::shared_ptr<Encoder>> create_encoder(Backend& backend, const std::string& folder,
                                                const ModelCase& c) {
  VB_ASSIGN(const std::shared_ptr<const Model> model, load_model(folder));
  VB_ASSIGN(const Precision precision, parse_precision(c.precision));
  auto encoder = std::make_shared<Encoder>();
  VB_ASSIGN(encoder->program, model->embedding_program(precision));
  VB_ASSIGN(encoder->inputs, random_tokens(*model, c.texts, c.tokens));
  VB_ASSIGN(encoder->executor, Executor::create(encoder->program.graph, backend));
  return encoder;
}

// Their side, with as many threads as we have now.
Result<std::shared_ptr<Child>> start_onnxruntime(const ModelFiles& files, const ModelCase& c,
                                                 const Tensor& ids) {
  VB_ASSIGN(Child started, Child::start({files.python, VERBATIM_BENCH_ONNXRUNTIME, files.minilm,
                                         std::to_string(thread_count()), std::to_string(c.texts),
                                         std::to_string(c.tokens)}));
  auto child = std::make_shared<Child>(std::move(started));
  std::string line;
  for (const int64_t id : ids.data<int64_t>()) line += std::to_string(id) + " ";
  const Status sent = child->send(line);
  VB_ASSIGN(const std::string answer, child->receive());
  if (answer.starts_with("absent "))
    return unavailable("no ONNX Runtime in " + files.python +
                       " (--python, VERBATIM_PYTHON): " + answer.substr(7));
  VB_TRY(sent);
  if (answer != "ready") return internal_error("ONNX Runtime's child says: " + answer);
  return child;
}

double seconds_of_runs(Child& child, int64_t times) {
  const Result<std::string> answer = child.ask("run " + std::to_string(times));
  require(answer.status());
  return std::strtod(answer->c_str(), nullptr);
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

Status check_embeddings(const Tensor& ours, Child& child, double least_cosine) {
  VB_ASSIGN(const std::string answer, child.ask("embeddings"));
  std::istringstream text(answer);
  std::vector<float> theirs;
  for (float v; text >> v;) theirs.push_back(v);
  const auto size = static_cast<size_t>(ours.dim(1));
  if (theirs.size() != static_cast<size_t>(ours.elements()))
    return internal_error("ONNX Runtime gave embeddings of another size");
  for (size_t i = 0; i < theirs.size(); i += size) {
    const double c =
        cosine(ours.data<float>().subspan(i, size), std::span(theirs).subspan(i, size));
    if (!(c >= least_cosine))
      return internal_error("an embedding's cosine with ONNX Runtime's is " + std::to_string(c));
  }
  return {};
}

Result<Match> prepare(Backend& backend, const ModelFiles& files, const ModelCase& c) {
  VB_ASSIGN(const auto encoder, create_encoder(backend, files.minilm, c));
  VB_ASSIGN(const auto child, start_onnxruntime(files, c, encoder->inputs[0]));
  VB_ASSIGN(const std::string version, child->ask("version"));  // "1.23.0 CPUExecutionProvider"
  const size_t space = version.find(' ');
  Match match;
  match.ours = {
      .name = "Verbatim", .version = "", .kernel = std::string(backend.name()), .run = [encoder] {
        require(encoder->run());
      }};
  match.peers = {{.name = "ONNX Runtime fp32",
                  .version = version.substr(0, space),
                  .kernel = version.substr(space + 1),
                  .run = [child] { seconds_of_runs(*child, 1); },
                  .seconds = [child](int64_t times) { return seconds_of_runs(*child, times); }}};
  match.work = static_cast<double>(c.texts * c.tokens);
  match.unit = "tokens/s";
  match.check = [encoder, child, c] {
    return check_embeddings(encoder->outputs[0], *child, c.least_cosine);
  };
  return match;
}

}  // namespace

void add_model_cases(std::vector<Case>& cases, const ModelFiles& files) {
  struct Size {
    int64_t texts, tokens;
  };
  struct Kind {
    const char *name, *precision;
    double least_cosine;
  };
  for (const Kind& kind : {Kind{"minilm_f32", "fp32", 0.9999}, Kind{"minilm_w8a8", "w8a8", 0.998}})
    for (const Size s : {Size{1, 16}, Size{1, 128}, Size{8, 128}})
      cases.push_back({kind.name, shape_text({s.texts, s.tokens}),
                       [files, c = ModelCase{kind.precision, kind.least_cosine, s.texts, s.tokens}](
                           Backend& backend) { return prepare(backend, files, c); }});
}

}  // namespace verbatim::bench
