// If, Loop and Scan of the file as this library's (ops/control_flow.h): what bodies take from
// outside becomes inputs, an If of a constant condition becomes its branch, and the Scan of
// operator set 8 becomes two.
#include <algorithm>
#include <span>

#include <verbatim/repops/onnx/graph_reader.h>

#include "model_proto.pb.h"

namespace verbatim::onnx {
namespace {

// Of a node's inputs, its captures included, and of a body's outputs.
constexpr int kMaxEdges = 1 << 16;

// An element's type, rank and dimensions, as attribute scan_types has them; `leading` dimensions of
// unknown size come before the file's.
void append_type(const ValueInfoProto& info, std::vector<int64_t>& types, int leading = 0) {
  const TensorTypeProto& type = info.type().tensor_type();
  types.push_back(type.elem_type());
  const bool known = type.has_shape() && type.shape().dim_size() < kMaxRank - leading;
  types.push_back(known ? type.shape().dim_size() + leading : -1);
  if (!known) return;
  types.insert(types.end(), static_cast<size_t>(leading), -1);
  for (const DimensionProto& d : type.shape().dim())
    types.push_back(d.has_dim_value() && d.dim_value() >= 0 ? d.dim_value() : -1);
}

Tensor integers(const std::vector<int64_t>& values) {
  return *Tensor::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values);
}

// Adds what `body` captured to the node's inputs.
Status append_captures(SourceNode& node, const Emitter& body) {
  for (const Emitter::Capture& c : body.captures()) node.inputs.push_back(c.outside);
  if (node.inputs.size() <= kMaxEdges) return {};
  return over_limit("its bodies take " + std::to_string(body.captures().size()) +
                    " values from outside");
}

// Sets the attribute `name` to what `body` has read.
Status set_body(SourceNode& node, const std::string& name, Emitter& body) {
  Result<Body> finished = body.finish_body();
  if (!finished.ok()) return finished.status().with_context(name);
  node.attributes.set(name, *std::move(finished));
  return {};
}

// The values of all `outputs` of the node, however many the file wants.
Result<std::vector<ValueId>> emit_all(SourceNode node, Emitter& emitter, int outputs) {
  if (node.outputs > outputs)
    return bad_input(std::to_string(node.outputs) + " outputs, its body gives " +
                     std::to_string(outputs));
  if (outputs < 1) return bad_input("its body gives no output");
  const ValueId first =
      emitter.emit(node.op, node.inputs, std::move(node.attributes), node.name, outputs);
  std::vector<ValueId> values;
  for (int i = 0; i < outputs; ++i) values.push_back(first + i);
  return values;
}

// Emits a Loop or a Scan to `into`; `states` and then scan elements are the last outputs of
// `graph`, which `body` has read.
Result<std::vector<ValueId>> emit_loop(SourceNode node, Emitter& body, const GraphProto& graph,
                                       Emitter& into, int states, int lead_outputs) {
  std::vector<int64_t> types;
  for (int i = lead_outputs + states; i < graph.output_size(); ++i)
    append_type(graph.output(i), types);
  node.attributes.set("captures", static_cast<int64_t>(body.captures().size()));
  node.attributes.set("scan_types", std::move(types));
  VB_TRY(append_captures(node, body));
  VB_TRY(set_body(node, "body", body));
  return emit_all(std::move(node), into, graph.output_size() - lead_outputs);
}

// --- operator set 8's Scan
// ----------------------------------------------------------------

// The first `length` elements of each of `sequences`, none where that is negative.
void cut_sequences(std::span<ValueId> sequences, ValueId length, const std::string& name,
                   Emitter& batch) {
  const ValueId one = batch.constant(name + "/one", integers({1})),
                zero = batch.constant(name + "/zero", integers({0}));
  length = batch.emit("Max", {batch.emit("Reshape", {length, one}, {}, name), zero}, {}, name);
  for (ValueId& sequence : sequences)
    sequence = batch.emit("Slice", {sequence, zero, length, zero}, {}, name);
}

// `y` with zeros at the end, as long as `sequence`.
ValueId fill_up(ValueId y, ValueId sequence, const std::string& name, Emitter& batch) {
  const Attributes first{{"start", int64_t{0}}, {"end", int64_t{1}}};
  const ValueId longest = batch.emit("Shape", {sequence}, first, name),
                have = batch.emit("Shape", {y}, first, name),
                zero = batch.constant(name + "/zero", integers({0})),
                missing = batch.emit("Sub", {longest, have}, {}, name),
                pads = batch.emit("Concat", {zero, missing}, {{"axis", int64_t{0}}}, name);
  return batch.emit("Pad", {y, pads, kAbsent, zero}, {}, name);
}

// Emits the Scan over the batch of `node` to `into`; `batch` is its body, `graph` the file's, whose
// outputs from `states` on are sequences here.
Result<std::vector<ValueId>> emit_batch(const SourceNode& node, Emitter& batch,
                                        const GraphProto& graph, Emitter& into, int states) {
  std::vector<int64_t> types;
  for (int i = 0; i < graph.output_size(); ++i)
    append_type(graph.output(i), types, i < states ? 0 : 1);
  SourceNode outer;
  outer.op = "Scan";
  outer.name = node.name;
  outer.outputs = node.outputs;
  outer.inputs.assign(node.inputs.begin() + (node.input(0) == kAbsent ? 1 : 0), node.inputs.end());
  outer.attributes.set("num_scan_inputs", static_cast<int64_t>(outer.inputs.size()));
  outer.attributes.set("captures", static_cast<int64_t>(batch.captures().size()));
  outer.attributes.set("scan_types", std::move(types));
  VB_TRY(append_captures(outer, batch));
  VB_TRY(set_body(outer, "body", batch));
  return emit_all(std::move(outer), into, graph.output_size());
}

}  // namespace

