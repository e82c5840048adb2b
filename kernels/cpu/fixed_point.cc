// FixedDot and FixedSquaredDistance: many queries against many vectors, tasks over tiles of the
// result.
#include <verbatim/repops/ops/fixed_point.h>

#include <algorithm>
#include <array>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

constexpr int64_t kTaskRows = 32, kTaskColumns = 64;

struct Rows {
  const int32_t* codes = nullptr;
  int64_t count = 0, k = 0;
  Tensor norms;  // uint64 [count], as CpuKernels::fixed_norm gives them
  const uint64_t* norm = nullptr;

  const int32_t* operator[](int64_t i) const { return codes + i * k; }
  bool narrow(int64_t from, int64_t to) const {
    return std::none_of(norm + from, norm + to, [](uint64_t n) { return n >= kWideFixedNorm; });
  }
};

// Norms are a pass over the rows of their own: cheap beside the products where rows meet many
// others, and what makes a squared distance as cheap as a dot.
Result<Rows> rows_of(const CpuKernels& kernels, const Tensor& codes, int64_t count, int64_t k) {
  Rows rows{codes.data<int32_t>().data(), count, k, {}, nullptr};
  VB_ASSIGN(rows.norms, Tensor::allocate(DType::u64, Shape{count}, Purpose::scratch));
  uint64_t* norms = rows.norms.mutable_data<uint64_t>().data();
  parallel_for(count, kTaskColumns, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) norms[i] = kernels.fixed_norm(rows[i], k);
  });
  rows.norm = norms;
  return rows;
}

struct Tile {
  int64_t row, row_end, column, column_end;
};

template <class T>
struct FixedProduct {
  const CpuKernels& kernels;
  Rows a, b;
  bool distance;  // squared distances, else dots
  T* out;         // [a.count, b.count]: int32 rounded, int64 exact

  template <class Sum>
  Saturated<T> stored(Sum exact) const {
    if constexpr (sizeof(T) == sizeof(int64_t)) return saturate_fixed<T>(exact);
    return saturate_fixed<T>(round_fixed(exact));
  }

  // One tile; counts[i] is the number of its results in row tile.row + i that were saturated.
  void run(const Tile& t, int64_t* counts) const {
    if (a.narrow(t.row, t.row_end) && b.narrow(t.column, t.column_end)) return narrow(t, counts);
    fill(t, counts, [&](int64_t m, int64_t n) {
      return distance ? fixed_squared_distance(a[m], b[n], a.k) : fixed_dot(a[m], b[n], a.k);
    });
  }

  // Norms below 2^61: a dot is below 2^61, and |a - b|^2 = |a|^2 + |b|^2 - 2 a.b below 2^63. All
  // are exact integers, so the identity loses nothing.
  void narrow(const Tile& t, int64_t* counts) const {
    std::array<int64_t, kTaskRows * kTaskColumns> sums;
    kernels.fixed_dots(a[t.row], t.row_end - t.row, b[t.column], t.column_end - t.column, a.k,
                       sums.data(), kTaskColumns);
    fill(t, counts, [&](int64_t m, int64_t n) {
      const int64_t dot = sums[(m - t.row) * kTaskColumns + n - t.column];
      return distance ? static_cast<int64_t>(a.norm[m] + b.norm[n]) - 2 * dot : dot;
    });
  }

  template <class Exact>
  void fill(const Tile& t, int64_t* counts, Exact&& exact) const {
    for (int64_t m = t.row; m < t.row_end; ++m) {
      int64_t count = 0;
      for (int64_t n = t.column; n < t.column_end; ++n) {
        const Saturated<T> s = stored(exact(m, n));
        out[m * b.count + n] = s.code;
        count += s.saturated;
      }
      counts[m - t.row] = count;
    }
  }
};

template <class T>
Outcome run_product(const CpuKernels& kernels, const FixedProductShape& s,
                    std::span<const Tensor> inputs, bool distance) {
  VB_ASSIGN(Rows a, rows_of(kernels, inputs[0], s.m, s.k));
  VB_ASSIGN(Rows b, rows_of(kernels, inputs[1], s.n, s.k));
  const int64_t row_tasks = (s.m + kTaskRows - 1) / kTaskRows,
                column_tasks = (s.n + kTaskColumns - 1) / kTaskColumns;
  VB_ASSIGN(Tensor partial, Tensor::allocate(DType::i64, {column_tasks, s.m}, Purpose::scratch));
  VB_ASSIGN(Tensor out, Tensor::allocate(dtype_of<T>(), s.out));
  VB_ASSIGN(Tensor saturations, Tensor::zeros(DType::i64, s.rows));
  int64_t *counts = partial.mutable_data<int64_t>().data(),
          *totals = saturations.mutable_data<int64_t>().data();
  const FixedProduct<T> product{kernels, std::move(a), std::move(b), distance,
                                out.mutable_data<T>().data()};
  parallel_for(row_tasks * column_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / column_tasks * kTaskRows, column = i % column_tasks * kTaskColumns;
      product.run(
          {row, std::min(row + kTaskRows, s.m), column, std::min(column + kTaskColumns, s.n)},
          counts + i % column_tasks * s.m + row);
    }
  });
  for (int64_t i = 0; i < partial.elements(); ++i) totals[i % s.m] += counts[i];
  return done({out, saturations});
}

}  // namespace

Outcome run_fixed_product(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs) {
  if (inputs.size() < 2 || !inputs[0].defined() || !inputs[1].defined()) return not_handled();
  const Result<FixedProductShape> s = check_fixed_product(node, inputs);
  if (!s.ok()) return not_handled();
  const bool distance = node.op == "FixedSquaredDistance";
  return s->exact ? run_product<int64_t>(backend.kernels(), *s, inputs, distance)
                  : run_product<int32_t>(backend.kernels(), *s, inputs, distance);
}

}  // namespace verbatim
