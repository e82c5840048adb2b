// A library to preload: the process starts with the MXCSR that VERBATIM_TEST_MXCSR says, as one
// that is linked with -ffast-math does.
#include <xmmintrin.h>

#include <cstdlib>

__attribute__((constructor)) static void set_mode() {
  if (const char* said = std::getenv("VERBATIM_TEST_MXCSR"))
    _mm_setcsr(static_cast<unsigned>(std::strtoul(said, nullptr, 16)));
}
