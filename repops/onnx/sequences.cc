// Sequences as lists of values: what takes them apart and puts them together leaves no node, where
// lengths and positions follow from constants and stated shapes.
#include <verbatim/repops/onnx/sequences.h>

#include <algorithm>
#include <optional>

namespace verbatim::onnx {
namespace {

using Values = std::vector<ValueId>;

constexpr int64_t kMaxParts = 1 << 12;  // of what is cut into a sequence

Tensor integers(const std::vector<int64_t>& values) {
  return *Tensor::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values);
}

// The elements of input i.
Result<Values> elements_of(const SourceNode& n, const Emitter& e, size_t i) {
  if (n.input(i) == Emitter::kOutside) return unsupported("a sequence from outside of a body");
  const Values* elements = e.sequence_of(n.input(i));
  if (elements == nullptr) return bad_input("input " + std::to_string(i) + " is no sequence");
  return *elements;
}

// An operand of a sequence that must be there and no sequence itself.
Status check_tensor(const SourceNode& n, size_t i) {
  if (Emitter::is_sequence(n.input(i))) return unsupported("a sequence as an input of " + n.op);
  return n.input(i) == kAbsent ? bad_input("input " + std::to_string(i) + " is missing") : Status();
}

// The integers of input i, where they are known.
std::optional<std::vector<int64_t>> known_integers(const SourceNode& n, const Emitter& e,
                                                   size_t i) {
  const Tensor* t = n.input(i) == kAbsent ? nullptr : e.known(n.input(i));
  if (t == nullptr || t->elements() > kMaxParts) return std::nullopt;
  if (t->dtype() == DType::i64)
    return std::vector(t->data<int64_t>().begin(), t->data<int64_t>().end());
  if (t->dtype() != DType::i32) return std::nullopt;
  return std::vector<int64_t>(t->data<int32_t>().begin(), t->data<int32_t>().end());
}

// The position that input i gives in a sequence of `size`, or `otherwise` where it is absent; `end`
// is the first that is too far.
Result<size_t> position(const SourceNode& n, const Emitter& e, size_t i, size_t size, size_t end,
                        int64_t otherwise) {
  const auto known = known_integers(n, e, i);
  if (n.input(i) != kAbsent && (!known || known->size() != 1))
    return unsupported("a position in a sequence that is not constant");
  const int64_t given = known ? known->front() : otherwise,
                at = given < 0 ? given + static_cast<int64_t>(size) : given;
  if (at < 0 || at >= static_cast<int64_t>(end))
    return bad_input("position " + std::to_string(given) + " in a sequence of " +
                     std::to_string(size));
  return static_cast<size_t>(at);
}

// --- one function for each operator
// ----------------------------------------------------------------

Result<Values> construct(const SourceNode& n, Emitter& e) {
  for (size_t i = 0; i < n.inputs.size(); ++i) VB_TRY(check_tensor(n, i));
  VB_ASSIGN(const ValueId sequence, e.sequence(n.inputs));
  return Values{sequence};
}

Result<Values> insert(const SourceNode& n, Emitter& e) {
  VB_TRY(check_tensor(n, 1));
  VB_ASSIGN(Values elements, elements_of(n, e, 0));
  const size_t size = elements.size();
  VB_ASSIGN(const size_t at, position(n, e, 2, size, size + 1, static_cast<int64_t>(size)));
  elements.insert(elements.begin() + static_cast<std::ptrdiff_t>(at), n.input(1));
  VB_ASSIGN(const ValueId sequence, e.sequence(std::move(elements)));
  return Values{sequence};
}

Result<Values> erase(const SourceNode& n, Emitter& e) {
  VB_ASSIGN(Values elements, elements_of(n, e, 0));
  VB_ASSIGN(const size_t at, position(n, e, 1, elements.size(), elements.size(), -1));
  elements.erase(elements.begin() + static_cast<std::ptrdiff_t>(at));
  VB_ASSIGN(const ValueId sequence, e.sequence(std::move(elements)));
  return Values{sequence};
}

Result<Values> at(const SourceNode& n, Emitter& e) {
  VB_ASSIGN(const Values elements, elements_of(n, e, 0));
  if (n.input(1) == kAbsent) return bad_input("it has no position");
  VB_ASSIGN(const size_t i, position(n, e, 1, elements.size(), elements.size(), 0));
  return Values{elements[i]};
}

Result<Values> length(const SourceNode& n, Emitter& e) {
  VB_ASSIGN(const Values elements, elements_of(n, e, 0));
  VB_ASSIGN(const Tensor size, Tensor::scalar(static_cast<int64_t>(elements.size())));
  return Values{e.constant(n.name, size)};
}

Result<Values> concat(const SourceNode& n, Emitter& e) {
  VB_ASSIGN(Values elements, elements_of(n, e, 0));
  VB_ASSIGN(const int64_t axis, n.attributes.require<int64_t>("axis"));
  VB_ASSIGN(const int64_t stacks, n.attributes.get<int64_t>("new_axis", 0));
  if (elements.empty()) return bad_input("nothing to join");
  VB_TRY(e.spend_elements(elements.size()));  // edges, and nodes where they are stacked
  if (stacks != 0) {
    const ValueId axes = e.constant(n.name + "/axis", integers({axis}));
    for (ValueId& v : elements) v = e.emit("Unsqueeze", {v, axes}, {}, n.name);
  }
  return Values{e.emit("Concat", elements, {{"axis", axis}}, n.name)};
}

// The size of dimension `axis` of input 0, where a constant or the file says it.
std::optional<int64_t> known_size(const SourceNode& n, const Emitter& e, int64_t axis) {
  const std::vector<int64_t>* dims = e.dims_of(n.input(0));
  if (dims == nullptr) return std::nullopt;
  const auto rank = static_cast<int64_t>(dims->size());
  const int64_t at = axis < 0 ? axis + rank : axis;
  if (at < 0 || at >= rank || (*dims)[static_cast<size_t>(at)] < 0) return std::nullopt;
  return (*dims)[static_cast<size_t>(at)];
}

struct Cut {
  int64_t parts = 0;
  ValueId sizes = kAbsent;
};

// How many sizes a list `split` has; none where it is a scalar or that is not known.
std::optional<int64_t> sizes_in_split(const SourceNode& n, const Emitter& e) {
  if (n.input(1) == kAbsent) return std::nullopt;
  if (const Tensor* t = e.known(n.input(1)); t != nullptr)
    return t->rank() == 1 ? std::optional(t->elements()) : std::nullopt;
  const std::vector<int64_t>* dims = e.dims_of(n.input(1));
  if (dims == nullptr || dims->size() != 1 || dims->front() < 0) return std::nullopt;
  return dims->front();
}

// Into parts of 1; of a scalar `split`, the last one shorter; or of the sizes in `split`.
Result<Cut> find_cut(const SourceNode& n, Emitter& e, int64_t axis) {
  if (const std::optional<int64_t> sizes = sizes_in_split(n, e)) {
    if (*sizes == 0) return bad_input("split has no sizes");
    const Attributes to{{"to", static_cast<int64_t>(DType::i64)}};
    return Cut{*sizes, e.emit("Cast", {n.input(1)}, to, n.name)};
  }
  const auto given = known_integers(n, e, 1);
  const std::optional<int64_t> size = known_size(n, e, axis);
  if (!size || (n.input(1) != kAbsent && (!given || given->size() != 1)))
    return unsupported("a sequence of unknown length");
  const int64_t chunk = given ? given->front() : 1;
  if (chunk < 1) return bad_input("parts of " + std::to_string(chunk));
  const int64_t parts = *size / chunk + (*size % chunk != 0 ? 1 : 0);
  if (parts > kMaxParts) return over_limit("a sequence of " + std::to_string(parts));
  std::vector<int64_t> sizes(static_cast<size_t>(parts), chunk);
  if (parts > 0) sizes.back() = *size - (parts - 1) * chunk;
  return Cut{parts, e.constant(n.name + "/split", integers(sizes))};
}

Result<Values> split(const SourceNode& n, Emitter& e) {
  VB_TRY(check_tensor(n, 0));
  VB_ASSIGN(const int64_t axis, n.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int64_t keeps, n.attributes.get<int64_t>("keepdims", 1));
  VB_ASSIGN(const Cut cut, find_cut(n, e, axis));
  if (cut.parts > kMaxParts) return over_limit("a sequence of " + std::to_string(cut.parts));
  Values elements;
  if (cut.parts == 0) {  // a run finds out whether the size that the file states is right
    const ValueId none = e.constant(n.name + "/none", integers({0}));
    e.emit("Split", {n.input(0), none}, {{"axis", axis}}, n.name);
  } else {
    const ValueId first = e.emit("Split", {n.input(0), cut.sizes}, {{"axis", axis}}, n.name,
                                 static_cast<int>(cut.parts));
    for (int64_t i = 0; i < cut.parts; ++i) elements.push_back(first + static_cast<ValueId>(i));
  }
  if (keeps == 0 && n.input(1) == kAbsent) {
    const ValueId axes = e.constant(n.name + "/axis", integers({axis}));
    for (ValueId& v : elements) v = e.emit("Squeeze", {v, axes}, {}, n.name);
  }
  VB_ASSIGN(const ValueId sequence, e.sequence(std::move(elements)));
  return Values{sequence};
}

using LowerFn = Result<Values> (*)(const SourceNode&, Emitter&);

LowerFn rule_of(std::string_view op) {
  constexpr std::pair<std::string_view, LowerFn> kRules[] = {{"SequenceEmpty", construct},
                                                             {"SequenceConstruct", construct},
                                                             {"SequenceInsert", insert},
                                                             {"SequenceErase", erase},
                                                             {"SequenceAt", at},
                                                             {"SequenceLength", length},
                                                             {"ConcatFromSequence", concat},
                                                             {"SplitToSequence", split}};
  for (const auto& [name, rule] : kRules)
    if (name == op) return rule;
  return nullptr;
}

}  // namespace

bool is_sequence_operator(std::string_view op) { return rule_of(op) != nullptr; }

Result<Values> lower_sequence(const SourceNode& node, Emitter& emitter) {
  return rule_of(node.op)(node, emitter);
}

}  // namespace verbatim::onnx
