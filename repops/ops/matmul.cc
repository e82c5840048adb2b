#include <verbatim/repops/ops/matmul.h>

#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

// out[m, n] = dot(a[m, :], b[n, :]), rounded once on store. Rows are independent, so threads cannot
// change a bit.
template <class T>
void product(const T* a, const T* b, T* out, int64_t m_size, int64_t n_size, int64_t k_size) {
  parallel_for(m_size, 1, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m)
      for (int64_t n = 0; n < n_size; ++n)
        out[m * n_size + n] = store<T>(ordered_dot(a + m * k_size, b + n * k_size, k_size));
  });
}

// The rows x columns matrix at x, transposed. Scratch as large as an operand is not asked for as a
// tensor: a backend that prepared its weights asks for none either.
template <class T>
void transpose(const T* x, int64_t rows, int64_t columns, std::vector<T>& out) {
  out.resize(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) out[c * rows + r] = x[r * columns + c];
}

// Calls f with the C++ type of a product's operands.
template <class F>
Result<Tensors> visit_product_type(const Tensor& t, F&& f) {
  switch (t.dtype()) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::f16:
      return f(Half{});
    case DType::bf16:
      return f(BFloat16{});
    case DType::i32:
      return f(int32_t{});
    case DType::u32:
      return f(uint32_t{});
    case DType::i64:
      return f(int64_t{});
    case DType::u64:
      return f(uint64_t{});
    default:
      return unsupported("matrix product of " + std::string(name_of(t.dtype())));
  }
}

Status same_types(std::span<const Tensor> inputs) {
  for (const Tensor& t : inputs)
    if (t.defined() && t.dtype() != inputs[0].dtype())
      return bad_input("operands of different types: " + inputs[0].describe() + ", " +
                       t.describe());
  return {};
}

// Linear(x [..., K], w [N, K], bias [N]?) -> [..., N]: y = product, rounded, then + bias, rounded.
Result<Tensors> linear(const Node&, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[1];
  VB_TRY(same_types(inputs));
  if (x.rank() < 1 || w.rank() != 2 || x.dim(x.rank() - 1) != w.dim(1))
    return bad_input("shapes " + x.describe() + " and " + w.describe());
  const bool has_bias = inputs.size() > 2 && inputs[2].defined();
  if (has_bias && !(inputs[2].shape() == Shape{w.dim(0)}))
    return bad_input("bias " + inputs[2].describe() + " for weight " + w.describe());
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  dims.back() = w.dim(0);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  const int64_t rows = x.shape().elements(0, x.rank() - 1), n_size = w.dim(0), k_size = w.dim(1);
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    T* y = out.mutable_data<T>().data();
    product(x.data<T>().data(), w.data<T>().data(), y, rows, n_size, k_size);
    if (has_bias) {
      const T* bias = inputs[2].data<T>().data();
      for (int64_t i = 0; i < rows * n_size; ++i)
        y[i] = store<T>(load(y[i]) + load(bias[i % n_size]));
    }
    return Tensors{out};
  });
}

struct BatchedShape {
  Shape batch;               // broadcast batch dimensions
  Strides a_index, b_index;  // which matrix of each operand an entry of the batch uses
  int64_t m = 1, n = 1, k = 1;
};

// The dimensions of `t` before its matrix.
Result<Shape> batch_of(const Tensor& t) {
  return Shape::of(t.shape().dims().first(static_cast<size_t>(std::max(0, t.rank() - 2))));
}

// NumPy's matmul rules: vectors gain a unit dimension, batch dimensions broadcast.
Result<BatchedShape> batched_shape(const Tensor& a, const Tensor& b) {
  if (a.rank() < 1 || b.rank() < 1) return bad_input("MatMul of a scalar");
  BatchedShape s;
  s.m = a.rank() == 1 ? 1 : a.dim(a.rank() - 2);
  s.n = b.rank() == 1 ? 1 : b.dim(b.rank() - 1);
  s.k = a.dim(a.rank() - 1);
  const int64_t b_k = b.rank() == 1 ? b.dim(0) : b.dim(b.rank() - 2);
  VB_ASSIGN(const Shape a_batch, batch_of(a));
  VB_ASSIGN(const Shape b_batch, batch_of(b));
  const Result<Shape> batch = broadcast(a_batch, b_batch);
  if (s.k != b_k || !batch.ok())
    return bad_input("shapes " + a.describe() + " and " + b.describe() + " do not multiply");
  s.batch = *batch;
  s.a_index = broadcast_strides(a_batch, s.batch);
  s.b_index = broadcast_strides(b_batch, s.batch);
  return s;
}

// MatMul(A [..., M, K], B [..., K, N]) -> [..., M, N], as numpy.matmul.
Result<Tensors> matmul(const Node&, std::span<const Tensor> inputs) {
  const Tensor &a = inputs[0], &b = inputs[1];
  VB_TRY(same_types(inputs));
  VB_ASSIGN(const BatchedShape s, batched_shape(a, b));
  std::vector<int64_t> dims(s.batch.dims().begin(), s.batch.dims().end());
  if (a.rank() > 1) dims.push_back(s.m);
  if (b.rank() > 1) dims.push_back(s.n);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor out, Tensor::allocate(a.dtype(), shape));
  return visit_product_type(a, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    if (out.elements() == 0) return Tensors{out};
    int64_t last_b = -1;
    std::vector<T> b_rows;
    StridedWalk a_walk(s.batch, s.a_index), b_walk(s.batch, s.b_index);
    T* y = out.mutable_data<T>().data();
    for (int64_t i = 0, n = s.batch.elements(); i < n; ++i, a_walk.next(), b_walk.next()) {
      if (b_walk.offset() != last_b)
        transpose(b.data<T>().data() + b_walk.offset() * s.k * s.n, s.k, s.n, b_rows);
      last_b = b_walk.offset();
      product(a.data<T>().data() + a_walk.offset() * s.m * s.k, b_rows.data(), y + i * s.m * s.n,
              s.m, s.n, s.k);
    }
    return Tensors{out};
  });
}

