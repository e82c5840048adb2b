#include <verbatim/verify/verdict.h>

#include <verbatim/core/tensor_codec.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

constexpr uint32_t kMaxParties = 64;
// Names within them are shortened (core/codec.h), so that whatever a referee writes can be read.
constexpr size_t kMaxText = 4096;

void write_where(Writer& w, const Where& where) {
  w.u64(where.step);
  w.u32(static_cast<uint32_t>(where.node));
  w.text(where.title);
  w.u32(static_cast<uint32_t>(where.output));
  write_dtype(w, where.dtype);
  write_shape(w, where.shape);
  w.i64(where.tile);
  w.i64(where.element);
  w.text(where.claimed_bits);
  w.text(where.true_bits);
}

Result<Where> read_where(Reader& r) {
  Where where;
  VB_ASSIGN(where.step, r.u64());
  VB_ASSIGN(const uint32_t node, r.u32());
  where.node = static_cast<int32_t>(node);
  VB_ASSIGN(where.title, r.text(kMaxText));
  VB_ASSIGN(const uint32_t output, r.u32());
  where.output = static_cast<int32_t>(output);
  VB_ASSIGN(const uint8_t type, r.u8());
  where.dtype = dtype_from_onnx(type);
  if (type != static_cast<uint8_t>(where.dtype)) return r.fail("unknown element type");
  VB_ASSIGN(where.shape, read_shape(r));
  VB_ASSIGN(where.tile, r.i64());
  VB_ASSIGN(where.element, r.i64());
  VB_ASSIGN(where.claimed_bits, r.text(16));
  VB_ASSIGN(where.true_bits, r.text(16));
  if (where.tile >= 0 && (where.dtype == DType::undefined ||
                          where.tile >= leaf_layout(where.dtype, where.shape).leaf_count()))
    return r.fail("a tile that the tensor lacks");
  return where;
}

void write_findings(Writer& w, const std::vector<PartyFinding>& findings) {
  w.u32(static_cast<uint32_t>(findings.size()));
  for (const PartyFinding& f : findings) {
    w.u32(f.party);
    w.text(f.reason);
    w.u8(f.where.has_value());
    if (f.where) write_where(w, *f.where);
  }
}

Status read_findings(Reader& r, std::vector<PartyFinding>& findings) {
  VB_ASSIGN(const uint32_t n, r.count(9, kMaxParties));
  for (uint32_t i = 0; i < n; ++i) {
    PartyFinding f;
    VB_ASSIGN(f.party, r.u32());
    VB_ASSIGN(f.reason, r.text(kMaxText));
    VB_ASSIGN(const uint8_t placed, r.u8());
    if (placed > 1) return r.fail("a flag that is neither 0 nor 1");
    if (placed) {
      VB_ASSIGN(f.where, read_where(r));
    }
    findings.push_back(std::move(f));
  }
  return {};
}

std::string party_title(uint32_t party, std::span<const std::string> names) {
  std::string title = "Provider " + std::to_string(party + 1);
  if (party < names.size() && !names[party].empty()) title += " (" + printable(names[party]) + ")";
  return title;
}

std::string range_text(const char* one, const char* many, int64_t begin, int64_t end) {
  if (end - begin == 1) return std::string(one) + " " + std::to_string(begin);
  return std::string(many) + " " + std::to_string(begin) + " to " + std::to_string(end - 1);
}

// "tile 5 (row 1, columns 0 to 383)": rows and columns of the output seen as a matrix of its last
// dimension.
std::string tile_text(const Where& where) {
  const LeafLayout layout = leaf_layout(where.dtype, where.shape);
  const auto [begin, end] = layout.elements(where.tile);
  const int64_t first_row = begin / layout.columns, last_row = (end - 1) / layout.columns;
  const int64_t column = begin % layout.columns;
  return "tile " + std::to_string(where.tile) + " (" +
         range_text("row", "rows", first_row, last_row + 1) + ", " +
         range_text("column", "columns", column,
                    layout.leaves_per_row > 1 ? column + (end - begin) : layout.columns) +
         ")";
}

std::string where_text(const Where& where) {
  std::string text = "in step " + std::to_string(where.step);
  if (where.node < 0) return text;
  text += ", node " + std::to_string(where.node) + " (" + where.title + ")";
  if (where.tile < 0) return text;
  text += ", output " + std::to_string(where.output) + " " + std::string(name_of(where.dtype)) +
          " " + where.shape.to_string() + ", " + tile_text(where);
  if (where.element >= 0)
    text += ", element " + std::to_string(where.element) + " is claimed to be 0x" +
            where.claimed_bits + " and computes to 0x" + where.true_bits;
  return text;
}

}  // namespace

