// Elementwise kernels over all threads, and operators that compute in binary32 on 16-bit types.
#include <algorithm>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {

Status CpuBackend::map_unary(UnaryKernel f, float parameter, DType x_type, const void* x,
                             DType y_type, void* y, int64_t n) const {
  const auto x_size = static_cast<int64_t>(size_of(x_type)),
             y_size = static_cast<int64_t>(size_of(y_type));
  parallel_for(n, kElementGrain, [&](int64_t from, int64_t to) {
    kernels_.map_unary(f, parameter, x_type, static_cast<const std::byte*>(x) + from * x_size,
                       y_type, static_cast<std::byte*>(y) + from * y_size, to - from);
  });
  return {};
}

Status CpuBackend::map_binary(const Binary& p) const {
  const auto size = static_cast<int64_t>(size_of(p.type));
  const auto *a = static_cast<const std::byte*>(p.a), *b = static_cast<const std::byte*>(p.b);
  auto* out = static_cast<std::byte*>(p.out);
  parallel_for(p.elements, kElementGrain, [&](int64_t from, int64_t to) {
    StridedWalk a_walk(p.outer, p.a_strides), b_walk(p.outer, p.b_strides);
    a_walk.seek(from / p.length);
    b_walk.seek(from / p.length);
    for (; from < to; a_walk.next(), b_walk.next()) {
      const int64_t done = from % p.length, count = std::min(to - from, p.length - done);
      kernels_.map_binary(p.f, p.type, a + (a_walk.offset() + done * p.a_step) * size, p.a_step,
                          b + (b_walk.offset() + done * p.b_step) * size, p.b_step,
                          out + from * size, count);
      from += count;
    }
  });
  return {};
}

Status CpuBackend::rotate(const Rotation& p) const {
  const auto element = static_cast<int64_t>(size_of(p.type));
  const int64_t turned = 2 * p.half * element, whole = p.size * element;
  parallel_for(p.positions, 16, [&](int64_t from, int64_t to) {
    for (int64_t v = from * p.heads; v < to * p.heads; ++v) {
      const int64_t table = v / p.heads % p.table_rows * p.half;
      const auto* in = static_cast<const std::byte*>(p.x) + v * whole;
      auto* out = static_cast<std::byte*>(p.y) + v * whole;
      std::copy(in + turned, in + whole, out + turned);
      kernels_.rotate_halves(p.type, in, p.cosine + table, p.sine + table, out, p.half);
    }
  });
  return {};
}

Outcome run_on_floats(FloatsFn run, const CpuBackend& backend, const Node& node,
                      std::span<const Tensor> inputs, size_t operands) {
  if (!all_of_one_type(inputs.first(operands))) return not_handled();
  const DType type = inputs[0].dtype();
  if (type == DType::f32) return run(backend, node, inputs, type);
  Tensors wide(inputs.begin(), inputs.end());
  for (size_t i = 0; i < operands; ++i) {
    const Tensor& x = inputs[i];
    VB_ASSIGN(wide[i], Tensor::allocate(DType::f32, x.shape(), Purpose::scratch));
    VB_TRY(backend.map_unary(UnaryKernel::convert, 0, type, x.bytes().data(), DType::f32,
                             wide[i].mutable_bytes().data(), x.elements()));
  }
  return run(backend, node, wide, type);
}

Result<FloatsResult> start_floats(DType type, const Shape& shape) {
  FloatsResult r;
  VB_ASSIGN(r.result, Tensor::allocate(type, shape));
  r.floats = r.result;
  if (type != DType::f32) {
    VB_ASSIGN(r.floats, Tensor::allocate(DType::f32, shape, Purpose::scratch));
  }
  return r;
}

Outcome finish_floats(const CpuBackend& backend, FloatsResult r) {
  if (r.result.dtype() != DType::f32) {
    VB_TRY(backend.map_unary(UnaryKernel::convert, 0, DType::f32, r.floats.bytes().data(),
                             r.result.dtype(), r.result.mutable_bytes().data(),
                             r.result.elements()));
  }
  return done({r.result});
}

}  // namespace verbatim
