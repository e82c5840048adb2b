#include <verbatim/core/status.h>

namespace verbatim {

int exit_code(StatusCode code) {
  switch (code) {
    case StatusCode::ok:
      return 0;
    case StatusCode::usage:
      return 64;
    case StatusCode::bad_input:
    case StatusCode::limit:
      return 65;
    case StatusCode::unavailable:
    case StatusCode::unsupported:
    case StatusCode::busy:
      return 69;
    case StatusCode::deadline:
      return 3;
    case StatusCode::internal:
      return 70;
  }
  return 70;
}

Status bad_input_at(const std::string& source, uint64_t offset, const std::string& reason) {
  return bad_input(source + ": byte " + std::to_string(offset) + ": " + reason);
}

}  // namespace verbatim
