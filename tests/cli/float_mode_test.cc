// Programs in a floating-point mode that is not the contract's: corrected, or refused where
// VERBATIM_ASSERT_FP says so, by every command that computes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cfenv>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <verbatim/cli/conformance.h>
#include <verbatim/cli/prove.h>
#include <verbatim/core/file.h>
#include <verbatim/core/fp_guard.h>
#include <verbatim/core/npy.h>

#include "../verify/support.h"
#include "cli/call.h"
#include "repops/onnx_writer.h"
#include "repops/op_support.h"

namespace verbatim::test {
namespace {

// An environment variable for a scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

// A folder with a model, its input and, of the model, two cases for `conformance`.
class FloatMode : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(dir);
    testing::ModelParts p;
    p.nodes = {testing::node("Neg", {"x"}, {"y"})};
    p.inputs = {testing::value_info("x", DType::f32, {2})};
    p.outputs = {testing::value_info("y", DType::f32, {2})};
    const Tensor x = testing::floats({2}, {1, 2}), y = testing::floats({2}, {-1, -2});
    for (const std::string& one : {std::string("/cases/one"), std::string("/cases/two")}) {
      std::filesystem::create_directories(dir + one + "/test_data_set_0");
      write(one + "/model.onnx", testing::model_bytes(p));
      write(one + "/test_data_set_0/input_0.pb", testing::tensor_message(x, "x").bytes());
      write(one + "/test_data_set_0/output_0.pb", testing::tensor_message(y, "y").bytes());
    }
    write("/x.npy", as_chars(ok(encode_npy(x))));
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  void write(const std::string& name, std::string_view bytes) const {
    ok(write_file(dir + name, as_bytes(bytes)));
  }
  const std::string dir = ::testing::TempDir() + "/float-mode" + std::to_string(::getpid());
};

// In this process: the caller's rounding direction, asserted or not.
TEST_F(FloatMode, ConformanceAndProofAreRunsLikeOthers) {
  const auto backend = make_reference_backend();
  const auto prover = ok(make_unary_prover("reference"));
  const auto silent = [](uint64_t) {};
  const bool before = float_environment_asserted();
  for (const bool asserted : {false, true}) {
    assert_float_environment(asserted);
    std::fesetround(FE_UPWARD);
    const Result<ConformanceReport> report = run_conformance(dir + "/cases", *backend);
    const Result<UnaryProof> proof = prove_unary(*prover, Unary::exp, {0x3F800000, 100}, silent);
    std::fesetround(FE_TONEAREST);
    if (asserted) {
      EXPECT_EQ(report.status().code(), StatusCode::unavailable);
      EXPECT_EQ(proof.status().code(), StatusCode::unavailable);
    } else {
      EXPECT_EQ(ok(report).passed, 2);
      EXPECT_EQ(ok(proof).wrong, 0u);
    }
  }
  assert_float_environment(before);
}

TEST_F(FloatMode, AssertionIsOneOrZero) {
  for (const char* command : {"prove unary --function exp --range 0:1", "conformance cases",
                              "run cases/one/model.onnx --input x=x.npy", "doctor"}) {
    for (const char* said : {"true", "yes", "2", "on", " 1", "01"}) {
      const Variable variable("VERBATIM_ASSERT_FP", said);
      const Called called = call(std::string("verbatim ") + command, "2>&1", dir);
      EXPECT_EQ(called.code, 64) << command << "\n" << called.text;
      EXPECT_NE(called.text.find("VERBATIM_ASSERT_FP is '" + std::string(said) + "'"),
                std::string::npos)
          << called.text;
    }
    for (const char* said : {"1", "0", ""}) {
      const Variable variable("VERBATIM_ASSERT_FP", said);
      EXPECT_EQ(call(std::string("verbatim ") + command, "2>&1", dir).code, 0) << command << said;
    }
  }
}

#if defined(VERBATIM_FLOAT_MODE)
// The whole program in a mode that it was started in.
Called call_in_mode(const std::string& mxcsr, const std::string& asserted,
                    const std::string& command, const std::string& folder) {
  const Variable mode("VERBATIM_TEST_MXCSR", mxcsr);
  const Variable assertion("VERBATIM_ASSERT_FP", asserted);
  const Variable library("LD_PRELOAD", std::string(kBinDir) + "/libfloat_mode.so");
  return call("verbatim " + command, "2>&1", folder);
}

TEST_F(FloatMode, EveryCommandThatComputesAssertsIt) {
  struct Mode {
    const char* mxcsr;
    bool flushing, rounding;
  };
  const std::string replay = std::string(kTestsDir) + "/replay/layer0.vreplay";
  const std::string run = "verbatim run cases/one/model.onnx --input x=x.npy --output-dir traced";
  ASSERT_EQ(call(run + " --trace trace", "2>&1", dir).code, 0);
  for (const std::string& command :
       {std::string("prove unary --function exp --range 0:4096 --backend reference"),
        std::string("conformance cases"),
        std::string("run cases/one/model.onnx --input x=x.npy --output-dir out"),
        std::string("trace diff trace trace"), std::string("selftest"), "replay " + replay}) {
    const Called right = call_in_mode("1f80", "1", command, dir);
    EXPECT_EQ(right.code, 0) << command << "\n" << right.text;
    for (const Mode& m :
         {Mode{"9fc0", true, false}, Mode{"3f80", false, true}, Mode{"ffc0", true, true}}) {
      const Called corrected = call_in_mode(m.mxcsr, "", command, dir);
      EXPECT_EQ(corrected.code, 0) << command << "\n" << corrected.text;
      const Called refused = call_in_mode(m.mxcsr, "1", command, dir);
      EXPECT_EQ(refused.code, 69) << command << "\n" << refused.text;
      EXPECT_NE(refused.text.find("MXCSR 0x" + std::string(m.mxcsr)), std::string::npos)
          << refused.text;
      EXPECT_EQ(refused.text.find("-ffast-math") != std::string::npos, m.flushing) << refused.text;
      EXPECT_EQ(refused.text.find("fesetround") != std::string::npos, m.rounding) << refused.text;
      EXPECT_EQ(std::ranges::count(refused.text, '\n'), 1) << refused.text;
    }
  }
}
#endif

}  // namespace
}  // namespace verbatim::test
