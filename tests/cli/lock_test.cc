// Locks: what is written is read and holds; what changed is named; a file that is no lock is
// refused.
#include <verbatim/cli/lock.h>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include <verbatim/core/file.h>
#include <verbatim/core/philox.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/semantics.h>

#include "cli/call.h"
#include "repops/onnx_writer.h"
#include "repops/op_support.h"
#include "support/paths.h"

namespace verbatim::cli {
namespace {

using testing::attribute;
using testing::node;
using testing::value_info;

template <class T>
T ok(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.status().message());
  return *std::move(result);
}

// y = table[ids] * scale + mask, with a table of three rows.
testing::ModelParts embedding() {
  testing::ModelParts p;
  p.nodes = {node("Unsqueeze", {"ids", "axis"}, {"column"}),
             node("Gather", {"table", "column"}, {"rows"}, {}, "rows"),
             node("Mul", {"rows", "scale"}, {"scaled"}), node("Add", {"scaled", "noise"}, {"y"}),
             node("Identity", {"mask"}, {"seen"})};
  p.initializers = {testing::tensor_message(testing::floats({3, 2}, {1, 2, 3, 4, 5, 6}), "table"),
                    testing::tensor_message(testing::integers({1}, {-1}), "axis"),
                    testing::tensor_message(testing::floats({1}, {0.5f}), "scale")};
  p.inputs = {value_info("ids", DType::i64, {-1}), value_info("noise", DType::f32, {1, 1, 2}),
              value_info("mask", DType::i64, {4})};
  p.outputs = {value_info("y", DType::f32, {-1, -1, 2}), value_info("seen", DType::i64, {4})};
  return p;
}

class LockTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Model> model(const testing::ModelParts& parts) {
    const std::string bytes = testing::model_bytes(parts);
    const Status written = write_file(path, as_bytes(bytes));
    EXPECT_TRUE(written.ok()) << written.message();
    return ok(Model::load(path));
  }
  void TearDown() override { std::filesystem::remove(path); }
  std::vector<std::string> said(const Lock& lock, const Model& m) {
    std::vector<std::string> all;
    for (const LockDifference& d : ok(check_lock(lock, m, *backend))) all.push_back(d.said);
    return all;
  }
  const std::string path = ::testing::TempDir() + "/lock" + std::to_string(::getpid()) + ".onnx";
  const std::unique_ptr<Backend> backend = make_reference_backend();
};

TEST_F(LockTest, HoldsAndIsReadAsItWasWritten) {
  const auto m = model(embedding());
  const Lock lock = ok(make_lock(*m, {}, *backend));
  ASSERT_EQ(lock.inputs.size(), 3u);
  EXPECT_EQ(lock.inputs[0].shape, std::vector<int64_t>{2});
  EXPECT_EQ(lock.inputs[0].high, 2);  // the table has three rows
  EXPECT_EQ(lock.inputs[2].high, 1);
  EXPECT_NE(lock.cases[0].outputs.at("y"), lock.cases[1].outputs.at("y"));
  const std::string text = lock_text(lock);
  const Lock read = ok(parse_lock(text, "lock"));
  EXPECT_EQ(lock_text(read), text);
  EXPECT_TRUE(said(read, *m).empty());
  EXPECT_EQ(lock_text(ok(make_lock(*m, {}, **make_backend("auto")))), text);
}

// The file says what an input is, element by element: u = philox(seed, element, input).
TEST_F(LockTest, InputsAreWhatTheFileSays) {
  testing::ModelParts p;
  p.nodes = {node("Identity", {"x"}, {"y"}), node("Identity", {"n"}, {"m"})};
  p.inputs = {value_info("x", DType::f32, {3}), value_info("n", DType::i32, {2})};
  p.outputs = {value_info("y", DType::f32, {3}), value_info("m", DType::i32, {2})};
  LockSettings settings;
  settings.ranges["n"] = {-5, 5};
  settings.seeds = {9};
  const Lock lock = ok(make_lock(*model(p), settings, *backend));
  std::vector<float> x;
  std::vector<int32_t> n;
  for (uint64_t i = 0; i < 3; ++i)
    x.push_back(static_cast<float>(philox_u64(9, i, 0) >> 40) * 0x1p-23f - 1.0f);
  for (uint64_t i = 0; i < 2; ++i) n.push_back(static_cast<int32_t>(philox_u64(9, i, 1) % 11) - 5);
  EXPECT_EQ(lock.cases[0].outputs.at("y"), tensor_root(*Tensor::from<float>(Shape{3}, x)));
  EXPECT_EQ(lock.cases[0].outputs.at("m"), tensor_root(*Tensor::from<int32_t>(Shape{2}, n)));
}

