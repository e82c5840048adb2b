// Linear, MatMul and Gemm in binary32, of 16-bit types too.
#include <vector>

#include <verbatim/kernels/kernel_backend.h>

namespace verbatim {
namespace {

Result<Shape> with_tail(std::span<const int64_t> front, std::initializer_list<int64_t> tail) {
  std::vector<int64_t> dims(front.begin(), front.end());
  dims.insert(dims.end(), tail);
  return Shape::of(dims);
}

// out [m, n] = a [m, k] b for one matrix b.
Outcome multiply_one(const KernelBackend& backend, const MatrixView& b, const Product& p, int64_t m,
                     const Shape& shape) {
  VB_ASSIGN(Tensor out, backend.allocate(b.type, shape));
  Product one = p;
  one.out = out.mutable_address();
  constexpr MatrixPair kPair[] = {{0, 0}};
  VB_TRY(backend.multiply(one, b, 1, m, kPair));
  return done({out});
}

// a [..., M, K] times b [..., K, N], both of rank 2 at least, their batches broadcast.
Outcome multiply_batches(const KernelBackend& backend, const Tensor& a, const Tensor& b) {
  const int64_t m = a.dim(a.rank() - 2), k = a.dim(a.rank() - 1), n = b.dim(b.rank() - 1);
  VB_ASSIGN(const Shape a_batch, Shape::of(a.shape().dims().first(a.rank() - 2)));
  VB_ASSIGN(const Shape b_batch, Shape::of(b.shape().dims().first(b.rank() - 2)));
  const Result<Shape> batch = broadcast(a_batch, b_batch);
  if (!batch.ok() || b.dim(b.rank() - 2) != k) return not_handled();
  VB_ASSIGN(const Shape shape, with_tail(batch->dims(), {m, n}));
  VB_ASSIGN(Tensor out, backend.allocate(a.dtype(), shape));
  std::vector<MatrixPair> pairs;
  StridedWalk a_walk(*batch, broadcast_strides(a_batch, *batch)),
      b_walk(*batch, broadcast_strides(b_batch, *batch));
  for (int64_t i = 0; i < batch->elements(); ++i, a_walk.next(), b_walk.next())
    pairs.emplace_back(a_walk.offset(), b_walk.offset());
  VB_TRY(backend.multiply({.a = a.address(), .a_row = k, .out = out.mutable_address()},
                          matrix_view(b, k, n, false), b_batch.elements(), m, pairs));
  return done({out});
}

}  // namespace

MatrixView matrix_view(const Tensor& t, int64_t rows, int64_t columns, bool transposed) {
  if (transposed) return {t.dtype(), t.address(), columns, rows, 1, columns};
  return {t.dtype(), t.address(), rows, columns, columns, 1};
}

std::optional<MatrixView> weight_view(const Node& node, const Tensor& w) {
  if (!all_of_one_type({&w, 1}) || w.rank() != 2) return std::nullopt;
  const bool linear = node.domain == kVerbatimDomain && node.op == "Linear";
  const bool product = node.domain.empty() && (node.op == "MatMul" || node.op == "Gemm");
  if (!linear && !product) return std::nullopt;
  const Result<int64_t> trans_b = node.attributes.get<int64_t>("transB", 0);
  const bool transposed = linear || (node.op == "Gemm" && trans_b.ok() && *trans_b != 0);
  return matrix_view(w, w.dim(0), w.dim(1), transposed);
}

Outcome run_linear(const KernelBackend& backend, const Node&, std::span<const Tensor> inputs) {
  const bool has_bias = inputs.size() > 2 && inputs[2].defined();
  if (!all_of_one_type(inputs.first(has_bias ? 3 : 2))) return not_handled();
  const Tensor &x = inputs[0], &w = inputs[1];
  if (x.rank() < 1 || w.rank() != 2 || x.dim(x.rank() - 1) != w.dim(1)) return not_handled();
  if (has_bias && !(inputs[2].shape() == Shape{w.dim(0)})) return not_handled();
  const int leading = x.rank() - 1;
  VB_ASSIGN(const Shape shape, with_tail(x.shape().dims().first(leading), {w.dim(0)}));
  Product p{.a = x.address(), .a_row = w.dim(1)};
  if (has_bias) {
    p.c = inputs[2].address();
    p.c_column = 1;
    p.rounded_before_c = true;
  }
  return multiply_one(backend, matrix_view(w, w.dim(0), w.dim(1), true), p,
                      x.shape().elements(0, leading), shape);
}

Outcome run_matmul(const KernelBackend& backend, const Node&, std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs)) return not_handled();
  const Tensor &a = inputs[0], &b = inputs[1];
  if (a.rank() < 2 || b.rank() < 2) return not_handled();
  if (b.rank() > 2) return multiply_batches(backend, a, b);
  if (a.dim(a.rank() - 1) != b.dim(0)) return not_handled();
  const int leading = a.rank() - 1;
  VB_ASSIGN(const Shape shape, with_tail(a.shape().dims().first(leading), {b.dim(1)}));
  return multiply_one(backend, matrix_view(b, b.dim(0), b.dim(1), false),
                      {.a = a.address(), .a_row = b.dim(0)}, a.shape().elements(0, leading), shape);
}

Outcome run_gemm(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  const bool has_c = inputs.size() > 2 && inputs[2].defined();
  if (!all_of_one_type(inputs.first(has_c ? 3 : 2))) return not_handled();
  const Tensor &a = inputs[0], &b = inputs[1];
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.0f));
  VB_ASSIGN(const float beta, node.attributes.get<float>("beta", 1.0f));
  VB_ASSIGN(const int64_t trans_a, node.attributes.get<int64_t>("transA", 0));
  VB_ASSIGN(const int64_t trans_b, node.attributes.get<int64_t>("transB", 0));
  if (a.rank() != 2 || b.rank() != 2) return not_handled();
  const MatrixView view = matrix_view(b, b.dim(0), b.dim(1), trans_b != 0);
  const int64_t m = a.dim(trans_a ? 1 : 0);
  if (a.dim(trans_a ? 0 : 1) != view.k) return not_handled();
  Product p{.a = a.address(),
            .a_row = trans_a ? 1 : view.k,
            .a_k = trans_a ? m : 1,
            .alpha = alpha,
            .beta = beta};
  if (has_c) {
    const Tensor& c = inputs[2];
    const int64_t columns = c.rank() > 0 ? c.dim(c.rank() - 1) : 1,
                  rows = c.rank() > 1 ? c.dim(0) : 1;
    if (c.rank() > 2 || (columns != 1 && columns != view.n) || (rows != 1 && rows != m))
      return not_handled();
    p.c = c.address();
    p.c_row = rows == 1 ? 0 : columns;
    p.c_column = columns == 1 ? 0 : 1;
  }
  VB_ASSIGN(const Shape shape, with_tail({}, {m, view.n}));
  return multiply_one(backend, view, p, m, shape);
}

}  // namespace verbatim