Result<GraphReader::Values> GraphReader::read_control_flow(SourceNode node, const Bodies& bodies,
                                                           const Scope& scope) {
  if (scope.depth() == kMaxBodyDepth)
    return over_limit("bodies more than " + std::to_string(kMaxBodyDepth) + " deep");
  if (std::ranges::any_of(node.inputs, Emitter::is_sequence))
    return unsupported("a sequence as an input of " + node.op);
  for (const char* own : {"captures", "scan_types"}) node.attributes.erase(own);
  if (node.op == "If") return read_if(std::move(node), bodies, scope);
  const auto body = bodies.find("body");
  if (body == bodies.end()) return bad_input("attribute 'body' is missing");
  return node.op == "Loop" ? read_loop(std::move(node), *body->second, scope)
                           : read_scan(std::move(node), *body->second, scope);
}

Result<GraphReader::Values> GraphReader::read_if(SourceNode node, const Bodies& bodies,
                                                 const Scope& scope) {
  const auto then_branch = bodies.find("then_branch"), else_branch = bodies.find("else_branch");
  if (then_branch == bodies.end() || else_branch == bodies.end())
    return bad_input("it has not two branches");
  if (node.inputs.size() != 1) return bad_input(std::to_string(node.inputs.size()) + " inputs");
  const Tensor* known = scope.emitter->known(node.input(0));
  if (known != nullptr && known->dtype() == DType::boolean && known->elements() == 1) {
    const auto& taken = known->data<bool>()[0] ? then_branch : else_branch;
    Result<Values> values = read_in_place(*taken->second, scope);
    if (!values.ok()) return values.status().with_context(taken->first);
    return values;
  }
  // Both branches have the same inputs: what the first takes from outside, then what the second
  // takes besides.
  Emitter then_emitter(scope.emitter), else_emitter(scope.emitter);
  VB_TRY(read_body(*then_branch->second, then_emitter, scope, 0, 0).with_context("then_branch"));
  const auto share = [&](const Emitter& from, Emitter& to) {
    for (const Emitter::Capture& c : from.captures()) to.reach(*scope.emitter, c.outside, c.name);
  };
  share(then_emitter, else_emitter);
  VB_TRY(read_body(*else_branch->second, else_emitter, scope, 0, 0).with_context("else_branch"));
  share(else_emitter, then_emitter);
  const int outputs = then_branch->second->output_size();
  if (else_branch->second->output_size() != outputs)
    return bad_input("its branches give " + std::to_string(outputs) + " and " +
                     std::to_string(else_branch->second->output_size()) + " outputs");
  VB_TRY(append_captures(node, else_emitter));
  VB_TRY(set_body(node, "then_branch", then_emitter));
  VB_TRY(set_body(node, "else_branch", else_emitter));
  return emit_all(std::move(node), *scope.emitter, outputs);
}

Result<GraphReader::Values> GraphReader::read_loop(SourceNode node, const GraphProto& body,
                                                   const Scope& scope) {
  if (node.inputs.size() < 2) node.inputs.resize(2, kAbsent);
  Emitter emitter(scope.emitter);
  VB_TRY(read_body(body, emitter, scope, node.inputs.size(), 2).with_context("body"));
  const auto states = static_cast<int>(node.inputs.size()) - 2;
  return emit_loop(std::move(node), emitter, body, *scope.emitter, states, 1);
}

Result<GraphReader::Values> GraphReader::read_scan(SourceNode node, const GraphProto& body,
                                                   const Scope& scope) {
  if (node.version < 9) return read_batched_scan(std::move(node), body, scope);
  VB_ASSIGN(const int64_t sequences, node.attributes.require<int64_t>("num_scan_inputs"));
  const auto inputs = static_cast<int64_t>(node.inputs.size());
  if (sequences < 1 || sequences > inputs)
    return bad_input("num_scan_inputs is " + std::to_string(sequences));
  Emitter emitter(scope.emitter);
  VB_TRY(read_body(body, emitter, scope, node.inputs.size(), 0).with_context("body"));
  return emit_loop(std::move(node), emitter, body, *scope.emitter,
                   static_cast<int>(inputs - sequences), 0);
}

