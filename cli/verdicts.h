// Verdicts as JSON and as sentences, for `verbatim` and `verbatim-verify` alike.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include <verbatim/verify/receipt.h>
#include <verbatim/verify/transcript.h>
#include <verbatim/verify/verdict.h>

namespace verbatim::cli {

struct Measured {
  double ms = 0;
  long peak_rss_bytes = 0;
};
// The process's greatest resident memory so far.
long peak_rss_bytes();

nlohmann::ordered_json verdict_json(const Verdict& verdict, const std::vector<std::string>& names,
                                    const Measured& measured);
std::string verdict_text(const Verdict& verdict, const std::vector<std::string>& names);
// Lines about an exchange for a person: who was asked what, how much came back.
std::string exchange_text(size_t index, const Exchange& exchange,
                          const std::vector<std::string>& names);

nlohmann::ordered_json report_json(const ReceiptReport& report);
std::string report_text(const ReceiptReport& report);
int report_exit_code(const ReceiptReport& report);

}  // namespace verbatim::cli