// The element of c that broadcasts (from the right, as NumPy does) to row m, column n of an [M, N]
// result.
Result<std::pair<int64_t, int64_t>> matrix_strides(const Tensor& c, int64_t m_size,
                                                   int64_t n_size) {
  const int64_t columns = c.rank() > 0 ? c.dim(c.rank() - 1) : 1,
                rows = c.rank() > 1 ? c.dim(0) : 1;
  if (c.rank() > 2 || (columns != 1 && columns != n_size) || (rows != 1 && rows != m_size))
    return bad_input("C " + c.describe() + " does not broadcast to [" + std::to_string(m_size) +
                     ", " + std::to_string(n_size) + "]");
  return std::pair(rows == 1 ? 0 : columns, columns == 1 ? int64_t{0} : int64_t{1});
}

// Gemm: Y = alpha * op(A) op(B) + beta * C. The product, the multiplication by alpha (left out
// where alpha is 1), beta * C (likewise) and the sum are each rounded.
Result<Tensors> gemm(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &a = inputs[0], &b = inputs[1];
  VB_TRY(same_types(inputs));
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.0f));
  VB_ASSIGN(const float beta, node.attributes.get<float>("beta", 1.0f));
  VB_ASSIGN(const int64_t trans_a, node.attributes.get<int64_t>("transA", 0));
  VB_ASSIGN(const int64_t trans_b, node.attributes.get<int64_t>("transB", 0));
  if (a.rank() != 2 || b.rank() != 2)
    return bad_input("Gemm takes matrices, not " + a.describe() + " and " + b.describe());
  const int64_t m_size = a.dim(trans_a ? 1 : 0), k_size = a.dim(trans_a ? 0 : 1),
                n_size = b.dim(trans_b ? 0 : 1);
  if (b.dim(trans_b ? 1 : 0) != k_size)
    return bad_input("shapes " + a.describe() + " and " + b.describe() + " do not multiply");
  const bool has_c = inputs.size() > 2 && inputs[2].defined();
  std::pair<int64_t, int64_t> strides;
  if (has_c) {
    VB_ASSIGN(strides, matrix_strides(inputs[2], m_size, n_size));
  }
  VB_ASSIGN(Tensor out, Tensor::allocate(a.dtype(), {m_size, n_size}));
  return visit_product_type(a, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const T *pa = a.data<T>().data(), *pb = b.data<T>().data(),
            *pc = has_c ? inputs[2].data<T>().data() : nullptr;
    std::vector<T> a_scratch, b_scratch;  // only what is not in K-major order is copied
    if (trans_a) transpose(pa, k_size, m_size, a_scratch);
    if (!trans_b) transpose(pb, k_size, n_size, b_scratch);
    const T *a_rows = trans_a ? a_scratch.data() : pa, *b_rows = trans_b ? pb : b_scratch.data();
    T* y = out.mutable_data<T>().data();
    for (int64_t m = 0; m < m_size; ++m) {
      for (int64_t n = 0; n < n_size; ++n) {
        // 16-bit tensors are rounded once, at the end; the steps in between are binary32.
        C v = ordered_dot(a_rows + m * k_size, b_rows + n * k_size, k_size);
        if (alpha != 1.0f) v = multiply_of(v, real_to<C>(alpha));
        if (pc != nullptr) {
          C c = load(pc[m * strides.first + n * strides.second]);
          if (beta != 1.0f) c = multiply_of(c, real_to<C>(beta));
          v = add_of(v, c);
        }
        y[m * n_size + n] = store<T>(v);
      }
    }
    return Tensors{out};
  });
}

uint64_t linear_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  return saturating_multiply(
      static_cast<uint64_t>(outputs[0].elements()),
      static_cast<uint64_t>(2 * inputs[1].dim(1) + (inputs.size() > 2 ? 1 : 0)));
}
uint64_t matmul_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  const int rank = inputs[0].rank();  // 0 where a referee asks before anybody checked the shapes
  return saturating_multiply(2 * static_cast<uint64_t>(outputs[0].elements()),
                             static_cast<uint64_t>(rank == 0 ? 1 : inputs[0].dim(rank - 1)));
}
uint64_t gemm_cost(const Node& node, std::span<const Tensor> inputs,
                   std::span<const Tensor> outputs) {
  const Result<int64_t> trans_a = node.attributes.get<int64_t>("transA", 0);
  const int64_t k_size = inputs[0].dim(trans_a.ok() && *trans_a ? 0 : 1);
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()),
                             static_cast<uint64_t>(2 * k_size + 3));
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "Linear", 2, 3, 1, linear, linear_cost},
    {"", "MatMul", 2, 2, 1, matmul, matmul_cost},
    {"", "Gemm", 2, 3, 1, gemm, gemm_cost},
};

}  // namespace

std::span<const OpDef> matmul_ops() { return kOps; }

}  // namespace verbatim
