// The ONNX backend suite's cases: those of Debian's libonnx-testdata, and the node cases of a newer
// release where VERBATIM_ONNX_NODE_DIR names a folder of them. None may fail, and the number that
// pass may only grow.
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include <gtest/gtest.h>

#include <verbatim/cli/conformance.h>

namespace verbatim {
namespace {

void expect_cases(const std::string& dir, int64_t floor) {
  const auto backend = make_reference_backend();
  const Result<ConformanceReport> report = run_conformance(dir, *backend);
  ASSERT_TRUE(report.ok()) << report.status().message();
  for (const ConformanceCase& c : report->cases)
    EXPECT_NE(c.status, "failed") << c.name << ": " << c.reason;
  EXPECT_GE(report->passed, floor);
  std::cout << dir << ": " << report->passed << " passed, " << report->failed << " failed, "
            << report->unsupported << " unsupported\n";
}

// PyTorch's are of operator set 6.
TEST(Conformance, DebianCases) {
  const std::string data = "/usr/share/libonnx-testdata/data/";
  if (!std::filesystem::exists(data)) GTEST_SKIP() << "libonnx-testdata is not installed";
  expect_cases(data + "node", 872);
  expect_cases(data + "pytorch-converted", 82);
  expect_cases(data + "pytorch-operator", 35);
  expect_cases(data + "simple", 15);
}

TEST(Conformance, NewerNodeCases) {
  const char* dir = std::getenv("VERBATIM_ONNX_NODE_DIR");
  if (dir == nullptr) GTEST_SKIP() << "VERBATIM_ONNX_NODE_DIR is not set";
  expect_cases(dir, 1006);
}

TEST(Conformance, AFolderThatIsNotThereIsAnError) {
  const auto backend = make_reference_backend();
  EXPECT_EQ(run_conformance("/nonexistent", *backend).status().code(), StatusCode::unavailable);
}

}  // namespace
}  // namespace verbatim
