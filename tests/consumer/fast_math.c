/* fast_math_c MODEL TEXT: the digest of TEXT's embedding from a program linked with -ffast-math, whose threads start with subnormals
 * flushed. Fails unless the same call is an error, which names what is set, once that is asserted. */
#include <stdio.h>
#include <string.h>

#include <verbatim/verbatim.h>

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  vb_error error = {0};
  vb_model* model = vb_model_load(argv[1], &error);
  const char* texts[] = {argv[2]};
  vb_tensor* corrected = model ? vb_embed(model, texts, 1, NULL, &error) : NULL;
  if (!corrected) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  vb_assert_float_environment(1);
  vb_tensor* asserted = vb_embed(model, texts, 1, NULL, &error);
  const int refused = asserted == NULL && error.code == VB_UNAVAILABLE &&
                      strstr(error.message, "flush-to-zero") && strstr(error.message, "-ffast-math");
  if (!refused) fprintf(stderr, "not refused: %s\n", error.message);
  char digest[VB_DIGEST_HEX];
  vb_tensor_digest(corrected, digest);
  puts(digest);
  vb_tensor_free(asserted);
  vb_tensor_free(corrected);
  vb_model_free(model);
  return refused ? 0 : 1;
}
