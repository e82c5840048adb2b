#include <verbatim/repops/ops/control_flow.h>

#include <algorithm>
#include <limits>
#include <utility>

#include <verbatim/repops/evaluation.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/scan_output.h>

namespace verbatim {
namespace {

// What a scan output without an element is.
struct ScanType {
  DType dtype = DType::undefined;
  int64_t rank = -1;
  std::vector<int64_t> dims;
};

Result<std::vector<ScanType>> read_scan_types(const Node& node, size_t count) {
  VB_ASSIGN(const auto list, node.attributes.get<std::vector<int64_t>>("scan_types", {}));
  std::vector<ScanType> types(count);
  if (list.empty()) return types;
  size_t at = 0;
  const auto take = [&] { return at < list.size() ? list[at++] : int64_t{-2}; };
  for (ScanType& type : types) {
    type.dtype = dtype_from_onnx(static_cast<int32_t>(std::clamp<int64_t>(take(), -1, 1 << 20)));
    type.rank = take();
    if (type.rank < -1 || type.rank >= kMaxRank)
      return bad_input("attribute 'scan_types': rank " + std::to_string(type.rank));
    for (int64_t i = 0; i < type.rank; ++i) {
      type.dims.push_back(take());
      if (type.dims.back() < -1) return bad_input("attribute 'scan_types': dimension below -1");
    }
  }
  if (at != list.size())
    return bad_input("attribute 'scan_types' is not of " + std::to_string(count) + " outputs");
  return types;
}

Result<Body> read_body(const Node& node, std::string_view name) {
  VB_ASSIGN(Body body, node.attributes.require<Body>(name));
  if (body == nullptr) return bad_input("attribute '" + std::string(name) + "' is no graph");
  return body;
}

Status check_counts(const Graph& body, std::string_view name, size_t inputs, size_t outputs) {
  const auto check = [&](size_t have, size_t want, const char* what) -> Status {
    if (have == want) return {};
    return bad_input(std::string(name) + " has " + std::to_string(have) + what +
                     ", the node's form wants " + std::to_string(want));
  };
  VB_TRY(check(body.inputs.size(), inputs, " inputs"));
  return check(body.outputs.size(), outputs, " outputs");
}

// A Loop or a Scan, its inputs and outputs counted out.
struct Form {
  Body body;
  bool loop = false;     // with trip and condition in front
  size_t states = 0;     // carried from trip to trip
  size_t sequences = 0;  // read a slice in each trip (Scan)
  size_t captures = 0;
  size_t scans = 0;  // outputs of which each trip gives an element
  std::vector<ScanType> types;

  size_t lead() const { return loop ? 2 : 0; }
};

Result<Form> read_form(const Node& node, size_t inputs) {
  Form f;
  f.loop = node.op == "Loop";
  VB_ASSIGN(f.body, read_body(node, "body"));
  VB_ASSIGN(const int64_t captures, node.attributes.get<int64_t>("captures", 0));
  int64_t sequences = 0;
  if (!f.loop) {
    VB_ASSIGN(sequences, node.attributes.require<int64_t>("num_scan_inputs"));
  }
  const auto rest = static_cast<int64_t>(inputs) - static_cast<int64_t>(f.lead());
  if (rest < 0) return bad_input(std::to_string(inputs) + " inputs");
  if (captures < 0 || captures > rest)
    return bad_input("attribute 'captures' is " + std::to_string(captures));
  if (sequences < (f.loop ? 0 : 1) || sequences > rest - captures)
    return bad_input("attribute 'num_scan_inputs' is " + std::to_string(sequences));
  f.captures = static_cast<size_t>(captures);
  f.sequences = static_cast<size_t>(sequences);
  f.states = static_cast<size_t>(rest - captures - sequences);
  const size_t outputs = node.outputs.size();
  if (outputs < f.states) return bad_input(std::to_string(outputs) + " outputs");
  f.scans = outputs - f.states;
  VB_TRY(check_counts(*f.body, "body", inputs, outputs + (f.loop ? 1 : 0)));
  VB_ASSIGN(f.types, read_scan_types(node, f.scans));
  return f;
}

// One bool, in a tensor of any rank.
Result<bool> read_condition(const Tensor& t, const char* what) {
  if (t.dtype() != DType::boolean || t.elements() != 1)
    return bad_input(std::string(what) + " is " + (t.defined() ? t.describe() : "absent") +
                     ", not one bool");
  return t.bytes()[0] != std::byte{0};
}

class Interpreter {
 public:
  Interpreter(const Node& node, std::span<const Tensor> inputs, Backend& backend,
              const Checkpoint& checkpoint, const Checkpoint& on_trip)
      : node_(node),
        inputs_(inputs),
        backend_(backend),
        checkpoint_(checkpoint),
        on_trip_(on_trip) {}