TEST_F(LockTest, WhatChangedIsNamed) {
  const Lock lock = ok(make_lock(*model(embedding()), {}, *backend));
  testing::ModelParts p = embedding();
  p.initializers[2] = testing::tensor_message(testing::floats({1}, {0.25f}), "scale");
  const auto weight = said(lock, *model(p));
  ASSERT_EQ(weight.size(), 4u);
  EXPECT_TRUE(weight[0].starts_with("tensor 'scale' is another: ")) << weight[0];
  EXPECT_EQ(weight[1], "so the model is another");
  EXPECT_TRUE(weight[2].starts_with("output 'seed 1: y' is another: ")) << weight[2];
  EXPECT_TRUE(weight[3].starts_with("output 'seed 2: y' is another: ")) << weight[3];

  p = embedding();
  p.nodes[2] = node("Div", {"rows", "scale"}, {"scaled"});
  const auto graph = said(lock, *model(p));
  ASSERT_EQ(graph.size(), 3u);
  EXPECT_NE(graph[0].find("its configuration, tokenizer or graph has changed"), std::string::npos);

  p = embedding();
  p.inputs[1] = value_info("sound", DType::f32, {1, 1, 2});
  p.nodes[3] = node("Add", {"scaled", "sound"}, {"y"});
  EXPECT_TRUE(said(lock, *model(p)).back().starts_with("the model's inputs are others"));

  Lock other = lock;
  other.tensors.erase("axis");
  other.tensors["more"] = Digest{};
  const auto m = model(embedding());
  EXPECT_EQ(said(other, *m),
            (std::vector<std::string>{"tensor 'more' is gone", "tensor 'axis' is new"}));
  other = lock;
  other.semantics = kSemanticsVersion + 1;
  EXPECT_EQ(said(other, *m).size(), 1u);
}

// A model that cannot run the locked inputs any more is another one: that is said, besides what
// else differs.
TEST_F(LockTest, OutputsThatCannotBeComputedAreADifference) {
  const Lock lock = ok(make_lock(*model(embedding()), {}, *backend));
  testing::ModelParts shrunk = embedding(), fixed = embedding();
  shrunk.initializers[0] = testing::tensor_message(testing::floats({1, 2}, {1, 2}), "table");
  fixed.inputs[0] = value_info("ids", DType::i64, {3});
  for (const testing::ModelParts& parts : {shrunk, fixed}) {
    const auto now = said(lock, *model(parts));
    ASSERT_GE(now.size(), 3u);
    EXPECT_NE(now[now.size() - 3].find("model is another"), std::string::npos);
    EXPECT_TRUE(now[now.size() - 2].starts_with("outputs of seed 1 cannot be computed: "))
        << now[now.size() - 2];
    EXPECT_TRUE(now.back().starts_with("outputs of seed 2 cannot be computed: ")) << now.back();
  }
  // Of the locked model itself it is no difference: then the lock is wrong.
  Lock other = lock;
  other.inputs[0].high = 100;
  EXPECT_FALSE(check_lock(other, *model(embedding()), *backend).ok());
}

TEST_F(LockTest, SettingsMustNameSomething) {
  const auto m = model(embedding());
  const auto refused = [&](const LockSettings& settings, const char* part) {
    const Status status = make_lock(*m, settings, *backend).status();
    EXPECT_EQ(status.code(), StatusCode::usage) << status.message();
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  };
  refused({.dims = {{"batch", 3}}}, "no open dimension 'batch': there are n");
  refused({.ranges = {{"noise", {0, 1}}}}, "no integer input 'noise'");
  EXPECT_EQ(ok(make_lock(*m, {.dims = {{"n", 5}}}, *backend)).inputs[0].shape[0], 5);
  EXPECT_FALSE(make_lock(*m, {.ranges = {{"ids", {0, 3}}}}, *backend).ok());  // beyond the table
}

// A run that fails on sizes that nobody chose says which they were.
TEST_F(LockTest, FailuresNameTheDimensionsThatNobodyGave) {
  testing::ModelParts p = embedding();
  p.nodes.push_back(node("Reshape", {"ids", "three"}, {"square"}));
  p.initializers.push_back(testing::tensor_message(testing::integers({1}, {3}), "three"));
  p.outputs.push_back(value_info("square", DType::i64, {3}));
  const auto m = model(p);
  const Status status = make_lock(*m, {}, *backend).status();
  EXPECT_EQ(status.code(), StatusCode::bad_input);
  EXPECT_TRUE(
      status.message().ends_with(" (open dimensions had no size and got n = 2: give them "
                                 "one with --dim NAME=N)"))
      << status.message();
  // Where all have been given, there is nothing to say.
  const std::string said = make_lock(*m, {.dims = {{"n", 4}}}, *backend).status().message();
  EXPECT_EQ(said.find("--dim"), std::string::npos) << said;
  EXPECT_TRUE(make_lock(*m, {.dims = {{"n", 3}}}, *backend).ok());
}

