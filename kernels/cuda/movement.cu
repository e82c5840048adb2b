// Copies that move elements and keep their bytes.
#include <vector>

#include <verbatim/core/shape.h>
#include <verbatim/kernels/cuda/gpu.h>

namespace verbatim::cuda {
namespace {

struct Dims {
  int rank = 0;
  int64_t size[kMaxRank], to[kMaxRank], from[kMaxRank];  // innermost first
};

template <class T>
__global__ void __launch_bounds__(256) move_elements(T* to, const T* from, int64_t n, Dims dims) {
  const int64_t grid = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += grid) {
    int64_t rest = i, at_to = 0, at_from = 0;
    for (int d = 0; d < dims.rank; ++d) {
      const int64_t next = rest / dims.size[d], index = rest - next * dims.size[d];
      at_to += index * dims.to[d];
      at_from += index * dims.from[d];
      rest = next;
    }
    to[at_to] = from[at_from];
  }
}

// Rows of row_bytes, each with zeros behind it to `stride` bytes.
__global__ void __launch_bounds__(256)
    pad(std::byte* to, const std::byte* from, int64_t n, int64_t row_bytes, int64_t stride) {
  each_element(n, [&](int64_t i) {
    const int64_t row = i / stride, byte = i - row * stride;
    to[i] = byte < row_bytes ? from[row * row_bytes + byte] : std::byte{0};
  });
}

// Block b of `words` words from offsets[b].
template <class Word>
__global__ void __launch_bounds__(256)
    gather_blocks(Word* to, const std::byte* from, const int64_t* offsets, int64_t blocks,
                  int64_t words) {
  for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
    const auto* block = reinterpret_cast<const Word*>(from + offsets[b]);
    for (int64_t i = threadIdx.x; i < words; i += blockDim.x) to[b * words + i] = block[i];
  }
}

// Dimensions that lie in both operands as if they were one are joined.
Dims joined(std::span<const int64_t> dims, std::span<const int64_t> to,
            std::span<const int64_t> from) {
  Dims d;
  for (size_t i = dims.size(); i-- > 0;) {
    if (dims[i] == 1) continue;
    const int last = d.rank - 1;
    if (last >= 0 && to[i] == d.to[last] * d.size[last] && from[i] == d.from[last] * d.size[last]) {
      d.size[last] *= dims[i];
      continue;
    }
    d.size[d.rank] = dims[i];
    d.to[d.rank] = to[i];
    d.from[d.rank++] = from[i];
  }
  return d;
}

template <class T>
Status move_as(Gpu& gpu, void* to, const void* from, int64_t n, const Dims& dims) {
  return launch(gpu, grid_for(n), move_elements<T>, static_cast<T*>(to),
                static_cast<const T*>(from), n, dims);
}

}  // namespace

Result<Tensor> in_whole_words(Gpu& gpu, const void* from, int64_t rows, int64_t row_bytes) {
  const int64_t stride = ceiling(row_bytes, 16) * 16, n = rows * stride;
  VB_ASSIGN(Tensor to,
            Tensor::allocate_on(gpu, DType::u8, {Shape{rows, stride}}, Purpose::scratch));
  if (n > 0)
    VB_TRY(launch(gpu, grid_for(n), pad, to.mutable_address(), static_cast<const std::byte*>(from),
                  n, row_bytes, stride));
  return to;
}

Status Gpu::copy_strided(size_t width, std::span<const int64_t> dims, void* to,
                         std::span<const int64_t> to_strides, const void* from,
                         std::span<const int64_t> from_strides) {
  int64_t n = 1;
  for (const int64_t size : dims) n *= size;
  if (n == 0) return {};
  const Dims d = joined(dims, to_strides, from_strides);
  if (d.rank == 0 || (d.rank == 1 && d.to[0] == 1 && d.from[0] == 1))
    return copy(to, from, static_cast<size_t>(n) * width);
  if (width == 1) return move_as<uint8_t>(*this, to, from, n, d);
  if (width == 2) return move_as<uint16_t>(*this, to, from, n, d);
  if (width == 4) return move_as<uint32_t>(*this, to, from, n, d);
  return move_as<uint64_t>(*this, to, from, n, d);
}

Status Gpu::copy_blocks(void* to, const void* from, size_t bytes,
                        std::span<const int64_t> offsets) {
  if (offsets.empty() || bytes == 0) return {};
  const auto count = static_cast<int64_t>(offsets.size());
  VB_ASSIGN(const Tensor at, upload(*this, offsets));
  const auto* where = reinterpret_cast<const int64_t*>(at.address());
  const auto* source = static_cast<const std::byte*>(from);
  const Grid grid{.blocks = {static_cast<unsigned>(least(count, kMostBlocks)), 1, 1},
                  .threads = {256, 1, 1}};
  const auto words = static_cast<int64_t>(bytes);
  if (bytes % 4 == 0 && reinterpret_cast<uintptr_t>(from) % 4 == 0)
    return launch(*this, grid, gather_blocks<uint32_t>, static_cast<uint32_t*>(to), source, where,
                  count, words / 4);
  return launch(*this, grid, gather_blocks<uint8_t>, static_cast<uint8_t*>(to), source, where,
                count, words);
}

}  // namespace verbatim::cuda
