// Transcripts: judged alike by anyone, resumed after a crash, and no byte of them can be changed
// unnoticed.
#include <verbatim/verify/transcript.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <cfenv>
#include <fstream>

#include <verbatim/core/fp_guard.h>
#include <verbatim/verify/dispute.h>

#include "../support/paths.h"
#include "support.h"

namespace verbatim::test {
namespace {

Connect connected(Party& a, Party& b) {
  return [&](const TranscriptHeader&) { return std::vector<Party*>{&a, &b}; };
}

class TranscriptTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Random random(3);
    task = make_task(random, {1, 2, 1, 5}, CommitLevel::full);
    task.program.stop_value = -1;
    honest = make_provider(task, 1);
    liar = make_provider(task, 2, Fault{3, 1, 1, 20});
    path = ::testing::TempDir() + "/transcript" + std::to_string(::getpid());
    ::unlink(path.c_str());
  }
  void TearDown() override { ::unlink(path.c_str()); }
  Verdict run() {
    LocalParty a(*honest), b(*liar);
    return ok(run_dispute(task, std::vector<Disputant>{{"a", &a}, {"b", &b}}, path));
  }
  Bytes contents() { return ok(read_file(path, 1 << 26)); }

  Task task;
  std::unique_ptr<Provider> honest, liar;
  std::string path;
};

TEST_F(TranscriptTest, JudgesToTheSameBytes) {
  const Verdict v = run();
  EXPECT_EQ(v.refuted.size(), 1u);
  const Transcript t = ok(Transcript::open(path));
  ASSERT_TRUE(t.verdict().has_value());
  EXPECT_EQ(encode_verdict(ok(judge(t))), encode_verdict(v));
  EXPECT_EQ(t.party_names(), (std::vector<std::string>{"a", "b"}));
}

// A referee in a wrong floating-point mode is put right, or gives no verdict where that is
// asserted.
TEST_F(TranscriptTest, AnAssertedFloatEnvironmentIsTheRefereesToo) {
  run();
  const Transcript t = ok(Transcript::open(path));
  const bool before = float_environment_asserted();
  std::fesetround(FE_UPWARD);
  assert_float_environment(false);
  const Result<Verdict> corrected = judge(t);
  assert_float_environment(true);
  const Result<Verdict> refused = judge(t);
  assert_float_environment(before);
  std::fesetround(FE_TONEAREST);
  EXPECT_TRUE(corrected.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::unavailable);
}

TEST_F(TranscriptTest, EveryChangedByteIsRejectedOrJudgedTheSame) {
  const Bytes verdict = encode_verdict(run());
  const Bytes bytes = contents();
  size_t rejected = 0, same = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    Bytes other = bytes;
    other[i] ^= std::byte{1} << (i / 2 % 8);
    const Result<Transcript> t = Transcript::parse(other, "t");
    const Result<Verdict> v = t.ok() ? judge(*t) : t.status();
    if (!v.ok()) {
      ++rejected;
      continue;
    }
    ++same;
    EXPECT_EQ(encode_verdict(*v), verdict) << "byte " << i;
  }
  // Names are for people and not signed; everything else is bound.
  EXPECT_LE(same, 2u);
  EXPECT_GT(rejected, 1000u);
}

