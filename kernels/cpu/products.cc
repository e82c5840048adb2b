// Linear, MatMul and Gemm in binary32, of 16-bit types too: packing of the second operand and tasks
// over tiles of the result. How a product is cut into tasks changes no bit: each element is one
// chain for each block of K.
#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

// A task copies its rows of A and reads its columns of B once: the larger it is, the less that
// costs. Smaller ones are for threads that would have none.
constexpr int64_t kTaskColumns = 2048, kLeastRows = 96, kLeastColumns = 256, kTasksOfThread = 8;

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

// `matrices` products with m rows each; product(i) describes the i-th.
template <class F>
void multiply_all(const CpuKernels& kernels, int64_t matrices, int64_t m, int64_t n, F product) {
  if (matrices == 0 || m == 0 || n == 0) return;
  const int64_t panels = ceiling(n, kernels.panel),
                tasks = thread_count() == 1 ? 1 : kTasksOfThread * thread_count(),
                column_tasks = std::clamp(ceiling(tasks, matrices * ceiling(m, kProductRows)),
                                          ceiling(n, kTaskColumns), ceiling(n, kLeastColumns)),
                row_tasks = std::clamp(ceiling(tasks, matrices * column_tasks),
                                       ceiling(m, kProductRows), ceiling(m, kLeastRows));
  parallel_for(matrices * row_tasks * column_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i % row_tasks, column = i / row_tasks % column_tasks;
      const int64_t first = m * row / row_tasks, last = m * (row + 1) / row_tasks,
                    from = panels * column / column_tasks,
                    to = panels * (column + 1) / column_tasks;
      const Product p = product(i / column_tasks / row_tasks);
      kernels.product(p, first, last, from, to,
                      thread_scratch(kernels.product_scratch(p.type, last - first, to - from)));
    }
  });
}

Result<Shape> with_tail(std::span<const int64_t> front, std::initializer_list<int64_t> tail) {
  std::vector<int64_t> dims(front.begin(), front.end());
  dims.insert(dims.end(), tail);
  return Shape::of(dims);
}

const std::byte* element(const Tensor& t, int64_t i) {
  return t.bytes().data() + i * static_cast<int64_t>(size_of(t.dtype()));
}

// out [m, n] = a [m, k] b for one matrix b.
Outcome multiply_one(const CpuBackend& backend, const MatrixView& b, Product p, int64_t m,
                     const Shape& shape) {
  VB_ASSIGN(const Tensor panels, backend.packed(b));
  VB_ASSIGN(Tensor out, Tensor::allocate(b.type, shape));
  p.type = b.type;
  p.b = panels.bytes().data();
  p.n = b.n;
  p.k = b.k;
  p.out = out.mutable_bytes().data();
  p.out_row = b.n;
  multiply_all(backend.kernels(), 1, m, b.n, [&](int64_t) { return p; });
  return done({out});
}

// a [..., M, K] times b [..., K, N], both of rank 2 at least, their batches broadcast.
Outcome multiply_batches(const CpuBackend& backend, const Tensor& a, const Tensor& b) {
  const int64_t m = a.dim(a.rank() - 2), k = a.dim(a.rank() - 1), n = b.dim(b.rank() - 1);
  VB_ASSIGN(const Shape a_batch, Shape::of(a.shape().dims().first(a.rank() - 2)));
  VB_ASSIGN(const Shape b_batch, Shape::of(b.shape().dims().first(b.rank() - 2)));
  const Result<Shape> batch = broadcast(a_batch, b_batch);
  if (!batch.ok() || b.dim(b.rank() - 2) != k) return not_handled();
  VB_ASSIGN(const Shape shape, with_tail(batch->dims(), {m, n}));
  const CpuKernels& kernels = backend.kernels();
  VB_ASSIGN(const Tensor panels,
            pack_matrices(kernels, matrix_view(b, k, n, false), b_batch.elements(), k * n));
  VB_ASSIGN(Tensor out, Tensor::allocate(a.dtype(), shape));
  const int64_t count = batch->elements(),
                packed_size = ceiling(n, kernels.panel) * kernels.panel * k;
  // Which matrix of each operand an entry of the batch uses.
  std::vector<std::pair<int64_t, int64_t>> uses;
  StridedWalk a_walk(*batch, broadcast_strides(a_batch, *batch)),
      b_walk(*batch, broadcast_strides(b_batch, *batch));
  for (int64_t i = 0; i < count; ++i, a_walk.next(), b_walk.next())
    uses.emplace_back(a_walk.offset(), b_walk.offset());
  std::byte* y = out.mutable_bytes().data();
  const auto result_size = m * n * static_cast<int64_t>(size_of(a.dtype()));
  multiply_all(kernels, count, m, n, [&](int64_t i) {
    return Product{.type = a.dtype(),
                   .a = element(a, uses[i].first * m * k),
                   .a_row = k,
                   .b = element(panels, uses[i].second * packed_size),
                   .n = n,
                   .k = k,
                   .out = y + i * result_size,
                   .out_row = n};
  });
  return done({out});
}

}  // namespace

