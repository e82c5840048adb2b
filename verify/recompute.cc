#include <verbatim/verify/recompute.h>

#include <algorithm>

#include <verbatim/core/fp_guard.h>
#include <verbatim/core/no_throw.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/op.h>

namespace verbatim {
namespace {

// What it takes in memory, which is what limits count.
uint64_t memory_bytes(const TensorPart& header) {
  return static_cast<uint64_t>(header.shape.elements()) * size_of(header.dtype);
}

Digest header_root(const TensorPart& part) {
  return tensor_root(part.dtype, part.shape, {&part.leaves_root, 1});
}

std::optional<TensorPart> fetch_part(Conversation& talk, uint64_t step, ValueId value,
                                     const Digest& root, uint64_t offset, uint32_t length) {
  auto part = talk.ask<TensorPart>(AskTensor{step, static_cast<uint32_t>(value), offset, length});
  if (!part) return std::nullopt;
  if (header_root(*part) == root && part->bytes.size() == length) return part;
  talk.fail("the tensor that it sends has not the root that it must have");
  return std::nullopt;
}

struct WrongLeaf {
  int64_t index;
  Digest claimed;
};

// The first tile whose leaf is not the true one, walking down the claimed tree.
std::optional<WrongLeaf> first_wrong_leaf(Conversation& talk, uint64_t step, ValueId value,
                                          Digest claimed, std::span<const Digest> truth) {
  LeafRange node{0, truth.size()};
  while (node.size() > 1) {
    const TreeName tree{TreeName::Kind::leaves, step, static_cast<uint32_t>(value)};
    const auto children = talk.ask<Children>(AskChildren{tree, node});
    const std::vector<LeafRange> ranges = walk_ranges(node);
    if (!children || children->hashes.size() != ranges.size() ||
        walk_fold(node, children->hashes) != claimed)
      return std::nullopt;
    const std::vector<Digest> hashes = walk_hashes(truth, node);
    const auto [mine, theirs] = std::ranges::mismatch(hashes, children->hashes);
    if (mine == hashes.end()) return std::nullopt;
    node = ranges[static_cast<size_t>(mine - hashes.begin())];
    claimed = *theirs;
  }
  return WrongLeaf{static_cast<int64_t>(node.begin), claimed};
}

}  // namespace

std::optional<TensorPart> fetch_header(Conversation& talk, uint64_t step, ValueId value,
                                       const Digest& root) {
  return fetch_part(talk, step, value, root, 0, 0);
}

std::optional<Tensor> fetch_tensor(Conversation& talk, uint64_t step, ValueId value,
                                   const Digest& root, uint64_t max_bytes, bool& too_large) {
  const auto header = fetch_header(talk, step, value, root);
  if (!header) return std::nullopt;
  const Result<int64_t> canonical = canonical_size(header->dtype, header->shape);
  if (!canonical.ok() || memory_bytes(*header) > max_bytes) {
    too_large = true;
    return std::nullopt;
  }
  const auto total = static_cast<uint64_t>(*canonical);
  const uint32_t part_bytes = kMaxTensorPart;
  Bytes bytes;
  while (bytes.size() < total) {
    const auto length = static_cast<uint32_t>(std::min<uint64_t>(part_bytes, total - bytes.size()));
    const auto part = fetch_part(talk, step, value, root, bytes.size(), length);
    if (!part) return std::nullopt;
    bytes.insert(bytes.end(), part->bytes.begin(), part->bytes.end());
  }
  Result<Tensor> tensor = tensor_from_little_endian(header->dtype, header->shape, bytes);
  if (tensor.ok() && tensor_root(*tensor) == root) return *std::move(tensor);
  talk.fail("the tensor that it sends has not the root that it must have");
  return std::nullopt;
}

// Inputs of the task are at hand, whatever value they became.
std::optional<Tensor> Recomputation::local_input(const Digest& root) const {
  if (root == absent_root()) return Tensor();
  const auto it = std::ranges::find(facts_.input_roots, root);
  if (it == facts_.input_roots.end()) return std::nullopt;
  return facts_.task->inputs[static_cast<size_t>(it - facts_.input_roots.begin())];
}

Result<std::optional<Tensors>> Recomputation::fetch_inputs(uint64_t step, const Node& node,
                                                           std::span<const Digest> roots,
                                                           std::span<Conversation* const> askers) {
  Tensors inputs;
  uint64_t room = limits_.node_bytes();
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    std::optional<Tensor> input = local_input(roots[i]);
    bool too_large = false;
    for (size_t j = 0; j < askers.size() && !input && !too_large; ++j)
      input = fetch_tensor(*askers[j], step, node.inputs[i], roots[i],
                           std::min(room, limits_.tensor_bytes()), too_large);
    if (too_large)
      return over_limit(node.title() + ": its inputs pass the limits of the task or of this party");
    if (!input) return std::optional<Tensors>();
    room -= std::min<uint64_t>(room, input->defined() ? input->byte_size() : 0);
    inputs.push_back(*std::move(input));
  }
  return std::optional(std::move(inputs));
}

