// Products in binary32: packing of the second operand and tasks over tiles of the result.
#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

// A task copies its rows of A and reads its columns of B once: the larger it is, the less that
// costs. Smaller ones are for threads that would have none.
constexpr int64_t kTaskColumns = 2048, kLeastRows = 96, kLeastColumns = 256, kTasksOfThread = 8;

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

// `matrices` products with m rows each; product(i) describes the i-th. How they are cut into tasks
// changes no bit: each element is one chain for each block of K.
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

}  // namespace

Result<Tensor> pack_matrices(const CpuKernels& kernels, const MatrixView& b, int64_t count,
                             int64_t stride) {
  const int64_t panels = ceiling(b.n, kernels.panel);
  const int64_t dims[] = {count, panels, b.k, kernels.panel};
  VB_ASSIGN(const Shape shape, Shape::of(dims));
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

Status CpuBackend::multiply(const Product& p, const MatrixView& b, int64_t matrices, int64_t m,
                            std::span<const MatrixPair> pairs) const {
  Tensor panels;
  if (matrices == 1) {
    VB_ASSIGN(panels, packed(b));
  } else {
    VB_ASSIGN(panels, pack_matrices(kernels_, b, matrices, b.k * b.n));
  }
  const auto size = static_cast<int64_t>(size_of(b.type));
  const int64_t a_bytes = m * b.k * size,
                b_bytes = ceiling(b.n, kernels_.panel) * kernels_.panel * b.k * size,
                out_bytes = m * b.n * size;
  multiply_all(kernels_, static_cast<int64_t>(pairs.size()), m, b.n, [&](int64_t i) {
    Product one = p;
    one.type = b.type;
    one.a = static_cast<const std::byte*>(p.a) + pairs[i].first * a_bytes;
    one.b = panels.bytes().data() + pairs[i].second * b_bytes;
    one.n = b.n;
    one.k = b.k;
    one.out = static_cast<std::byte*>(p.out) + i * out_bytes;
    one.out_row = b.n;
    return one;
  });
  return {};
}

}  // namespace verbatim
