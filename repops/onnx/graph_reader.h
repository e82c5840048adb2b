// Reads the graphs of an ONNX model: its own, and the bodies of control-flow nodes, which see the
// names of the graphs around them.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <verbatim/repops/onnx/lower.h>

namespace verbatim::onnx {

class AttributeProto;
class GraphProto;
class NodeProto;
class TensorProto;
class ValueInfoProto;

inline constexpr uint32_t kNodeField = 1, kInitializerField = 5,
                          kInputField = 11;  // of a GraphProto

// Text of the file as it may be shown and hashed.
std::string text_of(const std::string& s);

class GraphReader {
 public:
  // Where item `index` of a field of the model's graph is: "model.onnx: byte 123".
  using Place = std::function<std::string(uint32_t field, int index)>;

  // Of operator set `version`; external data is below `folder`. `fixed`: numbers, as text, for
  // inputs of one element, which become constants.
  GraphReader(std::string source, int64_t version, std::string folder, Place place,
              std::map<std::string, std::string> fixed)
      : source_(std::move(source)),
        version_(version),
        folder_(std::move(folder)),
        place_(std::move(place)),
        fixed_(std::move(fixed)) {}

  // The model's graph, inputs and outputs included. Errors name the place.
  Status read(const GraphProto& graph, Emitter& emitter);

  // Every named value of the model's graph, those of branches in their node's place too. kAbsent:
  // two have the name.
  const std::map<std::string, ValueId>& names() const { return names_; }
  // For each input of the graph, for each dimension: its symbol, or "" where there is none.
  const std::vector<std::vector<std::string>>& symbols() const { return symbols_; }

 private:
  struct Definition {
    Emitter* owner;
    ValueId value;
  };
  // The names of a graph. A branch that takes its node's place has a scope of its own, but the
  // emitter of the graph around.
  struct Scope {
    Emitter* emitter;
    const Scope* outer;
    std::map<std::string, Definition> values;
    std::map<std::string, std::vector<int64_t>> stated_dims;

    int depth() const { return outer == nullptr ? 0 : 1 + outer->depth(); }
    bool knows(const std::string& name) const;
    // A value of this scope's graph; kAbsent where nothing has the name.
    ValueId find(const std::string& name) const;
    Status define(const std::string& name, Emitter& owner, ValueId value);
  };
  using Values = std::vector<ValueId>;
  using Bodies = std::map<std::string, const GraphProto*>;

  static Result<std::vector<int>> node_order(const GraphProto& graph, const Scope& scope);
  Status define(Scope& scope, const std::string& name, Emitter& owner, ValueId value);
  // An error, with the place of its item, or of its graph, in front.
  Status at(const Scope& scope, uint32_t field, int index, const char* what,
            const std::string& name, const Status& status) const;
  Status in_graph(const Scope& scope, const Status& status) const;

  // Initializers and nodes, after the inputs of a body and before those of the model.
  Status read_initializers(const GraphProto& graph, Scope& scope);
  Status read_nodes(const GraphProto& graph, Scope& scope);
  Status read_input(const ValueInfoProto& info, Scope& scope);
  Status read_node(const NodeProto& proto, Scope& scope);
  Result<SourceNode> source_node(const NodeProto& proto, const Scope& scope, Bodies& bodies);

  // control_flow.cc
  Result<Values> read_control_flow(SourceNode node, const Bodies& bodies, const Scope& scope);
  Result<Values> read_if(SourceNode node, const Bodies& bodies, const Scope& scope);
  Result<Values> read_loop(SourceNode node, const GraphProto& body, const Scope& scope);
  Result<Values> read_scan(SourceNode node, const GraphProto& body, const Scope& scope);
  Result<Values> read_batched_scan(SourceNode node, const GraphProto& body, const Scope& scope);
  Result<Values> read_in_place(const GraphProto& branch, const Scope& scope);
  Status read_body(const GraphProto& body, Emitter& emitter, const Scope& outer, size_t inputs,
                   size_t scalars);

  const std::string source_;
  const int64_t version_;
  const std::string folder_;
  const Place place_;
  std::map<std::string, std::string> fixed_;  // those not yet met
  std::map<std::string, ValueId> names_;
  std::vector<std::vector<std::string>> symbols_;
};

}  // namespace verbatim::onnx
