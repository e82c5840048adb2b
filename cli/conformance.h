// The ONNX backend test suite's node cases: CASE/model.onnx and
// CASE/test_data_set_N/{input,output}_M.pb.
#pragma once

#include <string>
#include <vector>

#include <verbatim/core/status.h>
#include <verbatim/repops/backend.h>

namespace verbatim {

struct ConformanceCase {
  std::string name;
  std::string status;  // "passed", "failed" or "unsupported"
  std::string reason;  // empty where it passed
};

struct ConformanceReport {
  int64_t passed = 0, failed = 0, unsupported = 0;
  std::vector<ConformanceCase> cases;  // sorted by name
};

// Runs every folder below `dir` that has a model.onnx. An output agrees where |have - want| <= 1e-7
// + 1e-3 * |want| (floating types; NaN equals NaN) or where it is equal; of a DFT, which the cases
// computed in binary32, within half a unit in the last place of the greatest element besides.
// Unsupported: the importer or an operator says so. An error: `dir` cannot be read.
Result<ConformanceReport> run_conformance(const std::string& dir, Backend& backend);

}  // namespace verbatim
