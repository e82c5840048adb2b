// Where tests find their files and the programs under test. __FILE__ does not say: it depends on
// how the compiler was called.
#pragma once

namespace verbatim::test {

extern const char* const kTestsDir;  // tests/ of the source tree
extern const char* const kBinDir;    // the programs of this build

}  // namespace verbatim::test
