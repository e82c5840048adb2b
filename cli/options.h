// Options that both programs have.
#pragma once

#include <CLI/CLI.hpp>

#include <verbatim/verify/limits.h>

namespace verbatim::cli {

// --max-operations and --max-memory: what this process lets itself in for at one operator, whatever a task allows. `limits` holds
// the defaults and receives what is given.
void add_limit_flags(CLI::App& command, NodeLimits& limits);
// For who judges: what one core of the scalar reference does in some ten minutes, and 4 GiB.
NodeLimits judging_limits();

// The decimal digits of a number from `least` to `greatest`; CLI11's own conversion would saturate, and take -1 for the greatest.
CLI::Validator whole_number(uint64_t least, uint64_t greatest);
// A finite number of at least 0; CLI11's own validator names all 309 digits of the greatest.
CLI::Validator number_from_zero();

}  // namespace verbatim::cli
