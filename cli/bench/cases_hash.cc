// Merkle roots of tensors against OpenSSL's single-stream SHA-256 times the threads.
#include <verbatim/cli/bench/cases.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim::bench {

void add_hash_cases(std::vector<Case>& cases) {
  // The last one's rows are cut into leaves of two lengths.
  for (const Shape& shape : {Shape{1024, 1024}, Shape{16384, 1024}, Shape{4096, 768}}) {
    cases.push_back({"hash", shape_text({shape[0], shape[1]}), [=](Backend&) -> Result<Match> {
                       VB_ASSIGN(const Tensor x, random_tensor(shape, 3));
                       const double bytes = static_cast<double>(x.byte_size());
                       return Match{{"Verbatim", "", "", [x] { tensor_root(x); }, {}},
                                    {},
                                    bytes * 1e-9,
                                    "GB/s",
                                    Limit::sha256};
                     }});
  }
}

}  // namespace verbatim::bench
