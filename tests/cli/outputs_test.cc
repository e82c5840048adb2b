// What commands write: nothing that they read or that is another's is replaced, nothing is there by
// half, and what cannot be written is found before anything is computed.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include <verbatim/core/file.h>
#include <verbatim/core/npy.h>

#include "cli/call.h"
#include "repops/onnx_writer.h"
#include "repops/op_support.h"

namespace verbatim::test {
namespace {

namespace fs = std::filesystem;
using testing::node;
using testing::value_info;

class Outputs : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(dir);
    fs::create_directories(dir + "/empty");
    testing::ModelParts p;  // a = -x, b = |a|
    p.nodes = {node("Neg", {"x"}, {"a"}), node("Abs", {"a"}, {"b"})};
    p.inputs = {value_info("x", DType::f32, {3})};
    p.outputs = {value_info("b", DType::f32, {3}), value_info("a", DType::f32, {3})};
    const std::string bytes = testing::model_bytes(p);
    write("m.onnx", bytes);
    const Bytes npy = *encode_npy(testing::floats({3}, {1, 2, 3}));
    for (const char* name : {"x.npy", "a/a.npy", "b/b.npy"}) write(name, as_chars(npy));
  }
  void TearDown() override { fs::remove_all(dir); }
  void write(const std::string& name, std::string_view bytes) {
    fs::create_directories(fs::path(dir + "/" + name).parent_path());
    const Status status = write_file(dir + "/" + name, as_bytes(bytes));
    ASSERT_TRUE(status.ok()) << status.message();
  }
  // Every file of the folder; those of other kinds by their names alone.
  std::map<std::string, Bytes> files() const {
    std::map<std::string, Bytes> all;
    for (const auto& entry : fs::recursive_directory_iterator(dir)) {
      Bytes& bytes = all[entry.path().string()];
      if (entry.is_regular_file()) bytes = *read_file(entry.path().string(), 1 << 24);
    }
    return all;
  }
  // Runs the command within the folder.
  Called here(const std::string& command, const std::string& redirection = "2>&1") const {
    return call("verbatim " + command, redirection, dir);
  }
  void changes_nothing(const std::string& command, int code) {
    const auto before = files();
    const Called called = here(command);
    EXPECT_EQ(called.code, code) << command << "\n" << called.text;
    EXPECT_TRUE(files() == before) << command;
  }
  const std::string dir = ::testing::TempDir() + "/outputs" + std::to_string(::getpid());
};

TEST_F(Outputs, ATraceReplacesNothing) {
  const std::string run = "run m.onnx --input x=x.npy --output-dir out --trace ";
  ASSERT_EQ(here(run + "ours").code, 0);
  changes_nothing(run + "ours", 69);
  changes_nothing(run + "a", 69);
  changes_nothing(run + "x.npy", 64);
  changes_nothing(run + "m.onnx/new", 69);
  for (const char* dumps : {"a", "empty"})
    changes_nothing(std::string("trace import ") + dumps + " --model m.onnx -o ours",
                    dumps == std::string("a") ? 69 : 65);
  changes_nothing("trace import empty --model m.onnx -o new", 65);
  EXPECT_EQ(here(run + "empty/").code, 0);  // an empty folder is as good as none
  EXPECT_EQ(here("trace diff ours empty").code, 0);
}

TEST_F(Outputs, TracesWithoutACommonValueWereNotCompared) {
  for (const std::string name : {"a", "b"})
    ASSERT_EQ(here("trace import " + name + " --model m.onnx -o trace-" + name).code, 0);
  const Called text = here("trace diff trace-a trace-b");
  EXPECT_EQ(text.code, 2);
  EXPECT_NE(text.text.find("no value is in both traces"), std::string::npos) << text.text;
  const Called json = here("trace diff trace-a trace-b --json", "2>/dev/null");
  EXPECT_EQ(json.code, 2);
  EXPECT_TRUE(nlohmann::json::parse(json.text)["equal"].is_null()) << json.text;
  EXPECT_EQ(here("trace diff trace-a trace-a").code, 0);
}

