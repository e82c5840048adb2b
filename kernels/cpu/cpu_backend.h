// The backend of one vector target: operators that cost time run its kernels, every other one its
// scalar reference.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/kernels/kernel_backend.h>
#include <verbatim/repops/backend.h>
#include <verbatim/repops/ops/grouped.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim {

// `count` matrices of b's form, `stride` elements apart, packed one after the other, in its type:
// [count, panels, k, panel].
Result<Tensor> pack_matrices(const CpuKernels& kernels, const MatrixView& b, int64_t count,
                             int64_t stride);

// Rows of codes [n, k] as one of the products wants them: floats for those that tensor cores
// compute, int8 for exact ones, of which a third dimension before the others gives slices, and int8
// with group scales, integers or floats, in fewer bits where those hold them.
struct PackedCodes {
  Tensor codes;         // uint16 [panels, padded k, panel], int8 [slices, panels, bytes], or uint32
                        // [panels, groups, words, panel]
  Tensor infos;         // int16 [panels, panel + kTensorCoreInfo], of floats
  Tensor group_scales;  // uint8 or bfloat16 [panels, groups, panel]
  int bits = 0;         // with group scales; 0: no kernel takes these, and nothing is packed
};
// Refuses int8 codes that are out of range. group_scales may be undefined. `group`: elements that
// share a floating scale; 0: scales, if any, are integers.
Result<PackedCodes> pack_codes(const CpuKernels& kernels, const Tensor& w,
                               const Tensor& group_scales, int64_t group);
Result<PackedCodes> pack_floats(const CpuKernels& kernels, const Tensor& w);
Result<PackedCodes> pack_slices(const CpuKernels& kernels, const Tensor& w);
Result<PackedCodes> pack_low_bit(const CpuKernels& kernels, const Tensor& codes,
                                 const Tensor& group_scales);
Result<PackedCodes> pack_groups(const CpuKernels& kernels, const GroupedRows& w);

class CpuBackend final : public KernelBackend {
 public:
  explicit CpuBackend(const CpuKernels& kernels) : kernels_(kernels) {}

  std::string_view name() const override { return kernels_.name; }
  // Packs the weights of every product, in memory as large as they are, and looks through those of
  // Conv. They stay until the backend goes.
  Status prepare(const Graph& graph) override;
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override;

  Result<Tensor> allocate(DType type, const Shape& shape, Purpose purpose) const override {
    return Tensor::allocate(type, shape, purpose);
  }
  Status multiply(const Product& p, const MatrixView& b, int64_t matrices, int64_t m,
                  std::span<const MatrixPair> pairs) const override;
  Status softmax(DType type, const void* x, void* y, int64_t rows, int64_t n) const override;
  Status layer_norm(const RowNorm& p, int64_t rows) const override;
  Status rms_norm(const RowNorm& p, int64_t rows) const override;
  Status l2_normalize(const RowNorm& p, int64_t rows) const override;
  Status reduce(const Reduction& p, int64_t results) const override;
  Status map_unary(UnaryKernel f, float parameter, DType x_type, const void* x, DType y_type,
                   void* y, int64_t n) const override;
  Status map_binary(const Binary& p) const override;
  Status rotate(const Rotation& p) const override;

  const CpuKernels& kernels() const { return kernels_; }
  // The packed form of `b`: as prepared, or packed now.
  Result<Tensor> packed(const MatrixView& b) const;
  Result<PackedCodes> packed_codes(const Tensor& w, const Tensor& group_scales = {},
                                   int64_t group = 0) const;
  // Whether no element of a float32 tensor is infinite or a NaN: as prepared, or looked at now.
  bool all_finite(const Tensor& t) const;

