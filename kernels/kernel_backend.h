// A backend whose operators are kernels over raw memory: those of the processor's vector units, or
// a GPU's. What both have to know of an operator (shapes, strides, what is left to the reference)
// is said once, in the files beside this one; a backend says how its kernels are run.
#pragma once

#include <optional>
#include <span>
#include <utility>

#include <verbatim/kernels/operands.h>
#include <verbatim/repops/backend.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {

// out = f(a, b), of two operands that broadcast to it: in runs of `length` results over which each
// of them is one element (a step of 0) or lies element by element. Runs follow one another in
// row-major order of `outer`, in which an operand has strides.
struct Binary {
  BinaryKernel f = BinaryKernel::add;
  DType type = DType::f32;
  const void *a = nullptr, *b = nullptr;
  void* out = nullptr;
  int64_t length = 1, elements = 0;  // of a run and of out
  int a_step = 0, b_step = 0;
  Shape outer = {};
  Strides a_strides{}, b_strides{};
};

// x, y [positions, heads, size]: of each head the pairs (i, i + half), i < half, turned by row
// `position mod table_rows` of the tables [table_rows, half]; the rest is copied.
struct Rotation {
  DType type = DType::f32;
  const void* x = nullptr;
  void* y = nullptr;
  const float *cosine = nullptr, *sine = nullptr;
  int64_t positions = 0, heads = 1, size = 0, half = 0, table_rows = 1;
};

// B [k, n] of a product in memory: element (k, n) at data[k * k_stride + n * n_stride].
struct MatrixView {
  DType type;
  const std::byte* data;
  int64_t k, n, k_stride, n_stride;
};
// The first dense [rows, columns] matrix of `t` as B itself, or as B transposed.
MatrixView matrix_view(const Tensor& t, int64_t rows, int64_t columns, bool transposed);

// The matrices of A and B that one product of a batch multiplies.
using MatrixPair = std::pair<int64_t, int64_t>;

class KernelBackend : public Backend {
 public:
  // Memory that the kernels read and write.
  virtual Result<Tensor> allocate(DType type, const Shape& shape,
                                  Purpose purpose = Purpose::result) const = 0;

  // Product i of out [pairs, m, n] multiplies the dense matrices pairs[i] of A and B, of which B
  // has `matrices`. p has no b and no out row.
  virtual Status multiply(const Product& p, const MatrixView& b, int64_t matrices, int64_t m,
                          std::span<const MatrixPair> pairs) const = 0;
  virtual Status softmax(DType type, const void* x, void* y, int64_t rows, int64_t n) const = 0;
  virtual Status layer_norm(const RowNorm& p, int64_t rows) const = 0;
  virtual Status rms_norm(const RowNorm& p, int64_t rows) const = 0;
  virtual Status l2_normalize(const RowNorm& p, int64_t rows) const = 0;
  virtual Status reduce(const Reduction& p, int64_t results) const = 0;
  virtual Status map_unary(UnaryKernel f, float parameter, DType x_type, const void* x,
                           DType y_type, void* y, int64_t n) const = 0;
  virtual Status map_binary(const Binary& p) const = 0;
  virtual Status rotate(const Rotation& p) const = 0;
};

// What runs an operator. Nothing is returned for what it leaves to the reference: other element
// types, shapes that are wrong, rare attributes. Floats lie where allocate() puts them, integers on
// the host.
using Outcome = Result<std::optional<Tensors>>;
inline Outcome not_handled() { return std::optional<Tensors>(); }
inline Outcome done(Tensors outputs) { return std::optional<Tensors>(std::move(outputs)); }

using KernelFn = Outcome (*)(const KernelBackend& backend, const Node& node,
                             std::span<const Tensor> inputs);
// The function for a node's operator, or null.
KernelFn find_kernel(const Node& node);
// A required operand may be absent: a body's capture that is not given. The reference says so.
bool has_required(const Node& node, std::span<const Tensor> inputs);

// B of a product whose second operand is `w`, if that is how its weight is taken.
std::optional<MatrixView> weight_view(const Node& node, const Tensor& w);

// True where all are float32 and none is absent.
bool all_float32(std::span<const Tensor> inputs);
// True where all are of one `type` that kernels know (operands.h) and none is absent.
bool all_of_one_type(std::span<const Tensor> inputs);

Outcome run_linear(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_matmul(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_gemm(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_softmax(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_layer_norm(const KernelBackend& backend, const Node& node,
                       std::span<const Tensor> inputs);
Outcome run_rms_norm(const KernelBackend& backend, const Node& node,
                     std::span<const Tensor> inputs);
Outcome run_l2_normalize(const KernelBackend& backend, const Node& node,
                         std::span<const Tensor> inputs);
Outcome run_reduction(const KernelBackend& backend, const Node& node,
                      std::span<const Tensor> inputs);
Outcome run_mean_pool(const KernelBackend& backend, const Node& node,
                      std::span<const Tensor> inputs);
Outcome run_unary(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_cast(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_binary(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_rotary(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs);

}  // namespace verbatim
