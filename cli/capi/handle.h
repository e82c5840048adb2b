// How C++ ends at the C interface: results become handles or a vb_error, digests become text, and
// nothing that is thrown passes. Internal: not an installed header.
#pragma once

#include <cstring>
#include <utility>

#include <verbatim/core/hash.h>
#include <verbatim/core/no_throw.h>
#include <verbatim/verbatim.h>

namespace verbatim::capi {

// Runs body, which returns a Result<H>, and moves its value to the heap; nullptr and *error (where
// that is given) for an error and for whatever body throws.
template <class H, class Body>
H* handle(vb_error* error, Body body) {
  H* made = nullptr;
  const Status status = no_throw([&]() -> Status {
    VB_ASSIGN(H value, body());
    made = new H(std::move(value));
    return {};
  });
  if (error != nullptr && !status.ok()) {
    error->code = static_cast<vb_code>(exit_code(status.code()));
    std::strncpy(error->message, status.message().c_str(), sizeof error->message - 1);
    error->message[sizeof error->message - 1] = '\0';
  }
  return made;
}

// The digest that body returns, as text; the empty string where body throws.
template <class Body>
void copy_digest(char out[VB_DIGEST_HEX], Body body) {
  const Status status = no_throw([&]() -> Status {
    std::memcpy(out, body().hex().c_str(), VB_DIGEST_HEX);
    return {};
  });
  if (!status.ok()) out[0] = '\0';
}

}  // namespace verbatim::capi
