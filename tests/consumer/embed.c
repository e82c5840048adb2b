/* embed_c MODEL TEXT: the digest of TEXT's embedding, through the C interface. */
#include <stdio.h>

#include <verbatim/verbatim.h>

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  vb_error error = {0};
  vb_model* model = vb_model_load(argv[1], &error);
  const char* texts[] = {argv[2]};
  vb_tensor* embedding = model ? vb_embed(model, texts, 1, NULL, &error) : NULL;
  if (embedding) {
    char digest[VB_DIGEST_HEX];
    vb_tensor_digest(embedding, digest);
    puts(digest);
  } else {
    fprintf(stderr, "%s\n", error.message);
  }
  vb_tensor_free(embedding);
  vb_model_free(model);
  return embedding ? 0 : 1;
}
