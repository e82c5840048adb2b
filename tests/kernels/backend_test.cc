// Choosing a backend: by name, by environment, and never another than was asked for.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include <verbatim/core/cpu.h>
#include <verbatim/kernels/backend.h>

namespace verbatim {
namespace {

class BackendTest : public ::testing::Test {
 protected:
  void TearDown() override { unsetenv("VERBATIM_BACKEND"); }
};

TEST_F(BackendTest, EachRunsOrSaysWhatIsMissing) {
  for (const BackendInfo& info : list_backends()) {
    const Result<std::unique_ptr<Backend>> backend = make_backend(info.name);
    if (info.missing.empty()) {
      ASSERT_TRUE(backend.ok()) << info.name;
      EXPECT_EQ((*backend)->name(), info.name);
    } else {
      EXPECT_EQ(backend.status().code(), StatusCode::unavailable);
      EXPECT_NE(backend.status().message().find(info.missing), std::string::npos);
    }
  }
}

TEST_F(BackendTest, AutoIsTheBest) {
  unsetenv("VERBATIM_BACKEND");
  for (const BackendInfo& info : list_backends()) {
    if (!info.missing.empty()) continue;
    EXPECT_EQ((*make_backend("auto"))->name(), info.name);
    EXPECT_EQ((*make_backend(""))->name(), info.name);
    break;
  }
}

TEST_F(BackendTest, EnvironmentForces) {
  setenv("VERBATIM_BACKEND", "reference", 1);
  EXPECT_EQ((*make_backend("auto"))->name(), "reference");
  for (const BackendInfo& info : list_backends()) {
    if (info.missing.empty()) continue;
    setenv("VERBATIM_BACKEND", info.name.c_str(), 1);
    EXPECT_EQ(make_backend("auto").status().code(), StatusCode::unavailable);
    EXPECT_TRUE(make_backend("reference").ok());
  }
}

// What VERBATIM_CPU_DISABLE names is neither there nor used (tests/CMakeLists.txt sets it).
TEST_F(BackendTest, DisabledFeaturesAreNotUsed) {
  const auto names = cpu_feature_names(), disabled = disabled_cpu_features();
  for (const std::string& name : disabled) {
    EXPECT_TRUE(is_cpu_feature(name)) << name;
    EXPECT_EQ(std::ranges::count(names, name), 0) << name;
  }
  for (const BackendInfo& info : list_backends()) {
    if (!info.missing.empty()) continue;
    for (const int64_t rows : {1, 64}) {
      const std::string way = integer_product_way(info.name, rows);
      EXPECT_TRUE(way.empty() || std::ranges::count(names, way) == 1) << way;
    }
  }
  if (cpu_features().amx_int8) {
    EXPECT_EQ(integer_product_way("avx512", 64), "amx_int8");
  }
}

TEST_F(BackendTest, UnknownName) {
  EXPECT_EQ(make_backend("sse9").status().code(), StatusCode::usage);
  setenv("VERBATIM_BACKEND", "sse9", 1);
  EXPECT_EQ(make_backend("").status().code(), StatusCode::usage);
}

}  // namespace
}  // namespace verbatim
