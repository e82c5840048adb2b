// The floating-point environment that the contract demands: round to nearest even, subnormals kept.
//
// A host program linked with -ffast-math, or a library that sets flush-to-zero, would silently
// change bits. FloatGuard sets the right environment for a scope and restores the caller's. Where
// that is asserted (VERBATIM_ASSERT_FP=1, assert_float_environment(true)), a run that had to be
// corrected ends in an error instead: it says which bits were set, in which thread, and what to do.
#pragma once

#include <cstdint>
#include <string>

#include <verbatim/core/status.h>

namespace verbatim {

class FloatGuard {
 public:
  FloatGuard();
  ~FloatGuard();
  FloatGuard(const FloatGuard&) = delete;
  FloatGuard& operator=(const FloatGuard&) = delete;

 private:
  uint64_t saved_;
};

// Whether a wrong environment is an error rather than corrected. At first what the environment
// variable VERBATIM_ASSERT_FP says ("1": yes; "0", empty or unset: no); for all threads, from the
// next run on.
void assert_float_environment(bool on);
bool float_environment_asserted();
// A usage error where the variable says something else, until assert_float_environment() is called.
Status check_float_assertion();

// What the guards of all threads had to correct since it was made, in a process that asserts.
class FloatWatch {
 public:
  FloatWatch();
  // Ok where nothing is asserted, but for a check_float_assertion() that is not.
  Status check() const;

 private:
  uint64_t seen_;
};

// An error that names what this thread has set: flush-to-zero, denormals-are-zero, or a rounding
// direction.
Status check_float_environment();

// The control word, for `verbatim doctor`: "MXCSR 0x1f80".
std::string describe_float_environment();

}  // namespace verbatim
