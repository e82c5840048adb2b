// Choosing a backend by name. Every backend gives the reference's bits; they differ in speed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <verbatim/repops/backend.h>

namespace verbatim {

// The backend `name`: "reference", "avx2", "avx512", "neon" or "cuda". "" and "auto" mean the
// environment variable VERBATIM_BACKEND where that is set, else the best that this processor runs.
// A backend that was asked for by name is never replaced by another. Errors: unavailable, with what
// is missing; usage, for a name that no build knows.
Result<std::unique_ptr<Backend>> make_backend(std::string_view name);

struct BackendInfo {
  std::string name;
  std::string missing;  // why this machine or build cannot run it; empty: it can
};
// Every backend there is, best first.
std::vector<BackendInfo> list_backends();

// Which of cpu_feature_names() a backend multiplies int8 codes of so many rows with, beyond what
// its name says; "" for none. It decides how fast that is and nothing else.
std::string integer_product_way(std::string_view backend, int64_t rows);

}  // namespace verbatim
