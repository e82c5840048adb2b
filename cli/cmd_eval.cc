// eval: how good a model is in each precision, and that it is the same bits on every backend.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include <verbatim/cli/common.h>
#include <verbatim/cli/eval_tensors.h>
#include <verbatim/cli/runs.h>
#include <verbatim/core/codec.h>
#include <verbatim/core/file.h>
#include <verbatim/core/fp_guard.h>
#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/models/model.h>
#include <verbatim/repops/unary.h>

namespace verbatim::cli {
namespace {

struct EvalFlags {
  std::string model, text_file;
  std::vector<std::string> precisions;
  int64_t window = 0;  // tokens; 0: the model's context
  bool tensors = false;
};

// What a precision is measured on: one program, and inputs for each part of the text.
struct Measured {
  Program program;
  std::vector<Tensors> parts;
};

// The text's tokens, cut into windows that each start with the first token (the beginning of a
// sequence).
Result<std::vector<Tensors>> windows(const Model& model, const std::string& text, int64_t window) {
  VB_ASSIGN(const std::vector<int64_t> all, model.prompt_tokens(text));
  const int64_t context = model.config().max_position_embeddings;
  const auto size = static_cast<size_t>(window == 0 ? context : std::min(window, context));
  if (size < 2) return usage_error("a window of one token predicts none: give --window 2 or more");
  std::vector<Tensors> parts;
  for (size_t begin = 1; begin < all.size(); begin += size - 1) {
    std::vector<int64_t> tokens = {all[0]}, positions;
    tokens.insert(tokens.end(), all.begin() + static_cast<ptrdiff_t>(begin),
                  all.begin() + static_cast<ptrdiff_t>(std::min(all.size(), begin + size - 1)));
    for (size_t i = 0; i < tokens.size(); ++i) positions.push_back(static_cast<int64_t>(i));
    const auto count = static_cast<int64_t>(tokens.size());
    Tensors inputs(2);
    VB_ASSIGN(inputs[0], Tensor::from<int64_t>(Shape{1, count}, tokens));
    VB_ASSIGN(inputs[1], Tensor::from<int64_t>(Shape{count}, positions));
    parts.push_back(std::move(inputs));
  }
  if (parts.empty()) return usage_error("the text has no tokens to predict");
  return parts;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

Result<Measured> measured(const Model& model, const EvalFlags& flags, const std::string& text,
                          const Precision& precision) {
  Measured m;
  if (model.kind() == ModelKind::llama) {
    VB_ASSIGN(m.program, model.scoring_program(precision));
    VB_ASSIGN(m.parts, windows(model, text, flags.window));
    return m;
  }
  if (model.kind() != ModelKind::bert)
    return usage_error(
        model.name() +
        ": eval is for language models (perplexity) and sentence embeddings (cosine)");
  if (flags.window != 0)
    return usage_error(model.name() + ": --window is for language models; here a line is a part");
  VB_ASSIGN(m.program, model.embedding_program(precision));
  for (const std::string& line : lines_of(text)) {
    VB_ASSIGN(Tensors inputs, model.embedding_inputs({line}));
    m.parts.push_back(std::move(inputs));
  }
  if (m.parts.empty()) return usage_error("the text has no lines");
  return m;
}

using OnOutput = std::function<void(size_t part, const Tensor& output)>;

Status run_parts(const Measured& m, size_t count, Backend& backend, const std::string& what,
                 const OnOutput& on_output) {
  VB_ASSIGN(const Executor executor, Executor::create(m.program.graph, backend));
  Progress progress(what);
  for (size_t i = 0; i < count; ++i) {
    progress.update(std::to_string(i + 1) + " of " + std::to_string(count));
    VB_ASSIGN(const Tensors out, executor.run_step(0, m.parts[i]));
    on_output(i, out[0]);
  }
  return {};
}

// The sum of -log p(token) over the tokens that a window predicts, by the library's own functions:
// the same number everywhere.
double negative_log_likelihood(const Tensor& logits, const Tensor& tokens) {
  const auto width = static_cast<size_t>(logits.dim(2));
  double sum = 0;
  for (int64_t t = 0; t + 1 < tokens.elements(); ++t) {
    const auto row = logits.data<float>().subspan(static_cast<size_t>(t) * width, width);
    const double greatest = *std::ranges::max_element(row);
    double total = 0;
    for (const float x : row) total += exp_f64(x - greatest);
    sum += log_f64(total) - (row[static_cast<size_t>(tokens.data<int64_t>()[t + 1])] - greatest);
  }
  return sum;
}

double cosine(const Tensor& a, const Tensor& b) {
  const auto x = a.data<float>(), y = b.data<float>();
  double xy = 0, xx = 0, yy = 0;
  for (size_t j = 0; j < x.size(); ++j) {
    xy += double{x[j]} * y[j];
    xx += double{x[j]} * x[j];
    yy += double{y[j]} * y[j];
  }
  return xy / (std::sqrt(xx) * std::sqrt(yy));
}

// What is kept of a precision's outputs: sums, and for fp32 the embeddings that others are compared
// with. Logits of a whole text would be too large.
struct Figures {
  double loss = 0, least = 1, total = 0;
  int64_t tokens = 0;
  Digest first;  // the root of the first output
};

// The first part again on every other backend of this machine and on one thread: which of them gave
// these bits. An error where one did not: that is a bug.
Result<Json> equal_across(const Measured& m, const Digest& first, std::string_view ran) {
  Json names = Json::array({ran});
  const auto same = [&](const std::string& backend_name, const std::string& title) -> Status {
    VB_ASSIGN(const auto backend, make_backend(backend_name));
    Digest again;
    VB_TRY(run_parts(m, 1, *backend, title,
                     [&](size_t, const Tensor& out) { again = tensor_root(out); }));
    if (again != first)
      return internal_error("the bits on " + title + " differ from those on " + std::string(ran));
    names.push_back(title);
    return {};
  };
  for (const BackendInfo& info : list_backends())
    if (info.missing.empty() && info.name != ran) VB_TRY(same(info.name, info.name));
  const int threads = thread_count();
  set_thread_count(1);
  const Status alone = same(std::string(ran), std::string(ran) + ", 1 thread");
  set_thread_count(threads);
  VB_TRY(alone);
  return names;
}

std::string row_text(const std::string& precision, const std::string& figures, const Json& names) {
  std::string text = precision + std::string(precision.size() < 8 ? 8 - precision.size() : 1, ' ') +
                     figures + "  (equal bits:";
  for (size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? " " : "; ") + names[i].get<std::string>();
  return text + ")\n";
}

Result<int> evaluate_model(const Context& context, const EvalFlags& flags) {
  VB_ASSIGN(const auto model, Model::load(flags.model));
  VB_ASSIGN(const std::string text, read_text(flags.text_file));
  VB_ASSIGN(const auto backend, context.make_backend());
  const bool scores = model->kind() == ModelKind::llama;
  Tensors base;
  double base_perplexity = 0;
  std::vector<std::string> names = {"fp32"};  // what the others are measured against
  for (const std::string& name : flags.precisions)
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  Json json = Json::object();
  std::string table;
  for (const std::string& name : names) {
    VB_ASSIGN(const Precision precision, parse_precision(name));
    VB_ASSIGN(const Measured m, measured(*model, flags, text, precision));
    Figures f;
    VB_TRY(run_parts(m, m.parts.size(), *backend, name, [&](size_t i, const Tensor& out) {
      if (i == 0) f.first = tensor_root(out);
      if (scores) {
        f.loss += negative_log_likelihood(out, m.parts[i][0]);
        f.tokens += m.parts[i][0].elements() - 1;
        return;
      }
      if (name == "fp32") base.push_back(out);
      const double c = cosine(base[i], out);
      if (!(c >= f.least)) f.least = c;  // NaN too
      f.total += c;
    }));
    VB_ASSIGN(const Json equal, equal_across(m, f.first, backend->name()));
    char figures[96];
    if (scores) {
      const double value = exp_f64(f.loss / static_cast<double>(f.tokens));
      if (name == "fp32") base_perplexity = value;
      const double change = value / base_perplexity - 1;
      json[name] = {
          {"perplexity", value}, {"relative_to_fp32", change}, {"bits_equal_across", equal}};
      std::snprintf(figures, sizeof figures, "perplexity %.5f (%+.3f %%)", value, 100 * change);
    } else {
      const double mean = f.total / static_cast<double>(m.parts.size());
      json[name] = {{"cosine_least", f.least}, {"cosine_mean", mean}, {"bits_equal_across", equal}};
      std::snprintf(figures, sizeof figures, "cosine to fp32: least %.7f, mean %.7f", f.least,
                    mean);
    }
    table += row_text(name, figures, equal);
  }
  print_result(context, json, table);
  return kDone;
}

Result<int> evaluate(const Context& context, const EvalFlags& flags) {
  const bool given = !flags.model.empty() && !flags.text_file.empty();
  if (!flags.tensors && !given) return usage_error("a model and --text-file are needed");
  const FloatWatch watch;
  const FloatGuard guard;  // what is measured is computed here, not in a run
  VB_TRY(watch.check());
  if (!flags.tensors) return evaluate_model(context, flags);
  if (!given && !(flags.model.empty() && flags.text_file.empty()))
    return usage_error(
        "tensors are recorded from a model with a --text-file: give both or neither");
  if (!given) return evaluate_tensors(context, "", "");
  VB_ASSIGN(const std::string text, read_text(flags.text_file));
  return evaluate_tensors(context, flags.model, text);
}

}  // namespace

void register_eval(CLI::App& app, Context& context) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App& c =
      *app.add_subcommand("eval",
                          "Measure precisions against fp32 on a text: a language model's "
                          "perplexity, or the cosine of sentence embeddings (a line each)");
  c.add_option("model", flags->model, "A Hugging Face folder (BERT or Llama type)");
  c.add_option("--text-file", flags->text_file, "UTF-8 text");
  CLI::Option* tensors = c.add_flag(
      "--tensors", flags->tensors,
      "Measure single operators against binary64 instead, in every precision and format: on "
      "generated tensors, and on those of a BERT model where it and a text are given");
  c.add_option("--precision", flags->precisions,
               "Precisions, separated by commas; fp32 is always measured")
      ->delimiter(',')
      ->excludes(tensors);
  c.add_option("--window", flags->window,
               "Tokens that are predicted together at most; 0: the model's context")
      ->check(whole_number(0, 1 << 20))
      ->excludes(tensors);
  add_backend_flags(c, context);
  add_json_flag(c, context);
  on_run(c, context, [=, &context] { return evaluate(context, *flags); });
}

}  // namespace verbatim::cli