  Result<Tensors> run_if() {
    VB_ASSIGN(const bool condition, read_condition(inputs_[0], "the condition"));
    const char* name = condition ? "then_branch" : "else_branch";
    VB_ASSIGN(const Body branch, read_body(node_, name));
    VB_TRY(check_counts(*branch, name, inputs_.size() - 1, node_.outputs.size()));
    const Evaluation evaluation(*branch);
    return trip(evaluation, name, inputs_.subspan(1));
  }

  Result<Tensors> run_loop() {
    VB_ASSIGN(form_, read_form(node_, inputs_.size()));
    int64_t most = std::numeric_limits<int64_t>::max();
    bool condition = true;
    const bool ends = inputs_[1].defined();  // else what the body says of it does not count
    if (inputs_[0].defined()) {
      VB_ASSIGN(most, read_integer(inputs_[0], "the trip count"));
    }
    if (ends) {
      VB_ASSIGN(condition, read_condition(inputs_[1], "the condition"));
    }
    VB_TRY(start());
    const Evaluation evaluation(*form_.body);
    for (int64_t t = 0; t < most && (condition || !ends); ++t) {
      VB_ASSIGN(Tensor number, Tensor::scalar(t));
      VB_ASSIGN(Tensor holds, Tensor::scalar(condition));
      VB_ASSIGN(const Tensors outputs,
                trip(evaluation, "body", arguments({std::move(number), std::move(holds)}, {})));
      VB_ASSIGN(condition, read_condition(outputs[0], "body: the condition that it gives"));
      VB_TRY(keep(std::span(outputs).subspan(1)));
    }
    return finish();
  }

  Result<Tensors> run_scan() {
    VB_ASSIGN(form_, read_form(node_, inputs_.size()));
    VB_ASSIGN(axes_, read_list("scan_input_axes", form_.sequences));
    VB_ASSIGN(directions_, read_directions("scan_input_directions", form_.sequences));
    VB_ASSIGN(output_axes_, read_list("scan_output_axes", form_.scans));
    VB_ASSIGN(output_directions_, read_directions("scan_output_directions", form_.scans));
    VB_ASSIGN(const int64_t length, sequence_length());
    VB_TRY(start());
    const Evaluation evaluation(*form_.body);
    for (int64_t t = 0; t < length; ++t) {
      VB_ASSIGN(Tensors slices, slices_at(t, length));
      VB_ASSIGN(const Tensors outputs, trip(evaluation, "body", arguments({}, std::move(slices))));
      VB_TRY(keep(outputs));
    }
    return finish();
  }

 private:
  Result<Tensors> trip(const Evaluation& evaluation, const char* name,
                       std::span<const Tensor> inputs) {
    if (checkpoint_) VB_TRY(checkpoint_());
    if (on_trip_) VB_TRY(on_trip_());
    Result<Tensors> outputs = evaluation.run(backend_, inputs, checkpoint_);
    if (!outputs.ok()) return outputs.status().with_context(name);
    for (size_t i = 0; i < outputs->size(); ++i)
      if (!(*outputs)[i].defined())
        return bad_input(std::string(name) + ": output " + std::to_string(i) + " is absent");
    return outputs;
  }