TEST_F(TranscriptTest, RefusesAnotherVerdictAndExtraExchanges) {
  const Verdict v = run();
  const Transcript t = ok(Transcript::open(path));
  const std::string forged = path + ".forged";
  const auto forge = [&](const auto& write) {
    ::unlink(forged.c_str());
    {
      TranscriptWriter w = ok(TranscriptWriter::create(forged, t.header()));
      write(w);
    }
    const Result<Verdict> judged = judge(ok(Transcript::open(forged)));
    ::unlink(forged.c_str());
    return judged.status();
  };
  const Status swapped = forge([&](TranscriptWriter& w) {
    for (const Exchange& e : t.exchanges()) ok(w.append(e));
    Verdict other = v;
    other.winners = {1};
    other.refuted[0].party = 0;
    ok(w.append(other));
  });
  const auto offset_of_verdict = std::to_string(t.verdict_offset());
  EXPECT_EQ(swapped.message(), forged + ": byte " + offset_of_verdict +
                                   ": the answers do not lead to the verdict that is recorded");
  const Status longer = forge([&](TranscriptWriter& w) {
    for (const Exchange& e : t.exchanges()) ok(w.append(e));
    ok(w.append(t.exchanges().back()));
    ok(w.append(v));
  });
  EXPECT_EQ(longer.message(), forged + ": byte " + offset_of_verdict + ": exchange " +
                                  std::to_string(t.exchanges().size()) +
                                  " and what follows is not asked by this referee");
  const Status shorter = forge([&](TranscriptWriter& w) {
    for (size_t i = 0; i + 1 < t.exchanges().size(); ++i) ok(w.append(t.exchanges()[i]));
    ok(w.append(v));
  });
  EXPECT_EQ(shorter.message(), forged + ": the transcript ends before the dispute does");
}

TEST_F(TranscriptTest, OffsetsInErrorsAreTheFiles) {
  run();
  Bytes bytes = contents();
  const Transcript t = ok(Transcript::parse(contents(), "t"));
  const size_t tag = t.exchanges()[1].offset + 4;  // behind the entry's length
  bytes[tag] = std::byte{9};
  EXPECT_EQ(Transcript::parse(bytes, "t").status().message(),
            "t: entry 1: byte " + std::to_string(tag + 1) + ": unknown entry 9");
}

// What the fuzzer starts from must reach the judge: a seed of an old format would be worth nothing.
TEST_F(TranscriptTest, TheFuzzersSeedIsOfThisFormat) {
  const Transcript seed =
      ok(Transcript::open(std::string(kTestsDir) + "/fuzz/corpus/transcript/settled"));
  EXPECT_EQ(ok(judge(seed)).refuted.size(), 1u);
}

TEST_F(TranscriptTest, HasOneWriterAtATime) {
  const Bytes verdict = encode_verdict(run());
  Bytes whole = contents();
  LocalParty a(*honest), b(*liar);
  {  // a finished one is only read
    const TranscriptWriter other = ok(TranscriptWriter::reopen(path));
    EXPECT_EQ(encode_verdict(ok(resume_dispute(path, connected(a, b)))), verdict);
  }
  whole.pop_back();
  ok(write_file(path, whole));
  {
    const TranscriptWriter other = ok(TranscriptWriter::reopen(path));
    const Status refused = resume_dispute(path, connected(a, b)).status();
    EXPECT_EQ(refused.code(), StatusCode::unavailable);
    EXPECT_EQ(refused.message(), path + ": another process is writing this transcript");
    EXPECT_EQ(contents(), whole);
  }
  EXPECT_EQ(encode_verdict(ok(resume_dispute(path, connected(a, b)))), verdict);
}

// Answers what it answered before, as a provider does when it is asked again.
class Remembering final : public Party {
 public:
  Remembering(const Transcript& all, uint32_t index) : all_(all), index_(index) {}
  const PublicKey& key() const override { return all_.header().parties[index_].key; }
  Result<SignedAnswer> ask(ByteView request) override {
    for (const Exchange& e : all_.exchanges())
      if (e.party == index_ && std::ranges::equal(e.request, request))
        return SignedAnswer{{e.reply.begin(), e.reply.end()}, e.signature};
    return Status(StatusCode::unavailable, "never asked before");
  }

 private:
  const Transcript& all_;
  uint32_t index_;
};

TEST_F(TranscriptTest, ResumingAFinishedDisputeContactsNobody) {
  const Bytes verdict = encode_verdict(run());
  const Bytes whole = contents();
  int contacted = 0;
  const Verdict again = ok(resume_dispute(path, [&](const TranscriptHeader&) {
    ++contacted;
    return std::vector<Party*>();
  }));
  EXPECT_EQ(encode_verdict(again), verdict);
  EXPECT_EQ(contacted, 0);
  EXPECT_EQ(contents(), whole);
}

