// The unary functions and their oracle on the GPU.
#pragma once

#include <verbatim/kernels/unary_prover.h>

namespace verbatim {

// Without the oracle no result is wrong. Errors: unavailable, where there is no GPU that runs this
// program's code or it has too little free memory (about 300 MB).
Result<std::unique_ptr<UnaryProver>> make_cuda_unary_prover(bool oracle);

}  // namespace verbatim
