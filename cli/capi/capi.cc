#include <cstring>
#include <string>

#include <verbatim/core/fp_guard.h>
#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/models/model.h>
#include <verbatim/repops/semantics.h>
#include <verbatim/verbatim.h>

#include "handle.h"

using verbatim::Result;
using verbatim::capi::copy_digest;
using verbatim::capi::handle;

struct vb_model {
  std::shared_ptr<const verbatim::Model> model;
};
struct vb_tensor {
  verbatim::Tensor tensor;
};
struct vb_text {
  std::string text;
  verbatim::Digest digest;
};

namespace {

std::string text_of(const char* s) { return s == nullptr ? "" : s; }

Result<vb_tensor> embed(const verbatim::Model& model, const char* const* texts, size_t count,
                        const char* backend_name) {
  VB_ASSIGN(const auto backend, verbatim::make_backend(text_of(backend_name)));
  VB_ASSIGN(const verbatim::Program program, model.embedding_program({}));
  std::vector<std::string> list;
  for (size_t i = 0; i < count; ++i) list.push_back(text_of(texts[i]));
  VB_ASSIGN(const verbatim::Tensors inputs, model.embedding_inputs(list));
  VB_ASSIGN(const verbatim::RunResult run, verbatim::run_program(program, *backend, inputs));
  return vb_tensor{run.outputs[0]};
}

Result<vb_text> generate(const verbatim::Model& model, const char* prompt,
                         const verbatim::GenerateSettings& settings, const char* backend_name) {
  VB_ASSIGN(const auto backend, verbatim::make_backend(text_of(backend_name)));
  VB_ASSIGN(const verbatim::Program program, model.generation_program(settings));
  VB_ASSIGN(std::vector<int64_t> tokens, model.prompt_tokens(text_of(prompt)));
  VB_ASSIGN(const verbatim::Tensors inputs, model.generation_inputs(tokens, settings));
  VB_ASSIGN(const verbatim::RunResult run, verbatim::run_program(program, *backend, inputs));
  for (const verbatim::Tensors& step : run.step_outputs)
    tokens.push_back(step[0].data<int64_t>()[0]);
  VB_ASSIGN(std::string text, model.tokenizer()->decode(tokens));
  const verbatim::Shape shape{static_cast<int64_t>(tokens.size())};
  VB_ASSIGN(const verbatim::Tensor all, verbatim::Tensor::from<int64_t>(shape, tokens));
  return vb_text{std::move(text), verbatim::tensor_root(all)};
}

}  // namespace

const char* vb_version(void) { return "0.1.0"; }
uint32_t vb_semantics_version(void) { return verbatim::kSemanticsVersion; }
void vb_set_threads(int threads) { verbatim::set_thread_count(threads); }
void vb_assert_float_environment(int on) { verbatim::assert_float_environment(on != 0); }

vb_model* vb_model_load(const char* path, vb_error* error) {
  return handle<vb_model>(error, [&]() -> Result<vb_model> {
    VB_ASSIGN(auto model, verbatim::Model::load(text_of(path)));
    return vb_model{std::move(model)};
  });
}
void vb_model_free(vb_model* model) { delete model; }
void vb_model_digest(const vb_model* model, char digest[VB_DIGEST_HEX]) {
  copy_digest(digest, [&] { return model->model->root(); });
}

vb_tensor* vb_embed(const vb_model* model, const char* const* texts, size_t count,
                    const char* backend, vb_error* error) {
  return handle<vb_tensor>(error, [&] { return embed(*model->model, texts, count, backend); });
}

vb_text* vb_generate(const vb_model* model, const char* prompt, int64_t max_tokens,
                     float temperature, uint64_t seed, const char* backend, vb_error* error) {
  verbatim::GenerateSettings settings;
  settings.max_tokens = max_tokens;
  settings.sampling.temperature = temperature;
  settings.sampling.seed = seed;
  return handle<vb_text>(error, [&] { return generate(*model->model, prompt, settings, backend); });
}
const char* vb_text_data(const vb_text* text) { return text->text.c_str(); }
void vb_text_digest(const vb_text* text, char digest[VB_DIGEST_HEX]) {
  copy_digest(digest, [&] { return text->digest; });
}
void vb_text_free(vb_text* text) { delete text; }

const float* vb_tensor_data_f32(const vb_tensor* tensor) {
  return tensor->tensor.data<float>().data();
}
size_t vb_tensor_rank(const vb_tensor* tensor) {
  return static_cast<size_t>(tensor->tensor.rank());
}
int64_t vb_tensor_dim(const vb_tensor* tensor, size_t axis) {
  return tensor->tensor.dim(static_cast<int>(axis));
}
void vb_tensor_digest(const vb_tensor* tensor, char digest[VB_DIGEST_HEX]) {
  copy_digest(digest, [&] { return verbatim::tensor_root(tensor->tensor); });
}
void vb_tensor_free(vb_tensor* tensor) { delete tensor; }
