// The small programs and parties of tests/verify.
#include "../verify/support.cc"
