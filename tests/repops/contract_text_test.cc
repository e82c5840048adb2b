// The contract's text knows every operator.
#include <gtest/gtest.h>

#include <cctype>
#include <set>
#include <string>

#include <verbatim/core/file.h>
#include <verbatim/repops/op.h>

#include "support/paths.h"

namespace verbatim::test {
namespace {

std::set<std::string> words_of(const std::string& document) {
  const Bytes bytes = *read_file(std::string(kTestsDir) + "/../docs/" + document, 1 << 24);
  std::set<std::string> words;
  std::string word;
  for (const char c : as_chars(bytes)) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      word += c;
    } else {
      words.insert(word);
      word.clear();
    }
  }
  return words;
}

TEST(ContractText, NamesEveryOperator) {
  std::set<std::string> words = words_of("operators.md");
  words.merge(words_of("numerics.md"));
  for (const OpDef* op : all_ops())
    EXPECT_TRUE(words.contains(std::string(op->name)))
        << op->name << " of domain '" << op->domain << "' has no formula in docs/";
}

}  // namespace
}  // namespace verbatim::test