  // The state's first values.
  Status start() {
    for (size_t i = 0; i < form_.states + form_.sequences; ++i)
      if (!inputs_[form_.lead() + i].defined())
        return bad_input("input " + std::to_string(form_.lead() + i) + " is missing");
    const auto first = inputs_.subspan(form_.lead(), form_.states);
    state_.assign(first.begin(), first.end());
    scans_.resize(form_.scans);
    return {};
  }

  // A body's inputs: (lead..., state..., slices..., captures...).
  Tensors arguments(Tensors lead, Tensors slices) const {
    Tensors all = std::move(lead);
    all.insert(all.end(), state_.begin(), state_.end());
    all.insert(all.end(), slices.begin(), slices.end());
    const auto captures = inputs_.last(form_.captures);
    all.insert(all.end(), captures.begin(), captures.end());
    return all;
  }

  // What a trip gave: the state of the next, and scan elements.
  Status keep(std::span<const Tensor> outputs) {
    for (size_t i = 0; i < form_.states; ++i) {
      if (outputs[i].dtype() != state_[i].dtype())
        return bad_input("body: state " + std::to_string(i) + " becomes " + outputs[i].describe() +
                         ", was " + state_[i].describe());
      state_[i] = outputs[i];
    }
    for (size_t i = 0; i < form_.scans; ++i)
      VB_TRY(scans_[i]
                 .append(outputs[form_.states + i])
                 .with_context("body: scan output " + std::to_string(i)));
    return {};
  }

  Result<Tensors> finish() const {
    Tensors outputs = state_;
    for (size_t i = 0; i < form_.scans; ++i) {
      Result<Tensor> y = scans_[i].empty() ? empty_output(i) : scans_[i].stack(axis(i), reverse(i));
      if (!y.ok()) return y.status().with_context("scan output " + std::to_string(i));
      outputs.push_back(*std::move(y));
    }
    return outputs;
  }

  Result<Tensor> empty_output(size_t i) const {
    const ScanType& type = form_.types[i];
    if (type.dtype == DType::undefined || type.rank < 0)
      return bad_input("there are no trips, and no type is stated for this case");
    std::vector<int64_t> dims = type.dims;
    std::ranges::replace(dims, int64_t{-1}, int64_t{0});
    const int64_t rank = type.rank + 1, at = axis(i) < 0 ? axis(i) + rank : axis(i);
    if (at < 0 || at >= rank) return bad_input("axis " + std::to_string(axis(i)));
    dims.insert(dims.begin() + at, 0);
    VB_ASSIGN(const Shape shape, Shape::of(dims));
    return Tensor::allocate(type.dtype, shape);
  }

  int64_t axis(size_t scan) const { return output_axes_.empty() ? 0 : output_axes_[scan]; }
  bool reverse(size_t scan) const {
    return !output_directions_.empty() && output_directions_[scan] != 0;
  }

  Result<std::vector<int64_t>> read_list(const char* name, size_t count) const {
    VB_ASSIGN(auto list,
              node_.attributes.get<std::vector<int64_t>>(name, std::vector<int64_t>(count, 0)));
    if (list.size() != count)
      return bad_input(std::string("attribute '") + name + "' has " + std::to_string(list.size()) +
                       " values for " + std::to_string(count));
    return list;
  }
  Result<std::vector<int64_t>> read_directions(const char* name, size_t count) const {
    VB_ASSIGN(auto list, read_list(name, count));
    for (const int64_t d : list)
      if (d != 0 && d != 1)
        return bad_input(std::string("attribute '") + name + "' has " + std::to_string(d));
    return list;
  }

  const Tensor& sequence(size_t i) const { return inputs_[form_.states + i]; }