// What is wrong with the locked model's inputs is wrong with the lock.
TEST_F(LockTest, ErrorsOfACheckNameTheLock) {
  const std::string lock = path + ".lock";
  std::string text = lock_text(ok(make_lock(*model(embedding()), {}, *backend)));
  const auto said = [&](const std::string& shape) {
    std::string other = text;
    other.replace(other.find("\"shape\": ["), 10, "\"shape\": [" + shape);
    EXPECT_TRUE(write_file(lock, as_bytes(other)).ok());
    const test::Called called = test::call("verbatim lock " + path + " --check " + lock);
    EXPECT_EQ(called.code, 65) << called.text;
    return called.text;
  };
  for (const char* shape : {"-7,", "7,", "4611686018427387904, 4611686018427387904,"})
    EXPECT_TRUE(said(shape).starts_with("verbatim lock: " + lock + ": ")) << said(shape);
  std::filesystem::remove(lock);
}

TEST_F(LockTest, TheCommandExitsWithWhatItFound) {
  const std::string lock = path + ".lock";
  const auto call = [&](const std::string& flags) {
    const int status = std::system(
        (std::string(test::kBinDir) + "/verbatim lock " + path + flags + " >/dev/null 2>&1")
            .c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  model(embedding());
  EXPECT_EQ(call(" -o " + lock), 0);
  EXPECT_EQ(call(" --check " + lock + " --json"), 0);
  EXPECT_EQ(call(" --check " + lock + " -o " + lock), 64);
  EXPECT_EQ(call(" --dim n"), 64);
  EXPECT_EQ(call(" --seed 1 --seed 1"), 64);
  EXPECT_EQ(call(" --check " + path), 65);
  testing::ModelParts p = embedding();
  p.initializers[2] = testing::tensor_message(testing::floats({1}, {0.25f}), "scale");
  model(p);
  EXPECT_EQ(call(" --check " + lock), 1);
  p.initializers[0] = testing::tensor_message(testing::floats({1, 2}, {1, 2}), "table");
  model(p);
  EXPECT_EQ(call(" --check " + lock), 1);
  std::filesystem::remove(lock);
}

TEST_F(LockTest, WhatIsNoLockIsRefused) {
  const std::string text = lock_text(ok(make_lock(*model(embedding()), {}, *backend)));
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string other = text;
    const size_t at = other.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    other.replace(at, from.size(), to);
    const Status status = parse_lock(other, "some.lock").status();
    EXPECT_EQ(exit_code(status.code()), 65) << from << ": " << status.message();
    EXPECT_NE(status.message().find("some.lock"), std::string::npos) << status.message();
  };
  refused("verbatim.lock.1", "verbatim.lock.2");
  refused("\"uniform\"", "\"normal\"");
  refused("\"int64\"", "\"int65\"");
  refused("\"seed\": 1", "\"seed\": \"1\"");
  refused("\"seed\": 1", "\"seed\": -1");
  refused("\"seed\": 1", "\"seed\": 18446744073709551616");
  refused("\"seed\": 1", "\"sead\": 1");
  refused("\"semantics\": ", "\"semantics\": 4294967296");
  refused("\"semantics\": ", "\"semantics\": -");
  refused("\"fp32\"", "\"fp33\"");
  refused("\"high\": 2", "\"high\": 9223372036854775808");
  refused("\"shape\": [\n        2", "\"shape\": [9223372036854775808");
  refused("\"shape\"", "\"form\"");
  refused("\"cases\": [", "\"cases\": [], \"old\": [");
  refused("\"tensors\": {", "\"tensors\": {\"x\": \"00\", ");
  refused("{", "[");
  refused("\"semantics\"", "\"comment\": 1, \"semantics\"");
  refused("\"rule\"", "\"step\": 2, \"rule\"");
  refused("\"outputs\"", "\"weight\": 2, \"outputs\"");
  refused("\"seed\": 2", "\"seed\": 1");
  // A shape that no tensor has is an error of the check, not a crash.
  std::string huge = text;
  const size_t at = huge.find("\"shape\": [");
  huge.insert(at + 10, "4611686018427387904, 4611686018427387904, ");
  EXPECT_FALSE(check_lock(ok(parse_lock(huge, "l")), *model(embedding()), *backend).ok());
}

// A file of some bytes must not make its reader take gigabytes.
TEST_F(LockTest, InputsAreBounded) {
  const auto m = model(embedding());
  Lock lock = ok(make_lock(*m, {}, *backend));
  for (const int64_t n : {int64_t{1} << 27, int64_t{1} << 31, int64_t{1} << 62}) {
    lock.inputs[0].shape = {n};
    for (const Status& status : {check_lock(lock, *m, *backend).status(),
                                 make_lock(*m, {.dims = {{"n", n}}}, *backend).status()}) {
      EXPECT_EQ(status.code(), StatusCode::limit) << n;
      EXPECT_NE(status.message().find("at most 1073741824 bytes"), std::string::npos)
          << status.message();
    }
  }
}

}  // namespace
}  // namespace verbatim::cli
