// The two exact decisions behind pow_f32, apart so that they can be tested by themselves: nearly
// every operand pair is settled by floating point and never comes here.
#pragma once

#include <optional>

namespace verbatim::unary {

// x^y where that is a binary64 (0 < x != 1 a binary32, y != 0 a finite binary32, 2^-200 < x^y <
// 2^200), else nothing. Includes every x^y that is a binary32 or midway between two.
std::optional<double> exact_power(double x, double y);

// The sign of x^y - m, which must not be 0; x > 0 and y as above, m > 0 of at most 25 significant
// bits, 2^-33 < |y| < 2^32.
int compare_power(double x, double y, double m);

}  // namespace verbatim::unary