  // Of all sequences along their axes, which are made non-negative.
  Result<int64_t> sequence_length() {
    int64_t length = -1;
    for (size_t i = 0; i < form_.sequences; ++i) {
      const std::string who = "scan input " + std::to_string(i);
      const Tensor& t = sequence(i);
      if (!t.defined()) return bad_input(who + " is missing");
      const Result<int> axis = t.shape().axis(axes_[i]);
      if (!axis.ok()) return axis.status().with_context(who);
      axes_[i] = *axis;
      if (length >= 0 && t.dim(*axis) != length)
        return bad_input(who + " has " + std::to_string(t.dim(*axis)) + " slices, the first has " +
                         std::to_string(length));
      length = t.dim(*axis);
    }
    return length;
  }

  Result<Tensors> slices_at(int64_t t, int64_t length) const {
    Tensors slices;
    for (size_t i = 0; i < form_.sequences; ++i) {
      VB_ASSIGN(Tensor slice, slice_of(sequence(i), static_cast<int>(axes_[i]),
                                       directions_[i] == 0 ? t : length - 1 - t));
      slices.push_back(std::move(slice));
    }
    return slices;
  }

  const Node& node_;
  const std::span<const Tensor> inputs_;
  Backend& backend_;
  const Checkpoint& checkpoint_;
  const Checkpoint& on_trip_;
  Form form_;
  Tensors state_;
  std::vector<ScanOutput> scans_;
  std::vector<int64_t> axes_, directions_, output_axes_, output_directions_;
};

Status check_if(const Node& node) {
  for (const char* name : {"then_branch", "else_branch"}) {
    VB_ASSIGN(const Body branch, read_body(node, name));
    VB_TRY(check_counts(*branch, name, node.inputs.size() - 1, node.outputs.size()));
  }
  return {};
}

Status check_form(const Node& node) { return read_form(node, node.inputs.size()).status(); }

Result<Tensors> interpret(const Node& node, std::span<const Tensor> inputs, Backend& backend,
                          const Checkpoint& checkpoint, const Checkpoint& on_trip) {
  Interpreter interpreter(node, inputs, backend, checkpoint, on_trip);
  if (node.op == "If") return interpreter.run_if();
  return node.op == "Loop" ? interpreter.run_loop() : interpreter.run_scan();
}

Result<Tensors> evaluate(const Node& node, std::span<const Tensor> inputs) {
  return interpret(node, inputs, *make_reference_backend(), {}, {});
}

constexpr OpDef kOps[] = {
    {"", "If", 1, kVariadic, kVariadic, evaluate, nullptr, check_if},
    {"", "Loop", 0, kVariadic, kVariadic, evaluate, nullptr, check_form},
    {"", "Scan", 1, kVariadic, kVariadic, evaluate, nullptr, check_form},
};

}  // namespace

std::span<const OpDef> control_flow_ops() { return kOps; }

bool is_control_flow(std::string_view domain, std::string_view op) {
  return std::ranges::any_of(
      kOps, [&](const OpDef& def) { return def.domain == domain && def.name == op; });
}

Result<Tensors> run_control_flow(const Node& node, std::span<const Tensor> inputs, Backend& backend,
                                 const Checkpoint& checkpoint, const Checkpoint& on_trip) {
  Result<Tensors> outputs = interpret(node, inputs, backend, checkpoint, on_trip);
  if (!outputs.ok()) return outputs.status().with_context(node.title());
  return outputs;
}

Result<Tensors> Backend::run_bodies(const Node& node, std::span<const Tensor> inputs,
                                    const Checkpoint& checkpoint) {
  return run_control_flow(node, inputs, *this, checkpoint);
}

std::vector<BodyCaptures> body_captures(const Node& node) {
  std::vector<BodyCaptures> result;
  if (!is_control_flow(node.domain, node.op)) return result;
  if (node.op == "If") {
    for (const char* name : {"then_branch", "else_branch"})
      if (const Result<Body> body = read_body(node, name); body.ok())
        result.push_back({body->get(), 0, 1});
  } else if (const Result<Form> form = read_form(node, node.inputs.size()); form.ok()) {
    result.push_back({form->body.get(), node.inputs.size() - form->captures, 0});
  }
  return result;
}

}  // namespace verbatim