 private:
  // Storage, type, k, n, n_stride.
  using Key = std::tuple<const std::byte*, DType, int64_t, int64_t, int64_t>;
  struct Packed {
    Tensor source;  // kept, so that no other tensor can come to lie where it does
    Tensor panels;
  };
  // Storage of codes and of group scales, the group, types of both and dims of the codes.
  using CodesKey =
      std::tuple<const std::byte*, const std::byte*, int64_t, DType, DType, std::vector<int64_t>>;
  struct PreparedCodes {
    Tensor source, group_scales;
    PackedCodes packed;
  };
  void prepare_codes(const Tensor& w, const Tensor& group_scales, int64_t group);
  // `weights`: for each value of the graph its tensor, if that is the same in every run.
  Status prepare(const Graph& graph, const std::vector<Tensor>& weights);
  static Key key_of(const MatrixView& b) { return {b.data, b.type, b.k, b.n, b.n_stride}; }
  static CodesKey key_of(const Tensor& w, const Tensor& group_scales, int64_t group);

  const CpuKernels& kernels_;
  mutable std::shared_mutex mutex_;
  std::map<Key, Packed> prepared_;
  std::map<CodesKey, PreparedCodes> prepared_codes_;
  std::map<const std::byte*, Tensor> finite_;  // weights of Conv by storage, kept as sources are
};

// Operators that only the processor has kernels for.
using RunFn = Outcome (*)(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);
Outcome run_convolution(const CpuBackend& backend, const Node& node,
                        std::span<const Tensor> inputs);
Outcome run_attention(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs);
Outcome run_int8_attention(const CpuBackend& backend, const Node& node,
                           std::span<const Tensor> inputs);
Outcome run_tensor_core_attention(const CpuBackend& backend, const Node& node,
                                  std::span<const Tensor> inputs);
Outcome run_attention_sparse(const CpuBackend& backend, const Node& node,
                             std::span<const Tensor> inputs);
Outcome run_attention_levels(const CpuBackend& backend, const Node& node,
                             std::span<const Tensor> inputs);
// The vector units' form of quantize_row_codes (repops/ops/quantized.h).
QuantizeRowsFn quantize_rows_fn(const CpuKernels& kernels);
Outcome run_quantize_rows(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);
Outcome run_quantize_keys(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);
Outcome run_quantize_values(const CpuBackend& backend, const Node& node,
                            std::span<const Tensor> inputs);
Outcome run_quantized_linear(const CpuBackend& backend, const Node& node,
                             std::span<const Tensor> inputs);
// The part of run_quantized_linear that has group scales.
Outcome run_low_bit_linear(const CpuBackend& backend, std::span<const Tensor> inputs);
Outcome run_grouped_linear(const CpuBackend& backend, const Node& node,
                           std::span<const Tensor> inputs);
Outcome run_quantize_groups(const CpuBackend& backend, const Node& node,
                            std::span<const Tensor> inputs);
Outcome run_dequantize_groups(const CpuBackend& backend, const Node& node,
                              std::span<const Tensor> inputs);
Outcome run_sliced_linear(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);
Outcome run_tensor_core_linear(const CpuBackend& backend, const Node& node,
                               std::span<const Tensor> inputs);
Outcome run_fixed_product(const CpuBackend& backend, const Node& node,
                          std::span<const Tensor> inputs);

// Runs an operator that computes in binary32 and rounds once, at its end, on its first `operands`,
// all of one type: by what runs it on floats, for a result of `type`.
using FloatsFn = Outcome (*)(const CpuBackend& backend, const Node& node,
                             std::span<const Tensor> inputs, DType type);
Outcome run_on_floats(FloatsFn run, const CpuBackend& backend, const Node& node,
                      std::span<const Tensor> inputs, size_t operands);

// A result, and where its floats are computed: there, or in scratch memory if it is of 16 bits.
// Both are allocated before anything is computed, as the limits of a node are asked then.
struct FloatsResult {
  Tensor result, floats;
};
Result<FloatsResult> start_floats(DType type, const Shape& shape);
Outcome finish_floats(const CpuBackend& backend, FloatsResult r);

// Scratch memory of the calling thread, at least `size` floats, aligned to 64 bytes; its contents
// are whatever the last use left.
float* thread_scratch(size_t size);

}  // namespace verbatim
