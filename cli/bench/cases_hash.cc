// Merkle roots of tensors against OpenSSL's single-stream SHA-256 times the threads.
#include <verbatim/cli/bench/cases.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim::bench {

void add_hash_cases(std::vector<Case>& cases) {
  for (const int64_t rows : {1024, 16384}) {
    const int64_t columns = 1024;
    cases.push_back({"hash", shape_text({rows, columns}), [=](Backend&) -> Result<Match> {
                       VB_ASSIGN(const Tensor x, random_tensor(Shape{rows, columns}, 3));
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
