// From an operator of any ONNX operator set to operators of this library: each old form is
// rewritten to the newest one's meaning, in a place of its own, and some operators are written out
// in others.
#pragma once

#include <map>
#include <set>
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

// The graph under construction, and what is known of its values.
class Emitter {
 public:
  // Names of constants are made distinct.
  ValueId constant(const std::string& name, Tensor tensor);
  ValueId input(const std::string& name, DType dtype, std::vector<int64_t> dims);
  void output(const std::string& name, ValueId value) { builder_.output(name, value); }
  // Adds a node; the first of its outputs, which have consecutive ids.
  ValueId emit(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
               const std::string& name, int outputs = 1, std::string_view domain = "");

  // The tensor of a constant, else nullptr.
  const Tensor* constant_of(ValueId value) const;
  // Its value where that follows from constants by a few simple operators on small tensors (what
  // the condition of an If is made of), else nullptr.
  const Tensor* known(ValueId value) const;
  // The rank where it is known, else -1.
  int rank_of(ValueId value) const;
  void set_rank(ValueId value, int rank) { ranks_.emplace(value, rank); }

  Result<Graph> finish() { return builder_.finish(); }

 private:
  GraphBuilder builder_;
  void evaluate(const Node& node);
  std::map<ValueId, Tensor> constants_;
  std::map<ValueId, Tensor> known_;  // constants aside
  std::map<ValueId, int> ranks_;
  std::set<std::string> constant_names_;
};

// The values of the node's outputs.
Result<std::vector<ValueId>> lower(SourceNode node, Emitter& emitter);

}  // namespace verbatim::onnx
