#include <verbatim/cli/verdicts.h>

#include <sys/resource.h>

#include <verbatim/verify/protocol.h>

namespace verbatim::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string name_of_party(uint32_t party, const std::vector<std::string>& names) {
  return party < names.size() ? names[party] : "party " + std::to_string(party);
}

Json where_json(const Where& w) {
  return {{"step", w.step},
          {"node", w.node},
          {"operator", w.title},
          {"output", w.output},
          {"tile", w.tile},
          {"element", w.element},
          {"claimed_bits", w.claimed_bits},
          {"true_bits", w.true_bits}};
}

Json findings_json(const std::vector<PartyFinding>& findings,
                   const std::vector<std::string>& names) {
  Json list = Json::array();
  for (const PartyFinding& f : findings) {
    Json j = {{"party", f.party}, {"name", name_of_party(f.party, names)}, {"reason", f.reason}};
    if (f.where) j["where"] = where_json(*f.where);
    list.push_back(j);
  }
  return list;
}

std::string tree_text(const TreeName& t) {
  const std::string step = " of step " + std::to_string(t.step);
  switch (t.kind) {
    case TreeName::Kind::records:
      return "the step records";
    case TreeName::Kind::nodes:
      return "the node hashes" + step;
    case TreeName::Kind::recorded:
      return "the recorded values" + step;
    case TreeName::Kind::leaves:
      return "the tiles of value " + std::to_string(t.value) + step;
  }
  return "a tree";
}

struct QuestionText {
  std::string operator()(const AskCommit&) const { return "commit to a result"; }
  std::string operator()(const AskReveal&) const { return "reveal it"; }
  std::string operator()(const AskChildren& q) const {
    return "hashes below a node of " + tree_text(q.tree);
  }
  std::string operator()(const AskRecord& q) const {
    return "the record of step " + std::to_string(q.step);
  }
  std::string operator()(const AskStep& q) const { return "open step " + std::to_string(q.step); }
  std::string operator()(const AskNode& q) const {
    return "open node " + std::to_string(q.node) + " of step " + std::to_string(q.step);
  }
  std::string operator()(const AskRecorded& q) const {
    return "recorded value " + std::to_string(q.index) + " of step " + std::to_string(q.step);
  }
  std::string operator()(const AskTensor& q) const {
    return "value " + std::to_string(q.value) + " of step " + std::to_string(q.step) + ", " +
           std::to_string(q.length) + " bytes from " + std::to_string(q.offset);
  }
};

}  // namespace

long peak_rss_bytes() {
  rusage usage{};
  return ::getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss * 1024 : 0;
}

Json verdict_json(const Verdict& v, const std::vector<std::string>& names,
                  const Measured& measured) {
  Json winners = Json::array();
  for (uint32_t w : v.winners) winners.push_back(name_of_party(w, names));
  Json j = {{"outcome", name_of(v.outcome)},
            {"winner", winners},
            {"refuted", findings_json(v.refuted, names)},
            {"forfeited", findings_json(v.forfeited, names)}};
  j["where"] =
      v.refuted.empty() || !v.refuted[0].where ? Json(nullptr) : where_json(*v.refuted[0].where);
  if (v.result) j["result"] = v.result->hex();
  if (!v.reason.empty()) j["reason"] = v.reason;
  j["referee"] = {{"bytes_read", v.cost.bytes_read},
                  {"operations", v.cost.operations},
                  {"exchanges", v.cost.exchanges},
                  {"nodes_recomputed", v.cost.nodes_recomputed},
                  {"ms", measured.ms},
                  {"peak_rss", measured.peak_rss_bytes}};
  return j;
}

std::string verdict_text(const Verdict& verdict, const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& line : explain(verdict, names)) text += line + "\n";
  return text;
}

std::string exchange_text(size_t index, const Exchange& e, const std::vector<std::string>& names) {
  const Result<Request> request = decode_request(e.request, "request");
  const std::string question =
      request.ok() ? std::visit(QuestionText{}, request->question) : "an unreadable question";
  const std::string answer =
      e.failure == StatusCode::ok ? std::to_string(e.reply.size()) + " bytes" : "no answer";
  return std::to_string(index) + "  " + name_of_party(e.party, names) + "  " + question + "  ->  " +
         answer;
}

Json report_json(const ReceiptReport& report) {
  Json json = {{"outcome", name_of(report.outcome)},
               {"checked", report.checked},
               {"not_checked", report.not_checked}};
  if (!report.reason.empty()) json["reason"] = report.reason;
  return json;
}

std::string report_text(const ReceiptReport& report) {
  std::string text(name_of(report.outcome));
  text += report.reason.empty() ? "\n" : ": " + report.reason + "\n";
  for (const std::string& s : report.checked) text += "  checked: " + s + "\n";
  for (const std::string& s : report.not_checked) text += "  not checked: " + s + "\n";
  return text;
}

int report_exit_code(const ReceiptReport& report) {
  switch (report.outcome) {
    case ReceiptOutcome::verified:
      return 0;
    case ReceiptOutcome::refuted:
      return 1;
    case ReceiptOutcome::no_verdict:
      break;
  }
  return 2;
}

}  // namespace verbatim::cli
