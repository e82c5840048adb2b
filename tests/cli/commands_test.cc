// The programs as they are called: exit codes, refusals, and that no verdict is shown unjudged.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include <verbatim/cli/prove.h>
#include <verbatim/core/file.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/semantics.h>

#include "../verify/support.h"
#include "cli/call.h"
#include "support/paths.h"

namespace verbatim::test {
namespace {

class Commands : public ::testing::Test {
 protected:
  void SetUp() override {
    Random random(3);
    const Task task = make_task(random, {1, 2, 1, 5}, CommitLevel::full);
    const auto honest = make_provider(task, 1), liar = make_provider(task, 2, Fault{0, 1, 1, 20});
    LocalParty a(*honest), b(*liar);
    ::unlink(path.c_str());
    ::unlink(forged.c_str());
    const Verdict verdict =
        ok(run_dispute(task, std::vector<Disputant>{{"a", &a}, {"b", &b}}, path));
    ASSERT_EQ(verdict.outcome, DisputeOutcome::settled);
    const Transcript true_one = ok(Transcript::open(path));
    Verdict lie = verdict;
    lie.winners = {verdict.refuted[0].party};
    lie.refuted[0].party = verdict.winners[0];
    TranscriptWriter w = ok(TranscriptWriter::create(forged, true_one.header()));
    for (const Exchange& exchange : true_one.exchanges()) ok(w.append(exchange));
    ok(w.append(lie));
  }
  void TearDown() override {
    ::unlink(path.c_str());
    ::unlink(forged.c_str());
  }
  const std::string path = ::testing::TempDir() + "/judged" + std::to_string(::getpid());
  const std::string forged = path + ".forged";
};

TEST_F(Commands, AVerdictIsShownOnceItWasJudged) {
  for (const char* command : {"verbatim dispute explain ", "verbatim dispute watch ",
                              "verbatim referee judge ", "verbatim-verify transcript "}) {
    const Called good = call(command + path), bad = call(command + forged);
    EXPECT_EQ(good.code, 0) << command << good.text;
    EXPECT_NE(good.text.find("Provider 2 (b) is refuted"), std::string::npos)
        << command << good.text;
    EXPECT_EQ(bad.code, 65) << command << bad.text;
    EXPECT_EQ(bad.text.find("is refuted: in step"), std::string::npos) << command << bad.text;
  }
  const Called status = call("verbatim dispute status " + forged);
  EXPECT_NE(status.text.find("by the transcript's own word"), std::string::npos) << status.text;
}

TEST_F(Commands, AJudgeSaysWhatItLetsItselfInFor) {
  const Called judged = call("verbatim-verify transcript --max-operations 1 " + path);
  EXPECT_EQ(judged.code, 2) << judged.text;
  EXPECT_NE(judged.text.find("this party allows 1"), std::string::npos) << judged.text;
  EXPECT_EQ(call("verbatim-verify transcript --max-operations -1 " + path).code, 64);
  EXPECT_EQ(call("verbatim-verify transcript --max-memory 1e99 " + path).code, 64);
}

TEST_F(Commands, AResultThatCannotBeWrittenIsNoSuccess) {
  for (const char* command : {"verbatim-verify transcript ", "verbatim referee judge "}) {
    EXPECT_EQ(call(command + path, ">&- 2>/dev/null").code, 69) << command;
  }
}

TEST_F(Commands, NumbersOutOfTheirRangeAreWrongUsage) {
  for (const char* budget : {"nan", "inf", "1e300", "0", "-1", "x"})
    EXPECT_EQ(call("verbatim dispute resume " + path + " --budget " + budget).code,
              VERBATIM_NET ? 64 : 69)
        << budget;
  for (const char* flag : {"--top-k 99999999999999999999", "--top-k -1", "--max-tokens 0",
                           "--max-tokens 4294967296", "--seed -1", "--seed 18446744073709551616"})
    EXPECT_EQ(call(std::string("verbatim generate /nonexistent ") + flag).code, 64) << flag;
}

// A flag that would say nothing is wrong usage: found before the model is looked for.
TEST(Flags, ThatSayNothingAreRefused) {
  for (const char* command : {
           "train m --text-file t --momentum 0.5",
           "train m --text-file t --optimizer adamw --momentum 0.5",
           "train m --text-file t --commit full",
           "run m --commit full",
           "task create m -o o --text-file t --precision bf16",
           "task create m -o o --text-file t --prompt p",
           "task create m -o o --text-file t --max-tokens 3",
           "task create m -o o --text-file t --text s",
           "task create m -o o --text-file t --input x=f",
           "task create m -o o --text-file t --momentum 0.5",
           "task create m -o o --prompt p --steps 3",
           "task create m -o o --window 3",
           "task create m -o o --text s --seed 3",
           "task create m -o o --input x=f --prompt p",
           "task create m -o o --input x=f --text s",
           "eval m --text-file t --tensors --precision bf16",
           "eval --tensors --window 8",
       })
    EXPECT_EQ(call(std::string("verbatim ") + command).code, 64) << command;
  EXPECT_EQ(call("verbatim train /nonexistent --text-file t --optimizer sgd --momentum 0.5").code,
            69);
  EXPECT_EQ(call("verbatim task create /nonexistent -o o --text-file t --steps 3").code, 69);
}

TEST(CommandsWithModels, FlagsOfAnotherKindOfModelAreRefused) {
  const char *minilm = std::getenv("VERBATIM_MINILM"), *stories = std::getenv("VERBATIM_STORIES");
  if (minilm == nullptr || stories == nullptr)
    GTEST_SKIP() << "VERBATIM_MINILM or VERBATIM_STORIES names no folder";
  const std::string base = ::testing::TempDir() + "/kinds" + std::to_string(::getpid());
  ok(write_file(base + ".txt", as_bytes("A text.")));
  for (const std::string& command :
       {std::string("task create ") + minilm + " --max-tokens 3 -o " + base,
        std::string("task create ") + stories + " --text s -o " + base,
        std::string("eval ") + minilm + " --text-file " + base + ".txt --window 8"})
    EXPECT_EQ(call("verbatim " + command).code, 64) << command;
  EXPECT_FALSE(std::filesystem::exists(base));
  ::unlink((base + ".txt").c_str());
}

TEST(CommandsWithModels, AReceiptOfAnotherKindOfModelGetsNoVerdict) {
  const char *minilm = std::getenv("VERBATIM_MINILM"), *stories = std::getenv("VERBATIM_STORIES");
  if (minilm == nullptr || stories == nullptr)
    GTEST_SKIP() << "VERBATIM_MINILM or VERBATIM_STORIES names no folder";
  const std::string receipt = ::testing::TempDir() + "/kind" + std::to_string(::getpid());
  ASSERT_EQ(call(std::string("verbatim embed ") + minilm + " --text x --receipt " + receipt).code,
            0);
  const Called verified =
      call("verbatim receipt verify " + receipt + " --json --model " + stories, "2>/dev/null");
  EXPECT_EQ(verified.code, 2);
  EXPECT_NE(verified.text.find("NO_VERDICT"), std::string::npos) << verified.text;
  ::unlink(receipt.c_str());
}

// Within what the contract's precisions promise, and with equal bits on every backend.
TEST(CommandsWithModels, EvalMeasuresPrecisionsAgainstFp32) {
  const char *minilm = std::getenv("VERBATIM_MINILM"), *stories = std::getenv("VERBATIM_STORIES");
  if (minilm == nullptr || stories == nullptr)
    GTEST_SKIP() << "VERBATIM_MINILM or VERBATIM_STORIES names no folder";
  const std::string file = ::testing::TempDir() + "/eval" + std::to_string(::getpid());
  const std::string text =
      "Once upon a time, there was a little dog who lived near a big forest.\n"
      "One day he saw a red ball in the grass and wanted to play with it.\n"
      "A girl came and said: you can have my ball, if you are my friend.\n";
  ok(write_file(file, as_bytes(text)));
  const auto evaluate = [&](const std::string& model, const std::string& precisions) {
    const Called c =
        call("verbatim eval " + model + " --precision " + precisions + " --json", "2>/dev/null");
    EXPECT_EQ(c.code, 0);
    return nlohmann::json::parse(c.text);
  };
  const std::string sentences = std::string(kTestsDir) + "/accuracy/sentences.txt";
  const auto scores = evaluate(stories + (" --text-file " + file), "s2x2,w8a8"),
             cosines = evaluate(minilm + (" --text-file " + sentences), "s2x2,w8a8"),
             few = evaluate(minilm + (" --text-file " + file), "bf16");
  EXPECT_LT(std::abs(scores["s2x2"]["relative_to_fp32"].get<double>()), 0.001);
  EXPECT_LT(std::abs(scores["w8a8"]["relative_to_fp32"].get<double>()), 0.01);
  EXPECT_GT(scores["fp32"]["perplexity"].get<double>(), 1.0);
  EXPECT_GT(cosines["s2x2"]["cosine_least"].get<double>(), 0.9999);
  EXPECT_GT(cosines["w8a8"]["cosine_least"].get<double>(), 0.999);
  EXPECT_LT(cosines["w8a8"]["cosine_least"].get<double>(), 0.99999);  // they do differ
  EXPECT_GE(few["bf16"]["bits_equal_across"].size(), 2u);
  EXPECT_EQ(call(std::string("verbatim eval ") + stories + " --window 1 --text-file " + file).code,
            64);
  ::unlink(file.c_str());
}

// Training has one digest on every backend, a receipt that verifies, and leaves a model behind.
TEST(CommandsWithModels, TrainHasOneDigestAndAReceipt) {
  const char *minilm = std::getenv("VERBATIM_MINILM"), *stories = std::getenv("VERBATIM_STORIES");
  if (minilm == nullptr || stories == nullptr)
    GTEST_SKIP() << "VERBATIM_MINILM or VERBATIM_STORIES names no folder";
  const std::string base = ::testing::TempDir() + "/train" + std::to_string(::getpid());
  std::string text;
  for (int i = 0; i < 6; ++i) text += "The owl read a book about a boat. The boat read nothing. ";
  ok(write_file(base + ".txt", as_bytes(text)));
  const auto train = [&](const std::string& model, const std::string& flags) {
    const Called c = call("verbatim train " + model + " --text-file " + base +
                              ".txt --steps 3 --batch 2 --window 24 --json " + flags,
                          "2>/dev/null");
    return std::pair(c.code, c.code == 0 ? nlohmann::json::parse(c.text) : nlohmann::json());
  };
  const auto [code, first] =
      train(stories, "--receipt " + base + ".receipt --output " + base + ".model");
  ASSERT_EQ(code, 0);
  ASSERT_EQ(first["losses"].size(), 3u);
  const auto second = train(stories, "--backend reference --threads 1").second;
  EXPECT_EQ(first["digest"], second["digest"]);
  EXPECT_EQ(first["losses"], second["losses"]);
  EXPECT_NE(train(stories, "--learning-rate 0.002").second["digest"], first["digest"]);
  EXPECT_NE(train(stories, "--optimizer sgd").second["digest"], first["digest"]);
  const Called verified =
      call("verbatim receipt verify " + base + ".receipt --json --model " + stories, "2>/dev/null");
  EXPECT_EQ(verified.code, 0) << verified.text;
  // What was trained goes on from there: its first loss is below the untrained model's.
  const auto later = train(base + ".model", "").second;
  EXPECT_LT(later["losses"][0].get<double>(), first["losses"][0].get<double>());
  EXPECT_EQ(train(minilm, "").first, 64);
  EXPECT_EQ(train(stories, "--optimizer adam").first, 64);
  std::filesystem::remove_all(base + ".model");
  for (const char* suffix : {".txt", ".receipt"}) ::unlink((base + suffix).c_str());
}

// Errors of the sizes that the contract states, on numbers that are the same everywhere.
TEST(Eval, MeasuresOperatorsAgainstBinary64) {
  const Called c = call("verbatim eval --tensors --json", "2>/dev/null");
  ASSERT_EQ(c.code, 0);
  const auto json = nlohmann::json::parse(c.text);
  const auto mean = [&](const char* set, const char* name) {
    return json["products"][set][name]["mean"].get<double>();
  };
  EXPECT_NEAR(mean("gaussian", "fp32"), 7.7e-9, 0.5e-9);
  EXPECT_LT(mean("gaussian", "s4x4"), 1e-9);
  EXPECT_LT(mean("gaussian", "w8a8"), mean("gaussian", "w4a8"));
  EXPECT_LT(mean("gaussian", "mxint8"), mean("gaussian", "nvint4"));
  EXPECT_LT(mean("outlier channels", "w8a8"), mean("outlier channels", "s1x1"));
  EXPECT_LT(json["attention"]["gaussian"]["int8 cache"].get<double>(), 0.03);
  EXPECT_EQ(call("verbatim eval --tensors --text-file x").code, 64);
  EXPECT_EQ(call("verbatim eval --text-file x").code, 64);
  EXPECT_EQ(call("verbatim eval").code, 64);
}

// One line for each backend, which says plainly why it does not run here.
TEST(Doctor, SaysOfEachBackendWhyItIsNotHere) {
  const Called text = call("verbatim doctor");
  EXPECT_EQ(text.text.find("backend '"), std::string::npos) << text.text;
#if !defined(VERBATIM_KERNELS_CUDA)
  EXPECT_NE(text.text.find("\n  cuda: not built in (cmake --preset cuda)\n"), std::string::npos)
      << text.text;
#endif
#if defined(__x86_64__)
  EXPECT_NE(text.text.find("\n  neon: not of this processor, but of AArch64\n"), std::string::npos)
      << text.text;
#endif
  EXPECT_NE(text.text.find("\n  reference: available\n"), std::string::npos) << text.text;
}

// The digest of a part is that of its results in order, on any number of threads and backend.
TEST(Prove, APartOfAFunctionIsProvedAndDigested) {
  Bytes results(4 * 5000000);
  for (uint32_t i = 0; i < 5000000; ++i)
    store_le(results.data() + 4 * size_t{i}, bits_of(exp_f32(float_of(0x3F800000 + i))));
  const std::string first = "0x3f800000", second = "1065353216";
  int ran = 0;
  for (const BackendInfo& backend : list_backends()) {
    if (!backend.missing.empty()) continue;
    const Called c = call("verbatim prove unary --function exp --range " +
                              (ran == 0 ? first : second) + ":5000000 --json --threads " +
                              std::to_string(1 + ran % 2) + " --backend " + backend.name,
                          "2>/dev/null");
    EXPECT_EQ(c.code, 0);
    EXPECT_EQ(c.text, "{\"exp\":{\"inputs\":5000000,\"wrong\":0,\"digest\":\"" +
                          sha256(results).hex() + "\",\"backend\":\"" + backend.name + "\"}}\n");
    ++ran;
  }
  EXPECT_GE(ran, 1);
  const Called fast =
      call("verbatim prove unary --function exp --range 0x3f800000:5000000 --json --no-oracle",
           "2>/dev/null");
  EXPECT_NE(fast.text.find("\"wrong\":null,\"digest\":\"" + sha256(results).hex()),
            std::string::npos);
}

TEST(Prove, RefusesInputsAndFunctionsThatAreNot) {
  for (const char* range : {"5", "5:", ":5", "5:0", "4294967296:1", "1:4294967296", "-1:5", "0x:1",
                            "1:18446744073709551615", "1:2:3"})
    EXPECT_EQ(call(std::string("verbatim prove unary --function exp --range ") + range).code, 64)
        << range;
  const Called none = call("verbatim prove unary --function gelu --range 0:1");
  EXPECT_EQ(none.code, 64);
  EXPECT_NE(none.text.find("no function 'gelu': there are exp, exp2"), std::string::npos);
}

// What is wrong, and what the oracle cannot tell, is counted and the first named.
TEST(Prove, CountsWhatIsWrong) {
  const auto never = [](uint64_t) {};
  const auto prover = make_unary_prover("reference", [](Unary f, float x) {
    const uint32_t bits = bits_of(x);
    if (bits % 1000000 == 7) return std::optional<float>();
    return std::optional(bits == 19000000 ? 0.0f : evaluate(f, x));
  });
  const auto proof = prove_unary(**prover, Unary::exp, {1 << 24, 3000000}, never);
  ASSERT_TRUE(proof.ok());
  EXPECT_EQ(proof->inputs, 3000000u);
  EXPECT_EQ(proof->wrong, 4u);
  EXPECT_EQ(proof->first_wrong, 17000007u);
}

}  // namespace
}  // namespace verbatim::test
