#include <verbatim/core/fp_guard.h>

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include <verbatim/core/codec.h>

namespace verbatim {
namespace {

enum class Kind : uint8_t { flushing, rounding };

// A field of the control word that the contract wants to be 0.
struct Field {
  uint64_t mask;
  const char* name;
  Kind kind = Kind::flushing;
};

#if defined(__SSE2__)
constexpr const char* kName = "MXCSR";
constexpr Field kFields[] = {{0x8000, "flush-to-zero (bit 15)"},
                             {0x6000, "a rounding direction (bits 13 and 14)", Kind::rounding},
                             {0x0040, "denormals-are-zero (bit 6)"}};
uint64_t read_control() { return _mm_getcsr(); }
void write_control(uint64_t v) { _mm_setcsr(static_cast<unsigned>(v)); }
#elif defined(__aarch64__)
constexpr const char* kName = "FPCR";
constexpr Field kFields[] = {
    {1u << 24, "flush-to-zero (FZ, bit 24)"},
    {3u << 22, "a rounding direction (RMode, bits 22 and 23)", Kind::rounding},
    {1u << 19, "flush-to-zero of binary16 (FZ16, bit 19)"},
    {2u, "alternate handling (AH, bit 1)"},
    {1u, "flush-inputs-to-zero (FIZ, bit 0)"}};
uint64_t read_control() {
  uint64_t v;
  __asm__ volatile("mrs %0, fpcr" : "=r"(v));
  return v;
}
void write_control(uint64_t v) { __asm__ volatile("msr fpcr, %0" ::"r"(v)); }
#else
// No flush-to-zero exists here; the rounding direction is all there is.
constexpr const char* kName = "rounding";
constexpr Field kFields[] = {{~uint64_t{0}, "a rounding direction", Kind::rounding}};
static_assert(FE_TONEAREST == 0, "the control word of nearest-even rounding must be 0");
uint64_t read_control() { return static_cast<uint64_t>(std::fegetround()); }
void write_control(uint64_t v) { std::fesetround(static_cast<int>(v)); }
#endif

constexpr uint64_t control_mask() {
  uint64_t mask = 0;
  for (const Field& f : kFields) mask |= f.mask;
  return mask;
}
constexpr uint64_t kControl = control_mask();

std::string describe(uint64_t control) {
  char text[48];
  std::snprintf(text, sizeof text, "%s 0x%llx", kName, static_cast<unsigned long long>(control));
  return text;
}

// "MXCSR 0x9fc0 has flush-to-zero (bit 15) and denormals-are-zero (bit 6) set"
std::string describe_wrong(uint64_t control) {
  std::string fields;
  for (const Field& f : kFields)
    if (control & f.mask) fields += (fields.empty() ? "" : " and ") + std::string(f.name);
  return describe(control) + " has " + fields + " set";
}

bool has(uint64_t control, Kind kind) {
  for (const Field& f : kFields)
    if (f.kind == kind && (control & f.mask)) return true;
  return false;
}

// What most often does that, and what to do.
std::string remedy(uint64_t control) {
  std::string text = "some code of this process did that";
  if (has(control, Kind::flushing))
    text +=
        "; subnormals are flushed most often by being linked with -ffast-math or -Ofast (GCC's "
        "crtfastmath.o does so at start-up): link without";
  if (has(control, Kind::rounding))
    text +=
        "; a rounding direction stays where std::fesetround() was called and not taken back: call "
        "std::fesetround(FE_TONEAREST) after use";
  return text + "; or call std::fesetenv(FE_DFL_ENV) in that thread first";
}

constexpr const char* kVariable = "VERBATIM_ASSERT_FP";

enum class Assertion : uint8_t { off, on, misspelt };

Assertion assertion_of_environment() {
  const char* said = std::getenv(kVariable);
  const std::string_view text = said == nullptr ? "" : said;
  if (text.empty() || text == "0") return Assertion::off;
  return text == "1" ? Assertion::on : Assertion::misspelt;
}

std::atomic<Assertion>& assertion() {
  static std::atomic<Assertion> said = assertion_of_environment();
  return said;
}

// What was corrected last, and how often.
struct Corrections {
  std::atomic<uint64_t> count{0};
  std::mutex mutex;
  uint64_t control = 0;
  std::string thread;
};
Corrections& corrections() {
  static Corrections c;
  return c;
}

void note_correction(uint64_t control) {
  char name[32] = "";
  pthread_getname_np(pthread_self(), name, sizeof name);
  Corrections& c = corrections();
  const std::lock_guard lock(c.mutex);
  c.control = control;
  c.thread = std::to_string(::gettid()) + " (" + name + ")";
  ++c.count;
}

}  // namespace

FloatGuard::FloatGuard() : saved_(read_control()) {
  if ((saved_ & kControl) == 0) return;
  if (float_environment_asserted()) note_correction(saved_);
  write_control(saved_ & ~kControl);
}

FloatGuard::~FloatGuard() {
  if (saved_ & kControl) write_control(saved_);
}

void assert_float_environment(bool on) { assertion() = on ? Assertion::on : Assertion::off; }
bool float_environment_asserted() { return assertion() == Assertion::on; }

Status check_float_assertion() {
  if (assertion() != Assertion::misspelt) return {};
  const char* said = std::getenv(kVariable);
  return usage_error(std::string(kVariable) + " is '" + printable(said == nullptr ? "" : said) +
                     "': it takes 1 (a floating-point mode that is not the contract's is an error) "
                     "or 0 (it is corrected, as without the variable)");
}

FloatWatch::FloatWatch() : seen_(corrections().count) {}

Status FloatWatch::check() const {
  VB_TRY(check_float_assertion());
  Corrections& c = corrections();
  if (!float_environment_asserted() || c.count == seen_) return {};
  const std::lock_guard lock(c.mutex);
  return unavailable("the floating-point environment of thread " + c.thread +
                     " is not the contract's, and that is asserted (" + kVariable +
                     "): " + describe_wrong(c.control) + "; " + remedy(c.control));
}

Status check_float_environment() {
  const uint64_t control = read_control();
  if ((control & kControl) == 0) return {};
  return unavailable("the floating-point environment is not the contract's: " +
                     describe_wrong(control) + "; " + remedy(control));
}

std::string describe_float_environment() { return describe(read_control()); }

}  // namespace verbatim