std::string_view name_of(DisputeOutcome outcome) {
  switch (outcome) {
    case DisputeOutcome::settled:
      return "SETTLED";
    case DisputeOutcome::forfeit:
      return "FORFEIT";
    case DisputeOutcome::no_verdict:
      break;
  }
  return "NO_VERDICT";
}

int exit_code(DisputeOutcome outcome) {
  return outcome == DisputeOutcome::settled ? 0 : outcome == DisputeOutcome::forfeit ? 3 : 2;
}

Bytes encode_verdict(const Verdict& v) {
  Writer w;
  w.u8(static_cast<uint8_t>(v.outcome));
  w.text(v.reason);
  w.u32(static_cast<uint32_t>(v.winners.size()));
  for (const uint32_t winner : v.winners) w.u32(winner);
  w.u8(v.result.has_value());
  if (v.result) w.raw(v.result->bytes);
  write_findings(w, v.refuted);
  write_findings(w, v.forfeited);
  w.u64(v.cost.bytes_read);
  w.u64(v.cost.exchanges);
  w.u64(v.cost.operations);
  w.u64(v.cost.nodes_recomputed);
  return w.take();
}

Result<Verdict> decode_verdict(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  Verdict v;
  VB_ASSIGN(const uint8_t outcome, r.u8());
  if (outcome < 1 || outcome > 3) return r.fail("unknown outcome " + std::to_string(outcome));
  v.outcome = static_cast<DisputeOutcome>(outcome);
  VB_ASSIGN(v.reason, r.text(kMaxText));
  VB_ASSIGN(const uint32_t winners, r.count(4, kMaxParties));
  for (uint32_t i = 0; i < winners; ++i) {
    VB_ASSIGN(const uint32_t winner, r.u32());
    v.winners.push_back(winner);
  }
  VB_ASSIGN(const uint8_t has_result, r.u8());
  if (has_result > 1) return r.fail("a flag that is neither 0 nor 1");
  if (has_result) {
    VB_ASSIGN(v.result, read_digest(r));
  }
  VB_TRY(read_findings(r, v.refuted));
  VB_TRY(read_findings(r, v.forfeited));
  VB_ASSIGN(v.cost.bytes_read, r.u64());
  VB_ASSIGN(v.cost.exchanges, r.u64());
  VB_ASSIGN(v.cost.operations, r.u64());
  VB_ASSIGN(v.cost.nodes_recomputed, r.u64());
  VB_TRY(r.finish());
  return v;
}

std::vector<std::string> explain(const Verdict& v, std::span<const std::string> names) {
  std::vector<std::string> lines;
  for (const PartyFinding& f : v.refuted)
    lines.push_back(party_title(f.party, names) + " is refuted: " +
                    (f.where ? where_text(*f.where) + ": " : std::string()) + f.reason + ".");
  for (const PartyFinding& f : v.forfeited)
    lines.push_back(party_title(f.party, names) + " forfeits: " + f.reason +
                    ". That is not a proof that its result is wrong; whether an answer came, and "
                    "in time, is the referee's word.");
  if (v.outcome == DisputeOutcome::no_verdict) lines.push_back("No verdict: " + v.reason + ".");
  if (!v.winners.empty()) {
    std::string who;
    for (size_t i = 0; i < v.winners.size(); ++i)
      who += (i == 0                      ? ""
              : i + 1 == v.winners.size() ? " and "
                                          : ", ") +
             party_title(v.winners[i], names);
    const bool one = v.winners.size() == 1;
    lines.push_back(who + (v.refuted.empty() && v.forfeited.empty()
                               ? std::string(one ? " gave the only answer."
                                                 : " gave equal answers; nothing was in dispute.")
                               : std::string(one ? " is" : " are") + " not refuted."));
  } else if (v.outcome != DisputeOutcome::no_verdict) {
    lines.push_back("Nobody's result stands.");
  }
  lines.push_back("The referee read " + std::to_string(v.cost.bytes_read) + " bytes in " +
                  std::to_string(v.cost.exchanges) + " answers and recomputed " +
                  std::to_string(v.cost.nodes_recomputed) + " operators (" +
                  std::to_string(v.cost.operations) + " operations).");
  return lines;
}

}  // namespace verbatim