// Operator set 8: inputs (lengths, states..., sequences...), all with a batch dimension in front,
// become a Scan over the batch, whose body has a Scan over the first `length` slices of a sequence.
// Scan outputs are filled up with zeros, where that operator set leaves them undefined.
Result<GraphReader::Values> GraphReader::read_batched_scan(SourceNode node, const GraphProto& body,
                                                           const Scope& scope) {
  VB_ASSIGN(const int64_t sequences, node.attributes.require<int64_t>("num_scan_inputs"));
  const auto count = static_cast<int64_t>(node.inputs.size()) - 1;
  if (sequences < 1 || sequences > count)
    return bad_input("num_scan_inputs is " + std::to_string(sequences));
  const auto states = static_cast<int>(count - sequences);
  const bool has_lengths = node.input(0) != kAbsent;

  Emitter batch(scope.emitter);
  const ValueId length = has_lengths ? batch.body_input("length") : kAbsent;
  SourceNode inner = node;
  inner.inputs.clear();
  for (int64_t i = 0; i < count; ++i)
    inner.inputs.push_back(batch.body_input("input " + std::to_string(i)));
  const ValueId first_sequence = inner.inputs[static_cast<size_t>(states)];
  if (has_lengths)
    cut_sequences(std::span(inner.inputs).subspan(static_cast<size_t>(states)), length, node.name,
                  batch);
  if (inner.attributes.has("directions")) {
    VB_ASSIGN(auto directions, inner.attributes.require<std::vector<int64_t>>("directions"));
    inner.attributes.set("scan_input_directions", std::move(directions));
    inner.attributes.erase("directions");
  }
  Emitter emitter(&batch);
  VB_TRY(read_body(body, emitter, scope, inner.inputs.size(), 0).with_context("body"));
  VB_ASSIGN(Values values, emit_loop(std::move(inner), emitter, body, batch, states, 0));
  for (size_t i = 0; i < values.size(); ++i) {
    if (has_lengths && i >= static_cast<size_t>(states))
      values[i] = fill_up(values[i], first_sequence, node.name, batch);
    batch.output(std::to_string(i), values[i]);
  }
  return emit_batch(node, batch, body, *scope.emitter, states);
}

// A branch, as nodes of the graph around it.
Result<GraphReader::Values> GraphReader::read_in_place(const GraphProto& branch,
                                                       const Scope& outer) {
  Scope scope{outer.emitter, &outer, {}, {}};
  if (branch.input_size() > 0) return bad_input("a branch with inputs");
  VB_TRY(read_initializers(branch, scope));
  VB_TRY(read_nodes(branch, scope));
  Values values;
  for (const ValueInfoProto& out : branch.output()) {
    values.push_back(scope.find(out.name()));
    if (values.back() == kAbsent)
      return bad_input("output '" + text_of(out.name()) + "' is not produced");
  }
  return values;
}

// `inputs`: how many it must have; of these, the first `scalars` are scalars, and where the file
// says otherwise have one element.
Status GraphReader::read_body(const GraphProto& body, Emitter& emitter, const Scope& outer,
                              size_t inputs, size_t scalars) {
  Scope scope{&emitter, &outer, {}, {}};
  if (static_cast<size_t>(body.input_size()) != inputs)
    return bad_input("a body of " + std::to_string(body.input_size()) + " inputs, the node gives " +
                     std::to_string(inputs));
  if (body.output_size() > kMaxEdges)
    return over_limit("a body of " + std::to_string(body.output_size()) + " outputs");
  Values own;
  for (const ValueInfoProto& in : body.input())
    own.push_back(emitter.body_input(text_of(in.name())));
  for (size_t i = 0; i < inputs; ++i) {
    const ValueInfoProto& in = body.input(static_cast<int>(i));
    const TensorTypeProto& type = in.type().tensor_type();
    ValueId value = own[i];
    if (i < scalars && type.has_shape() && type.shape().dim_size() == 1)
      value = emitter.emit("Reshape",
                           {value, emitter.constant(text_of(in.name()) + "/shape", integers({1}))},
                           {}, text_of(in.name()));
    VB_TRY(scope.define(in.name(), emitter, value).with_context("input " + std::to_string(i)));
    if (type.has_shape() && type.shape().dim_size() <= kMaxRank)
      emitter.set_dims(value, std::vector<int64_t>(type.shape().dim_size(), -1));
  }
  VB_TRY(read_initializers(body, scope));
  VB_TRY(read_nodes(body, scope));
  DistinctNames names;  // a value may be given twice
  for (const ValueInfoProto& out : body.output()) {
    const ValueId value = scope.find(out.name());
    if (value == kAbsent) return bad_input("output '" + text_of(out.name()) + "' is not produced");
    if (Emitter::is_sequence(value))
      return unsupported("a sequence as an output ('" + text_of(out.name()) + "')");
    emitter.output(names.next(text_of(out.name())), value);
  }
  return {};
}

}  // namespace verbatim::onnx
