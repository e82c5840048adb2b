// The 128-bit integers of machines that have none, against the compiler's.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <verbatim/core/int128.h>

namespace verbatim {
namespace {

#if defined(__SIZEOF_INT128__)
// Words at the ends of their range, where carries and signs are, and any.
uint64_t any_word() {
  return *rc::gen::oneOf(rc::gen::element<uint64_t>(0, 1, ~uint64_t{0}, uint64_t{1} << 63,
                                                    (uint64_t{1} << 63) - 1, 0xFFFFFFFF),
                         rc::gen::resize(1000, rc::gen::arbitrary<uint64_t>()));
}

template <class Native, bool kSigned>
void expect_the_compilers() {
  using Ours = TwoWords<kSigned>;
  const Ours a(any_word(), any_word()), b(any_word(), any_word());
  const auto native = [](const Ours& v) {
    return static_cast<Native>(static_cast<uint128>(v.high()) << 64 | v.low());
  };
  const auto wrapped = [&](const Ours& v) { return static_cast<uint128>(native(v)); };
  const auto x = wrapped(a), y = wrapped(b);  // unsigned: signed ones would overflow
  RC_ASSERT(wrapped(a + b) == x + y);
  RC_ASSERT(wrapped(a - b) == x - y);
  RC_ASSERT(wrapped(a * b) == x * y);
  RC_ASSERT(wrapped(a & b) == (x & y));
  const int n = *rc::gen::inRange(0, 128);
  RC_ASSERT(wrapped(a << n) == x << n);
  RC_ASSERT(native(a >> n) == native(a) >> n);
  RC_ASSERT((a < b) == (native(a) < native(b)));
  RC_ASSERT((a == b) == (native(a) == native(b)));
  RC_ASSERT(static_cast<int64_t>(a) == static_cast<int64_t>(native(a)));
  const auto small = static_cast<int64_t>(a.low());
  RC_ASSERT(native(Ours(small)) == static_cast<Native>(small));
  RC_ASSERT(native(Ours(a.low())) == static_cast<Native>(a.low()));
}

RC_GTEST_PROP(Int128, SignedIsTheCompilers, ()) { expect_the_compilers<int128, true>(); }
RC_GTEST_PROP(Int128, UnsignedIsTheCompilers, ()) { expect_the_compilers<uint128, false>(); }
#endif

TEST(Int128, ToBinary64) {
  EXPECT_EQ(static_cast<double>(TwoWords<false>(1) << 100), 0x1p100);
  EXPECT_EQ(static_cast<double>(TwoWords<false>(3)), 3.0);
}

}  // namespace
}  // namespace verbatim