// The truth from agreed inputs, within the limits: whatever the parties claim, no more is computed.
Result<Tensors> Recomputation::evaluate(const Node& node, const Tensors& inputs) const {
  const FloatGuard guard;
  return no_throw([&] {
    return run_limited(*make_reference_backend(), limits_, node, inputs, {}, nullptr,
                       &cost_.operations);
  });
}

Result<const Tensors*> Recomputation::outputs(uint64_t step, uint32_t index,
                                              std::span<const Digest> input_roots,
                                              std::span<Conversation* const> askers) {
  if (last_ && last_->step == step && last_->node == index &&
      std::ranges::equal(last_->input_roots, input_roots))
    return &last_->outputs;
  last_.reset();
  const Node& node = facts_.node(index);
  VB_ASSIGN(const std::optional<Tensors> inputs, fetch_inputs(step, node, input_roots, askers));
  if (!inputs) return nullptr;
  VB_ASSIGN(Tensors outputs, evaluate(node, *inputs));
  outputs.resize(node.outputs.size());
  ++cost_.nodes_recomputed;
  last_ = Done{step, index, {input_roots.begin(), input_roots.end()}, std::move(outputs)};
  return &last_->outputs;
}

void locate_difference(Conversation& talk, uint64_t step, ValueId value, const Digest& claimed,
                       const Tensor& truth, Where& where) {
  if (!truth.defined()) return;
  where.dtype = truth.dtype();
  where.shape = truth.shape();
  const auto header = fetch_header(talk, step, value, claimed);
  if (!header || header->dtype != truth.dtype() || !(header->shape == truth.shape())) return;
  const std::vector<Digest> leaves = tensor_leaves(truth);
  if (leaves.empty()) return;
  const auto wrong = first_wrong_leaf(talk, step, value, header->leaves_root, leaves);
  if (!wrong) return;
  where.tile = wrong->index;

  const LeafLayout layout = leaf_layout(truth.dtype(), truth.shape());
  const ByteRange range = layout.bytes(wrong->index);
  if (range.size() > kMaxTensorPart) return;
  const auto part =
      fetch_part(talk, step, value, claimed, range.begin, static_cast<uint32_t>(range.size()));
  if (!part || merkle_leaf(part->bytes) != wrong->claimed) return;
  const auto theirs = layout.element_bits(wrong->index, part->bytes),
             mine = layout.element_bits(wrong->index, little_endian_bytes(truth, range));
  const auto [t, m] = std::ranges::mismatch(theirs, mine);
  if (t == theirs.end()) return;  // the bits after a row's last element differ
  where.element = layout.elements(wrong->index).first + (t - theirs.begin());
  where.claimed_bits = element_hex(truth.dtype(), *t);
  where.true_bits = element_hex(truth.dtype(), *m);
}

}  // namespace verbatim
