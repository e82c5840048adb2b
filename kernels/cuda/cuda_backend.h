// The GPU's backend: operators that have kernels here run on the device, where their results stay;
// every other one runs on the host, to which what it needs is copied. Both give the reference's
// bits, so where a node runs changes none.
#pragma once

#include <verbatim/repops/backend.h>

namespace verbatim {

// `host` runs what has no kernel. Errors: unavailable, where there is no GPU that runs this
// program's code.
Result<std::unique_ptr<Backend>> make_cuda_backend(std::unique_ptr<Backend> host);

}  // namespace verbatim
