// The floating-point environment that the contract demands: round to nearest even, subnormals kept.
//
// A host program built with fast-math, or a library that sets FTZ, would silently change bits.
// FloatGuard sets the right environment for a scope and restores the caller's;
// check_float_environment() tells whether the caller's was right.
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

// An error that names what is set: flush-to-zero, denormals-are-zero, or a rounding direction.
Status check_float_environment();

// The control word, for `verbatim doctor`: "MXCSR 0x1f80".
std::string describe_float_environment();

}  // namespace verbatim
