// Einsum. The summed labels, in the order of their first appearance, flattened row-major are the K
// index; a term is the product of the operands' elements. One operand: an ordered sum (sum.h).
// Several: an ordered product (matmul.h) of (the product of all but the last operand, from the
// left, each rounded) with the last one, so that "ik,kj->ij" is MatMul to the bit.
#include <map>
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/matmul.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

// Labels are letters; the dimensions of "..." are the labels 0, 1, ... from the right, and
// broadcast.
using Labels = std::vector<int>;

struct Equation {
  std::vector<Labels> operands;
  Labels output, summed;
  std::map<int, int64_t> size;
};

Result<Labels> parse_term(const std::string& term, int ellipsis_rank) {
  Labels labels;
  bool dots = false;
  for (size_t i = 0; i < term.size(); ++i) {
    const char c = term[i];
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
      labels.push_back(c);
    else if (term.compare(i, 3, "...") == 0 && !dots) {
      dots = true;
      for (int d = ellipsis_rank - 1; d >= 0; --d) labels.push_back(d);
      i += 2;
    } else {
      return bad_input("equation term '" + term + "'");
    }
  }
  return labels;
}

// Splits "ab,bc->ac"; without an arrow the output has the labels that appear once, in alphabetical
// order, after the ellipsis.
Result<Equation> parse_equation(std::string text, std::span<const Tensor> inputs) {
  std::erase(text, ' ');
  const size_t arrow = text.find("->");
  const std::string left = text.substr(0, arrow);
  std::vector<std::string> terms(1);
  for (char c : left) {
    if (c == ',')
      terms.emplace_back();
    else
      terms.back() += c;
  }
  if (terms.size() != inputs.size())
    return bad_input("an equation of " + std::to_string(terms.size()) + " terms for " +
                     std::to_string(inputs.size()) + " operands");
  Equation e;
  std::map<int, int> appearances;
  Labels order;
  int widest = 0;
  for (size_t t = 0; t < terms.size(); ++t) {
    const auto letters =
        static_cast<int>(std::ranges::count_if(terms[t], [](char c) { return c != '.'; }));
    const bool dots = terms[t].find('.') != std::string::npos;
    const int hidden = dots ? inputs[t].rank() - letters : 0;
    if (hidden < 0)
      return bad_input("equation term '" + terms[t] + "' for " + inputs[t].describe());
    widest = std::max(widest, hidden);
    VB_ASSIGN(Labels labels, parse_term(terms[t], hidden));
    if (static_cast<int>(labels.size()) != inputs[t].rank())
      return bad_input("equation term '" + terms[t] + "' for " + inputs[t].describe());
    for (size_t d = 0; d < labels.size(); ++d) {
      const int64_t dim = inputs[t].dim(static_cast<int>(d));
      const auto [it, fresh] = e.size.emplace(labels[d], dim);
      if (!fresh && it->second != dim && it->second != 1 && dim != 1)
        return bad_input("sizes of one label differ: " + inputs[t].describe());
      if (it->second == 1) it->second = dim;
      if (appearances[labels[d]]++ == 0) order.push_back(labels[d]);
    }
    e.operands.push_back(std::move(labels));
  }
  if (arrow != std::string::npos) {
    VB_ASSIGN(e.output, parse_term(text.substr(arrow + 2), widest));
  } else {
    for (int d = widest - 1; d >= 0; --d) e.output.push_back(d);
    for (const auto& [label, count] : appearances)
      if (label >= 'A' && count == 1) e.output.push_back(label);
  }
  for (size_t i = 0; i < e.output.size(); ++i)
    if (!e.size.contains(e.output[i]) || std::ranges::count(e.output, e.output[i]) != 1)
      return bad_input("the equation's output");
  for (int label : order)
    if (std::ranges::find(e.output, label) == e.output.end()) e.summed.push_back(label);
  return e;
}

Result<Shape> shape_of_labels(const Equation& e, const Labels& labels) {
  std::vector<int64_t> dims;
  for (int label : labels) dims.push_back(e.size.at(label));
  return Shape::of(dims);
}

