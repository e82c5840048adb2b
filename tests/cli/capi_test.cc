// The C interface: whatever is thrown below it stops there.
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>

#include <verbatim/cli/capi/handle.h>

namespace verbatim::capi {
namespace {

template <class E>
Result<int> throwing(const E& e) {
  throw E(e);
}

TEST(CInterface, WhateverIsThrownBecomesAnError) {
  vb_error error{};
  EXPECT_EQ(handle<int>(&error, [] { return throwing(std::bad_alloc()); }), nullptr);
  EXPECT_STREQ(error.message, "out of memory");
  EXPECT_EQ(handle<int>(&error, [] { return throwing(std::runtime_error("broken")); }), nullptr);
  EXPECT_EQ(error.code, VB_INTERNAL);
  EXPECT_STREQ(error.message, "broken");
  EXPECT_EQ(handle<int>(&error, [] { return throwing(7); }), nullptr);
  EXPECT_EQ(error.code, VB_INTERNAL);
  EXPECT_EQ(handle<int>(nullptr, [] { return throwing(7); }), nullptr);
}

TEST(CInterface, ADigestThatCannotBeHadIsEmpty) {
  char digest[VB_DIGEST_HEX] = "?";
  copy_digest(digest, []() -> Digest { throw std::bad_alloc(); });
  EXPECT_STREQ(digest, "");
  copy_digest(digest, [] { return Digest{}; });
  EXPECT_EQ(std::string(digest), std::string(64, '0'));
}

TEST(CInterface, ALongMessageIsCut) {
  vb_error error{};
  EXPECT_EQ(handle<int>(&error, []() -> Result<int> { return bad_input(std::string(999, 'x')); }),
            nullptr);
  EXPECT_EQ(error.code, VB_BAD_INPUT);
  EXPECT_EQ(std::string(error.message), std::string(sizeof error.message - 1, 'x'));
}

}  // namespace
}  // namespace verbatim::capi
