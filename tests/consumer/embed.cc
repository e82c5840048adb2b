// embed_cpp MODEL TEXT: the digest of TEXT's embedding, through the C++ interface.
#include <cstdio>

#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/models/model.h>

namespace {

verbatim::Result<verbatim::Digest> embed(const char* path, const char* text) {
  VB_ASSIGN(const auto model, verbatim::Model::load(path));
  VB_ASSIGN(const auto backend, verbatim::make_backend(""));
  VB_ASSIGN(const verbatim::Program program, model->embedding_program({}));
  VB_ASSIGN(const verbatim::Tensors inputs, model->embedding_inputs({text}));
  VB_ASSIGN(const verbatim::RunResult run, verbatim::run_program(program, *backend, inputs));
  return verbatim::tensor_root(run.outputs[0]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  const auto digest = embed(argv[1], argv[2]);
  if (!digest.ok()) {
    std::fprintf(stderr, "%s\n", digest.status().message().c_str());
    return 1;
  }
  std::puts(digest->hex().c_str());
}
