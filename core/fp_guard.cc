#include <verbatim/core/fp_guard.h>

#include <cfenv>
#include <cstdio>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace verbatim {
namespace {

#if defined(__SSE2__)
constexpr const char* kName = "MXCSR";
constexpr uint64_t kControl = 0x8000 | 0x6000 | 0x0040;  // FTZ, rounding, DAZ: all must be 0
uint64_t read_control() { return _mm_getcsr(); }
void write_control(uint64_t v) { _mm_setcsr(static_cast<unsigned>(v)); }
#elif defined(__aarch64__)
constexpr const char* kName = "FPCR";
constexpr uint64_t kControl =
    (3u << 22) | (1u << 24) | (1u << 19) | 3u;  // RMode, FZ, FZ16, FIZ and AH
uint64_t read_control() {
  uint64_t v;
  __asm__ volatile("mrs %0, fpcr" : "=r"(v));
  return v;
}
void write_control(uint64_t v) { __asm__ volatile("msr fpcr, %0" ::"r"(v)); }
#else
// No flush-to-zero exists here; the rounding direction is all there is.
constexpr const char* kName = "rounding";
constexpr uint64_t kControl = ~uint64_t{0};
static_assert(FE_TONEAREST == 0, "the control word of nearest-even rounding must be 0");
uint64_t read_control() { return static_cast<uint64_t>(std::fegetround()); }
void write_control(uint64_t v) { std::fesetround(static_cast<int>(v)); }
#endif

}  // namespace

FloatGuard::FloatGuard() : saved_(read_control()) {
  if (saved_ & kControl) write_control(saved_ & ~kControl);
}

FloatGuard::~FloatGuard() {
  if (saved_ & kControl) write_control(saved_);
}

Status check_float_environment() {
  const uint64_t wrong = read_control() & kControl;
  if (wrong == 0) return {};
  return unavailable("the floating-point environment is not the contract's (" +
                     describe_float_environment() +
                     "): some code of this process set flush-to-zero, denormals-are-zero or a "
                     "rounding direction; " +
                     "build it without -ffast-math, or reset the environment before calling");
}

std::string describe_float_environment() {
  char text[48];
  std::snprintf(text, sizeof text, "%s 0x%llx", kName,
                static_cast<unsigned long long>(read_control()));
  return text;
}

}  // namespace verbatim