// A referee may crash at any byte. Taken up again, the dispute comes to the verdict that it would
// have come to.
TEST_F(TranscriptTest, ResumesAfterACrashAnywhere) {
  const Bytes verdict = encode_verdict(run());
  const Bytes whole = contents();
  const Transcript all = ok(Transcript::parse(whole, "whole"));
  const size_t header = encode_transcript_header(all.header()).size();
  size_t tried = 0;
  for (size_t cut = header; cut < whole.size(); cut += 97) {
    ok(write_file(path, ByteView(whole).first(cut)));
    EXPECT_FALSE(judge(ok(Transcript::open(path))).ok());
    Remembering a(all, 0), b(all, 1);
    EXPECT_EQ(encode_verdict(ok(resume_dispute(path, connected(a, b)))), verdict)
        << "cut at " << cut;
    EXPECT_EQ(contents(), whole);
    ++tried;
  }
  EXPECT_GT(tried, 10u);
}

// The referee crashed after an answer came and before it was written: the provider gives the same
// answer again.
TEST_F(TranscriptTest, ResumesWithTheProvidersThemselves) {
  const Bytes verdict = encode_verdict(run());
  const Bytes whole = contents();
  const Transcript all = ok(Transcript::parse(whole, "whole"));
  const std::string shorter = path + ".short";
  {
    ::unlink(shorter.c_str());
    TranscriptWriter w = ok(TranscriptWriter::create(shorter, all.header()));
    for (size_t i = 0; i + 1 < all.exchanges().size(); ++i) ok(w.append(all.exchanges()[i]));
  }
  LocalParty a(*honest), b(*liar);
  EXPECT_EQ(encode_verdict(ok(resume_dispute(shorter, connected(a, b)))), verdict);
  EXPECT_EQ(a.asked + b.asked, 1);
  EXPECT_EQ(ok(read_file(shorter, 1 << 26)), whole);
  ::unlink(shorter.c_str());
}

TEST_F(TranscriptTest, ADisputeIsNotWrittenOverAnother) {
  run();
  LocalParty a(*honest);
  EXPECT_FALSE(run_dispute(task, std::vector<Disputant>{{"a", &a}}, path).ok());
}

TEST_F(TranscriptTest, OneProviderIsNotTwoParties) {
  LocalParty a(*honest), b(*honest);
  const std::vector<Disputant> twice = {{"127.0.0.1:1", &a}, {"localhost:1", &b}};
  const Status refused = run_dispute(task, twice, path).status();
  EXPECT_EQ(refused.code(), StatusCode::usage);
  EXPECT_EQ(refused.message(), "parties 1 and 2 have the same key: they are one provider");
  EXPECT_NE(::access(path.c_str(), F_OK), 0);  // nothing was written
  // A transcript that says otherwise is not judged.
  run();
  const Bytes bytes = contents();
  const Transcript t = ok(Transcript::open(path));
  TranscriptHeader header = t.header();
  header.parties[1].key = header.parties[0].key;
  Bytes forged = encode_transcript_header(header);
  forged.insert(forged.end(), bytes.begin() + static_cast<ptrdiff_t>(forged.size()), bytes.end());
  const Status judged = judge(ok(Transcript::parse(forged, "t"))).status();
  EXPECT_NE(judged.message().find("have the same key"), std::string::npos) << judged.message();
}

TEST_F(TranscriptTest, ForfeitsAreReplayedToo) {
  struct Asleep final : Party {
    PublicKey k;
    const PublicKey& key() const override { return k; }
    Result<SignedAnswer> ask(ByteView) override { return Status(StatusCode::deadline, ""); }
  } asleep;
  LocalParty a(*honest);
  const Verdict v =
      ok(run_dispute(task, std::vector<Disputant>{{"a", &a}, {"asleep\x1b[2J", &asleep}}, path));
  EXPECT_EQ(v.outcome, DisputeOutcome::forfeit);
  const Transcript t = ok(Transcript::open(path));
  EXPECT_EQ(t.party_names()[1], "asleep?[2J");
  EXPECT_EQ(encode_verdict(ok(judge(t))), encode_verdict(v));
}

}  // namespace
}  // namespace verbatim::test
