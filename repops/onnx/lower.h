// From an operator of any ONNX operator set to operators of this library: each old form is
// rewritten to the newest one's meaning, in a place of its own, and some operators are written out
// in others.
#pragma once

#include <limits>
#include <map>
#include <string>
#include <vector>

#include <verbatim/repops/graph.h>

namespace verbatim::onnx {

// A node of the file, its inputs resolved.
struct SourceNode {
  std::string op;
  std::string name;
  int64_t version = 0;  // of the operator set
  Attributes attributes;
  std::vector<ValueId> inputs;  // trailing absent ones left out
  int outputs = 1;              // trailing absent ones left out

  ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kAbsent; }
};

// Names that are all different: where one is asked for again, it gets a number.
class DistinctNames {
 public:
  // `name`, or else the first of name#2, name#3, ... that was not given before.
  std::string next(const std::string& name);

 private:
  std::map<std::string, int> numbers_;  // of each name given, that to try next
};

// The graph under construction, or the body of a control-flow node in one, and what is known of its
// values. A body has no constants: they are the outermost graph's, and like all that it takes from
// outside become inputs of the body (captures) when they are first used.
class Emitter {
 public:
  // `outer`, which must outlive it: the emitter of the graph around a body.
  explicit Emitter(Emitter* outer = nullptr) : outer_(outer) {}

  // Names of constants are made distinct.
  ValueId constant(const std::string& name, Tensor tensor);
  ValueId input(const std::string& name, DType dtype, std::vector<int64_t> dims);
  // All of a body's own inputs come before anything is captured.
  ValueId body_input(const std::string& name) { return builder_.body_input(name); }
  // A value of `owner`, which is this emitter or one around it, as a value of this graph.
  ValueId reach(const Emitter& owner, ValueId value, const std::string& name);
  // The outermost graph's emitter.
  Emitter& root() { return outer_ == nullptr ? *this : outer_->root(); }
  struct Capture {
    ValueId outside;  // of the graph around
    std::string name;
  };
  // What has been captured, in the order of the body's inputs.
  const std::vector<Capture>& captures() const { return captures_; }
  void output(const std::string& name, ValueId value) { builder_.output(name, value); }
  // Adds a node; the first of its outputs, which have consecutive ids.
  ValueId emit(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
               const std::string& name, int outputs = 1, std::string_view domain = "");

  // The tensor of a constant, else nullptr.
  const Tensor* constant_of(ValueId value) const;
  // Its value where that follows from constants by a few simple operators on small tensors (what
  // the condition of an If is made of), else nullptr. There is an end to what is remembered.
  const Tensor* known(ValueId value) const;
  // Its dimensions, -1 for those unknown, where the rank is known; else nullptr.
  const std::vector<int64_t>* dims_of(ValueId value) const;
  void set_dims(ValueId value, std::vector<int64_t> dims) { dims_.emplace(value, std::move(dims)); }
  // The rank where it is known, else -1.
  int rank_of(ValueId value) const;

  // A list of values of this graph, as something that has an id: a graph has tensors only. There is
  // an end to what all lists together hold.
  Result<ValueId> sequence(std::vector<ValueId> elements);
  Status spend_elements(size_t count);  // of lists that nodes are made of
  static bool is_sequence(ValueId value) { return value < kAbsent; }
  // What is in it; nullptr for other values, and for kOutside, which stands for every sequence of
  // the graphs around.
  const std::vector<ValueId>* sequence_of(ValueId value) const;
  static constexpr ValueId kOutside = std::numeric_limits<ValueId>::min();

  Result<Graph> finish() { return builder_.finish(); }
  Result<Body> finish_body() { return builder_.finish_body(); }

 private:
  Emitter* outer_;
  std::map<ValueId, ValueId> captured_;  // of the graph around: the body's input
  std::vector<Capture> captures_;
  GraphBuilder builder_;
  void evaluate(const Node& node);
  void keep(ValueId value, const Tensor& tensor);
  std::map<ValueId, Tensor> constants_;
  std::map<ValueId, Tensor> known_;  // constants aside
  int64_t kept_ = 0;                 // elements of what is known; the outermost graph's counts
  std::map<ValueId, std::vector<int64_t>> dims_;
  std::vector<std::vector<ValueId>> sequences_;
  int64_t listed_ = 0;  // elements of all sequences; the outermost graph's counts
  DistinctNames constant_names_;
};

// The values of the node's outputs.
Result<std::vector<ValueId>> lower(SourceNode node, Emitter& emitter);

}  // namespace verbatim::onnx
