/* Verbatim's C interface: opaque handles, pointer and length, no exceptions, no ownership tricks.
 *
 *   vb_error error = {0};
 *   vb_model* model = vb_model_load("all-MiniLM-L6-v2", &error);
 *   if (!model) { fprintf(stderr, "%s\n", error.message); return 1; }
 *   const char* texts[] = {"Hello"};
 *   vb_tensor* e = vb_embed(model, texts, 1, NULL, &error);
 *   char digest[VB_DIGEST_HEX];
 *   vb_tensor_digest(e, digest);
 *   vb_tensor_free(e);
 *   vb_model_free(model);
 *
 * Functions that return a handle return NULL on failure and fill *error (which may be NULL). A
 * digest is the empty string where memory ran out.
 * Handles may be used from several threads at once; each is freed once. Strings are UTF-8.
 */
#ifndef VERBATIM_H
#define VERBATIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VB_DIGEST_HEX 65 /* 64 lowercase hex digits and the closing 0 */

typedef enum vb_code {
  VB_OK = 0,
  VB_USAGE = 64,
  VB_BAD_INPUT = 65,
  VB_UNAVAILABLE = 69,
  VB_INTERNAL = 70
} vb_code;

typedef struct vb_error {
  vb_code code;
  char message[512]; /* cut where it is longer */
} vb_error;

typedef struct vb_model vb_model;
typedef struct vb_tensor vb_tensor;
typedef struct vb_text vb_text;

/* The library's version, and that of the numeric contract, which decides every bit. */
const char* vb_version(void);
uint32_t vb_semantics_version(void);

/* Threads for all later calls; results never depend on it. */
void vb_set_threads(int threads);

/* Results need round-to-nearest and subnormals. Where a thread comes with another mode (linked with
 * -ffast-math, say), calls correct it while they run; after vb_assert_float_environment(1), or with
 * VERBATIM_ASSERT_FP=1 in the environment, they fail with VB_UNAVAILABLE instead, and the message
 * names the bits, the thread and the remedy. Where the variable is neither 1, 0 nor empty, they fail
 * with VB_USAGE. */
void vb_assert_float_environment(int on);

/* A Hugging Face folder (BERT or Llama type), or an .onnx file. */
vb_model* vb_model_load(const char* path, vb_error* error);
void vb_model_free(vb_model* model);
/* The root over weights, configuration and tokenizer. */
void vb_model_digest(const vb_model* model, char digest[VB_DIGEST_HEX]);

/* Sentence embeddings, float32 [count, hidden]. backend: "reference", "avx2", ...; NULL: the
 * fastest that runs here. */
vb_tensor* vb_embed(const vb_model* model, const char* const* texts, size_t count,
                    const char* backend, vb_error* error);

/* Text that goes on from prompt, prompt included. temperature 0: always the likeliest token. */
vb_text* vb_generate(const vb_model* model, const char* prompt, int64_t max_tokens,
                     float temperature, uint64_t seed, const char* backend, vb_error* error);
const char* vb_text_data(const vb_text* text);
void vb_text_digest(
    const vb_text* text,
    char digest[VB_DIGEST_HEX]); /* of all token ids: what the command line prints */
void vb_text_free(vb_text* text);

/* A tensor's data, valid until it is freed; shape has vb_tensor_rank entries. */
const float* vb_tensor_data_f32(const vb_tensor* tensor);
size_t vb_tensor_rank(const vb_tensor* tensor);
int64_t vb_tensor_dim(const vb_tensor* tensor, size_t axis);
void vb_tensor_digest(const vb_tensor* tensor, char digest[VB_DIGEST_HEX]);
void vb_tensor_free(vb_tensor* tensor);

#ifdef __cplusplus
}
#endif
#endif