// Strides of an operand for the dimensions that `labels` name; a repeated label walks the diagonal.
Strides label_strides(const Tensor& t, const Labels& own, const Labels& labels) {
  const Strides dense = strides_of(t.shape());
  Strides strides{};
  for (size_t i = 0; i < labels.size(); ++i)
    for (size_t d = 0; d < own.size(); ++d)
      if (own[d] == labels[i] && t.dim(static_cast<int>(d)) != 1) strides[i] += dense[d];
  return strides;
}

// The next products of the elements that the walks stand at, from the left, each rounded.
template <class T>
class Terms {
 public:
  Terms(std::span<const Tensor> inputs, std::span<StridedWalk> walks)
      : inputs_(inputs), walks_(walks) {}
  Compute<T> operator()() {
    Compute<T> product = next(0);
    for (size_t t = 1; t < inputs_.size(); ++t) product = multiply_of(product, next(t));
    return product;
  }

 private:
  Compute<T> next(size_t t) {
    const Compute<T> v = load(inputs_[t].data<T>()[walks_[t].offset()]);
    walks_[t].next();
    return v;
  }
  std::span<const Tensor> inputs_;
  std::span<StridedWalk> walks_;
};

template <class T>
Result<Tensors> contract(const Equation& e, std::span<const Tensor> inputs, const Shape& shape,
                         const Shape& summed) {
  using C = Compute<T>;
  VB_ASSIGN(Tensor y, Tensor::allocate(inputs[0].dtype(), shape));
  const int64_t k_size = summed.elements();
  const size_t last = inputs.size() - 1;
  parallel_for(y.elements(), 16, [&](int64_t from, int64_t to) {
    std::vector<StridedWalk> walks(inputs.size());
    for (int64_t i = from; i < to; ++i) {
      for (size_t t = 0; t <= last; ++t) {
        StridedWalk start(shape, label_strides(inputs[t], e.operands[t], e.output));
        start.seek(i);
        walks[t] =
            StridedWalk(summed, label_strides(inputs[t], e.operands[t], e.summed), start.offset());
      }
      const std::span<StridedWalk> all(walks);
      C value;
      if (last > 0) {
        value = ordered_product<C>(k_size, Terms<T>(inputs.first(last), all.first(last)),
                                   Terms<T>(inputs.last(1), all.last(1)));
      } else {
        Terms<T> next(inputs, all);
        if constexpr (std::is_integral_v<C>)
          value = static_cast<C>(ordered_sum<uint64_t>(
              k_size, [&](int64_t) { return static_cast<uint64_t>(next()); }));
        else
          value = ordered_sum<C>(k_size, [&](int64_t) { return next(); });
      }
      y.mutable_data<T>()[i] = store<T>(value);
    }
  });
  return Tensors{y};
}

Result<Tensors> einsum(const Node& node, std::span<const Tensor> inputs) {
  for (const Tensor& t : inputs)
    if (!t.defined() || t.dtype() != inputs[0].dtype())
      return bad_input("operands of different types");
  VB_ASSIGN(const std::string text, node.attributes.require<std::string>("equation"));
  VB_ASSIGN(const Equation e, parse_equation(text, inputs));
  VB_ASSIGN(const Shape shape, shape_of_labels(e, e.output));
  VB_ASSIGN(const Shape summed, shape_of_labels(e, e.summed));
  return visit_number<Tensors>(
      inputs[0], [&](auto type) { return contract<decltype(type)>(e, inputs, shape, summed); });
}

// Two operations for each term of each output element.
uint64_t einsum_cost(const Node& node, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs) {
  const Result<std::string> text = node.attributes.get<std::string>("equation", "");
  if (!text.ok()) return 0;
  const Result<Equation> e = parse_equation(*text, inputs);
  if (!e.ok()) return 0;
  uint64_t terms = saturating_multiply(2, static_cast<uint64_t>(outputs[0].elements()));
  for (int label : e->summed)
    terms = saturating_multiply(terms, static_cast<uint64_t>(e->size.at(label)));
  return terms;
}

constexpr OpDef kOps[] = {
    {"", "Einsum", 1, kVariadic, 1, einsum, einsum_cost},
};

}  // namespace

std::span<const OpDef> einsum_ops() { return kOps; }

}  // namespace verbatim