// What is different is shown in bits and in decimals, with a distance where there is one.
TEST_F(Outputs, ADifferenceOfTracesIsReadable) {
  for (const auto& [name, x] :
       {std::pair("one", 1.0f), std::pair("next", 1.00000012f), std::pair("nan", std::nanf(""))}) {
    write(std::string(name) + ".npy", as_chars(*encode_npy(testing::floats({3}, {x, 2, 3}))));
    ASSERT_EQ(here(std::string("run m.onnx --output-dir out-") + name + " --input x=" + name +
                   ".npy --trace " + name)
                  .code,
              0);
  }
  const Called near = here("trace diff one next");
  EXPECT_EQ(near.code, 1);
  EXPECT_NE(near.text.find("bf800000 (-1) and bf800001 (-1.00000012), 1 ULP apart"),
            std::string::npos)
      << near.text;
  const Called nan = here("trace diff nan one");
  EXPECT_EQ(nan.code, 1);
  EXPECT_NE(nan.text.find(" (NaN) and bf800000 (-1), one is NaN\n"), std::string::npos) << nan.text;
  const Called json = here("trace diff nan one --json", "2>/dev/null");
  EXPECT_TRUE(nlohmann::json::parse(json.text)["ulp"].is_null()) << json.text;
}

TEST_F(Outputs, TracesOfDifferentProgramsAreBadInput) {
  testing::ModelParts p;
  p.nodes = {node("Abs", {"x"}, {"y"})};
  p.inputs = {value_info("x", DType::f32, {3})};
  p.outputs = {value_info("y", DType::f32, {3})};
  write("other.onnx", testing::model_bytes(p));
  ASSERT_EQ(here("run m.onnx --input x=x.npy --output-dir out --trace ours").code, 0);
  ASSERT_EQ(here("run other.onnx --input x=x.npy --output-dir out2 --trace other").code, 0);
  const Called called = here("trace diff ours other");
  EXPECT_EQ(called.code, 65) << called.text;
  for (const char* part :
       {"ours is of program ", "other is of program ", "(2 nodes, the first Neg"})
    EXPECT_NE(called.text.find(part), std::string::npos) << called.text;
}

TEST_F(Outputs, ATolerancesLimitIsReadable) {
  for (const char* flag : {"--tolerance", "--relative"})
    for (const char* value : {"-1", "foo", "inf", "nan", "1e999"}) {
      const Called called = here(std::string("trace diff a b ") + flag + " " + value);
      EXPECT_EQ(called.code, 64) << called.text;
      EXPECT_NE(called.text.find("not a finite number of at least 0: "), std::string::npos)
          << called.text;
      EXPECT_LT(called.text.size(), 200u) << called.text;
    }
}

TEST_F(Outputs, NoCommandReplacesWhatItReads) {
  fs::create_symlink("m.onnx", dir + "/link");
  fs::create_hard_link(dir + "/x.npy", dir + "/same.npy");
  const std::string run = "run m.onnx --input x=x.npy --output-dir out --receipt ";
  for (const char* receipt : {"m.onnx", "link", "x.npy", "same.npy", "a/../x.npy"})
    changes_nothing(run + receipt, 64);
  changes_nothing("run m.onnx --input x=b/b.npy --output-dir b", 64);
  changes_nothing("lock m.onnx -o m.onnx", 64);
  changes_nothing("task create m.onnx --input x=x.npy -o x.npy", 64);
  changes_nothing("task create m.onnx --input x=x.npy -o link", 64);
  changes_nothing("task create m.onnx:k=1 --input x=x.npy -o m.onnx", 64);
}

TEST_F(Outputs, WhatCannotBeWrittenIsFoundFirst) {
  ASSERT_EQ(::mkfifo((dir + "/pipe").c_str(), 0600), 0);
  const std::string run = "run m.onnx --input x=x.npy --receipt ";
  for (const char* receipt : {"missing/r --output-dir out", "a --output-dir out",
                              "pipe --output-dir out", "r --output-dir x.npy"})
    changes_nothing(run + receipt, 69);
  fs::create_directories(dir + "/full/b.npy");
  changes_nothing(run + "r --output-dir full", 69);
  for (const char* output : {"pipe", "a", "missing/f"}) {
    changes_nothing(std::string("lock m.onnx -o ") + output, 69);
    changes_nothing(std::string("task create m.onnx --input x=x.npy -o ") + output, 69);
  }
}