Result<Tensor> pack_matrices(const CpuKernels& kernels, const MatrixView& b, int64_t count,
                             int64_t stride) {
  const int64_t panels = ceiling(b.n, kernels.panel);
  VB_ASSIGN(const Shape shape, with_tail({}, {count, panels, b.k, kernels.panel}));
  VB_ASSIGN(Tensor packed, Tensor::allocate(b.type, shape, Purpose::scratch));
  std::byte* out = packed.mutable_bytes().data();
  const auto size = static_cast<int64_t>(size_of(b.type));
  parallel_for(count * panels, 8, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t i = begin / panels, from = begin % panels,
                    to = std::min(panels, from + end - begin);
      kernels.pack(b.type, b.data + i * stride * size, b.k_stride, b.n_stride, b.k, b.n, from, to,
                   out + i * panels * b.k * kernels.panel * size);
      begin += to - from;
    }
  });
  return packed;
}

Outcome run_linear(const CpuBackend& backend, const Node&, std::span<const Tensor> inputs) {
  const bool has_bias = inputs.size() > 2 && inputs[2].defined();
  if (!all_of_one_type(inputs.first(has_bias ? 3 : 2))) return not_handled();
  const Tensor &x = inputs[0], &w = inputs[1];
  if (x.rank() < 1 || w.rank() != 2 || x.dim(x.rank() - 1) != w.dim(1)) return not_handled();
  if (has_bias && !(inputs[2].shape() == Shape{w.dim(0)})) return not_handled();
  const int leading = x.rank() - 1;
  VB_ASSIGN(const Shape shape, with_tail(x.shape().dims().first(leading), {w.dim(0)}));
  Product p{.a = x.bytes().data(), .a_row = w.dim(1)};
  if (has_bias) {
    p.c = inputs[2].bytes().data();
    p.c_column = 1;
    p.rounded_before_c = true;
  }
  return multiply_one(backend, matrix_view(w, w.dim(0), w.dim(1), true), p,
                      x.shape().elements(0, leading), shape);
}

Outcome run_matmul(const CpuBackend& backend, const Node&, std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs)) return not_handled();
  const Tensor &a = inputs[0], &b = inputs[1];
  if (a.rank() < 2 || b.rank() < 2) return not_handled();
  if (b.rank() > 2) return multiply_batches(backend, a, b);
  if (a.dim(a.rank() - 1) != b.dim(0)) return not_handled();
  const int leading = a.rank() - 1;
  VB_ASSIGN(const Shape shape, with_tail(a.shape().dims().first(leading), {b.dim(1)}));
  return multiply_one(backend, matrix_view(b, b.dim(0), b.dim(1), false),
                      {.a = a.bytes().data(), .a_row = b.dim(0)}, a.shape().elements(0, leading),
                      shape);
}

Outcome run_gemm(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
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
  Product p{.a = a.bytes().data(),
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
    p.c = c.bytes().data();
    p.c_row = rows == 1 ? 0 : columns;
    p.c_column = columns == 1 ? 0 : 1;
  }
  VB_ASSIGN(const Shape shape, with_tail({}, {m, view.n}));
  return multiply_one(backend, view, p, m, shape);
}

}  // namespace verbatim