class OutputsWithModels : public Outputs {};

TEST_F(OutputsWithModels, TrainingReplacesNoModelAndFindsOutFirst) {
  const char* stories = std::getenv("VERBATIM_STORIES");
  if (stories == nullptr) GTEST_SKIP() << "VERBATIM_STORIES names no folder";
  fs::copy(stories, dir + "/model", fs::copy_options::recursive);
  fs::create_directory_symlink("model", dir + "/link");
  std::string text;
  for (int i = 0; i < 6; ++i) text += "The owl read a book about a boat. The boat read nothing. ";
  write("text", text);
  const std::string train = "train model --text-file text --steps 1 --batch 1 --window 24 ";
  for (const char* output : {"model", "link", "model/", "a/../model"})
    changes_nothing(train + "--output " + output, 64);
  for (const char* flags : {"--output a", "--output text", "--output text/new",
                            "--output new --receipt missing/r", "--output new --receipt empty"}) {
    changes_nothing(train + flags, 69);
    EXPECT_EQ(here(train + flags).text.find("step 0"), std::string::npos) << flags;
  }
  for (const char* receipt : {"text", "model/config.json", "link/model.safetensors"})
    changes_nothing(train + "--receipt " + receipt, 64);
  ASSERT_EQ(here(train + "--output deep/new").code, 0);
  EXPECT_EQ(here("train deep/new --text-file text --steps 1 --window 24").code, 0);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir + "/deep"), {}), 1);
}

// A loop's operations are those of its body, as often as it ran.
TEST_F(Outputs, AReceiptCountsTheOperationsOfBodies) {
  constexpr int64_t kTrips = 5, kWidth = 16;
  testing::ModelParts body, p;
  body.inputs = {value_info("i", DType::i64, {}), value_info("go", DType::boolean, {}),
                 value_info("y", DType::f32, {kWidth, kWidth})};
  body.nodes = {node("Identity", {"go"}, {"next"}), node("MatMul", {"y", "w"}, {"z"})};
  body.outputs = {value_info("next", DType::boolean, {}),
                  value_info("z", DType::f32, {kWidth, kWidth})};
  const Tensor w = testing::floats({kWidth, kWidth}, std::vector<float>(kWidth * kWidth, 0.5f));
  p.inputs = {value_info("w", DType::f32, {kWidth, kWidth})};
  p.initializers = {testing::tensor_message(*Tensor::scalar(kTrips), "n"),
                    testing::tensor_message(testing::bools({}, {true}), "c")};
  p.nodes = {node("Loop", {"n", "c", "w"}, {"out"}, {testing::attribute("body", body)})};
  p.outputs = {value_info("out", DType::f32, {kWidth, kWidth})};
  write("loop.onnx", testing::model_bytes(p));
  write("w.npy", as_chars(*encode_npy(w)));
  const Called called = here("run loop.onnx --input w=w.npy --receipt r --json", "2>/dev/null");
  ASSERT_EQ(called.code, 0);
  const auto operations =
      nlohmann::json::parse(called.text)["receipt"]["operations"].get<int64_t>();
  const int64_t products = kTrips * 2 * kWidth * kWidth * kWidth;
  EXPECT_GE(operations, products);
  // Besides them: 1024 for each trip and each node of it, and what the Identity costs.
  EXPECT_LE(operations, products + kTrips * (3 * 1024 + 16)) << products;
}

// What an operator could give besides, and the graph does not take, is not written.
TEST_F(Outputs, AReceiptCountsTheBytesThatAreTaken) {
  testing::ModelParts p;
  p.nodes = {node("LayerNormalization", {"x", "scale"}, {"y"})};
  p.inputs = {value_info("x", DType::f32, {3})};
  p.outputs = {value_info("y", DType::f32, {3})};
  p.initializers = {testing::tensor_message(testing::floats({3}, {1, 1, 1}), "scale")};
  write("norm.onnx", testing::model_bytes(p));
  const Called called = here("run norm.onnx --input x=x.npy --receipt r --json", "2>/dev/null");
  ASSERT_EQ(called.code, 0);
  EXPECT_EQ(nlohmann::json::parse(called.text)["receipt"]["bytes_written"], 3 * 4);
}

}  // namespace
}  // namespace verbatim::test
