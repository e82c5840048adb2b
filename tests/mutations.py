#!/usr/bin/env python3
"""Would the tests see it? Applies each deliberate deviation from docs/numerics.md (those whose name holds a WORD) to a copy of the tree
in build/mutations, builds the tests there, and lets them turn red. --applies says in a moment which of them no longer fit the sources,
and builds nothing. --jobs N works on N copies at once (ccache fills all but the first).

Prints "mutation | caught by" as Markdown; exits with 1 where a mutation survives or no longer applies exactly once. More than an hour
on two cores, ten minutes on sixteen; not part of CI.
"""
import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPS = "repops/ops/"
TARGET = "kernels/cpu/target/"

# (what, [(file, old, new), ...]); kernels_test compares every backend with the golden files, and where those see nothing, with the
# reference.
MUTATIONS = [
    ("product of the reference: fma split into a product and a sum", [(OPS + "matmul.h", "acc = fma_of(a, b, acc)", "acc = a * b + acc")]),
    ("product of vector code: fma split", [(TARGET + "product_tile.h", "acc[r][v] = fma(x, column[v], acc[r][v])",
                                            "acc[r][v] = x * column[v] + acc[r][v]")]),
    ("fma without hardware: sum rounded twice, not to odd", [("repops/semantics.h", "if (error != 0 && (bits & 1)", "if (false && (bits & 1)")]),
    ("sum of squares: fma split", [(OPS + "sum.h", "return fma_of(value(i), value(i), lane);", "return value(i) * value(i) + lane;")]),
    ("attention's merge: fma split", [(OPS + "attention.cc", "a.l = fma32(b.l, beta, a.l * alpha)", "a.l = b.l * beta + a.l * alpha")]),
    ("attention's values: fma split", [(OPS + "attention_row.h", "state.o[j] = fma32(p, load(v[j]), state.o[j])",
                                        "state.o[j] = p * load(v[j]) + state.o[j]")]),
    ("rotary embedding: a * c - b * s fused", [(OPS + "attention_row.h", "store<T>(a * c - b * s)", "store<T>(fma32(a, c, -(b * s)))")]),
    ("LayerNormalization of vector code: * gamma + beta fused",
     [(TARGET + "rows.cc", "if (gamma) v = v * (p.gamma_step ? load_up_to(gamma + i, count, zero()) : all(*gamma));",
       "if (gamma && !beta) v = v * (p.gamma_step ? load_up_to(gamma + i, count, zero()) : all(*gamma));"),
      (TARGET + "rows.cc", "if (beta) v = v + (p.beta_step ? load_up_to(beta + i, count, zero()) : all(*beta));",
       "if (beta) v = fma(v, gamma ? (p.gamma_step ? load_up_to(gamma + i, count, zero()) : all(*gamma)) : all(1.0f),"
       " p.beta_step ? load_up_to(beta + i, count, zero()) : all(*beta));")]),
    ("sums down columns of vector code: lanes combine by neighbours",
     [(TARGET + "reductions.cc", "for (int s = kSumLanes / 2; s > 0; s /= 2)\n      for (int j = 0; j < s; ++j)",
       "for (int s = 1; s < kSumLanes; s *= 2)\n      for (int j = 0; j + s < kSumLanes; j += 2 * s)")]),
    ("products of 16 bits in vector code: rounded once before the bias", [(TARGET + "product.cc", "!kFloats<T> && p.rounded_before_c", "false")]),
    ("bf16 of vector code truncates", [("kernels/cpu/simd.h", "shift_right<16>(x + odd + all_int(0x7FFF))", "shift_right<16>(x)")]),
    ("quantised product: the scales multiplied one after another",
     [(OPS + "quantized.cc", "static_cast<float>(sum) * (x_scales[m] * w_scales[n])", "static_cast<float>(sum) * x_scales[m] * w_scales[n]")]),
    ("sum of 16 lanes", [("repops/semantics.h", "kSumLanes = 32", "kSumLanes = 16")]),
    ("sum in blocks of 512", [(OPS + "sum.h", "begin < n; begin += kSumBlock", "begin < n; begin += 512"),
                              (OPS + "sum.h", "std::min(kSumBlock, n - begin)", "std::min<int64_t>(512, n - begin)")]),
    ("sum: a lane starts from +0", [(OPS + "sum.h", "lane[j] = first(begin + j)", "lane[j] = T{0} + first(begin + j)")]),
    ("sum: lanes combine by neighbours", [(OPS + "sum.h", "for (int s = kSumLanes / 2; s > 0; s /= 2)\n      for (int j = 0; j < s && j + s < lanes; ++j) lane[j] = lane[j] + lane[j + s];",
                                           "for (int s = 1; s < kSumLanes; s *= 2)\n      for (int j = 0; j + s < lanes; j += 2 * s) lane[j] = lane[j] + lane[j + s];")]),
    ("product in blocks of 256", [("repops/semantics.h", "kProductBlock = 512", "kProductBlock = 256")]),
    ("product: block results added to +0", [(OPS + "matmul.h", "total = begin == 0 ? acc : total + acc", "total = total + acc")]),
    ("subnormals flushed to zero", [("core/fp_guard.cc", "  if ((saved_ & kControl) == 0) return;\n", "  write_control(saved_ | 0x8040);\n  return;\n")]),
    ("libm's expf", [("repops/unary_f32.h", "return rounded([](auto v) { return exp_value(v); }, clamp(x, kExpLimit));", "return std::exp(x);")]),
    ("libm's logf", [("repops/unary_f32.h", "return logarithm([](auto v) { return log_value<decltype(v)>(v); }, x);",
                      "return x > 0 ? std::log(x) : logarithm([](auto v) { return log_value<decltype(v)>(v); }, x);")]),
    # glibc 2.36's exp in binary64, rounded, is right on all inputs, and so no mutation; its log is wrong on 5.
    ("libm's log in binary64, rounded", [("repops/unary_f32.h", "return logarithm([](auto v) { return log_value<decltype(v)>(v); }, x);",
                                          "return x > 0 ? static_cast<float>(std::log(static_cast<double>(x)))"
                                          " : logarithm([](auto v) { return log_value<decltype(v)>(v); }, x);")]),
    ("no second evaluation where rounding is in doubt", [("repops/unary_f32.h", "if (rounds_safely(y, kFastError)) [[likely]]", "if (y == y)")]),
    ("slices truncate", [(OPS + "sliced.h", "const double code = (rest + kShift) - kShift;", "const double code = static_cast<double>(static_cast<int64_t>(rest));")]),
    ("quantised rows truncate", [(OPS + "quantized.h", "static_cast<int8_t>(round_even(x < -limit ? -limit : x > limit ? limit : x))",
                                  "static_cast<int8_t>(x < -limit ? -limit : x > limit ? limit : x)")]),
    ("QuantizeLinear rounds halves away from 0", [(OPS + "quantization.cc", "round_even_of(x / scale)", "truncate_of(x / scale + (x < 0 ? C(-0.5) : C(0.5)))")]),
    ("bf16 truncates", [(OPS + "number.h", "return BFloat16{bfloat16_from_float(value)};",
                         "return BFloat16{is_nan(value) ? kBFloat16NanBits : static_cast<uint16_t>(bits_of(value) >> 16)};")]),
    ("fp16 by way of a rounding of binary64 to binary32", [(OPS + "elementwise.cc", "return store<To>(round_to_odd(x));", "return store<To>(static_cast<float>(x));")]),
    ("e4m3 does not saturate", [("repops/semantics.h", ": saturate        ? 0x7E\n                                                        : kE4M3NanBits));",
                                 ": kE4M3NanBits));")]),
    ("ArgMax: the greater index in ties", [(OPS + "reduction.cc", "next > have : next < have;", "next >= have : next <= have;")]),
    ("TopK: the greater index in ties", [(OPS + "reduction.cc", "if (nan_p || p == q) return i < j;", "if (nan_p || p == q) return i > j;")]),
    ("TopK: NaN first", [(OPS + "reduction.cc", "if (nan_p != nan_q) return nan_q;", "if (nan_p != nan_q) return nan_p;")]),
    ("maximum takes the number, not NaN", [(OPS + "arithmetic.h", "  if constexpr (std::is_integral_v<C>)\n    return a > b ? a : b;\n  else\n    return maximum(a, b);",
                                            "  if constexpr (std::is_integral_v<C>)\n    return a > b ? a : b;\n  else\n    return a != a ? b : b != b ? a : maximum(a, b);")]),
    ("maximum does not tell -0 from +0", [(OPS + "arithmetic.h", "  if constexpr (std::is_integral_v<C>)\n    return a > b ? a : b;\n  else\n    return maximum(a, b);",
                                           "  return a > b ? a : b;")]),
    ("a NaN's payload is kept", [(OPS + "number.h", "  else if constexpr (std::is_floating_point_v<T>)\n    return canonical(value);", "")]),
    ("Where makes NaN canonical", [(OPS + "elementwise.cc", "z[i] = c[at[0]] ? px[at[1]] : py[at[2]];",
                                    "z[i] = c[at[0]] ? px[at[1]] : py[at[2]];\n          if constexpr (std::is_same_v<T, float>) z[i] = canonical(z[i]);")]),
    ("attention: blocks merge in the other order",
     [(OPS + "attention.h", "running = merge(\n          std::move(running),\n          block_state(std::max(block, keys.first), std::min(block + kKeyBlock, part_end)), exp2);",
       "running = merge(block_state(std::max(block, keys.first), std::min(block + kKeyBlock, part_end)), running, exp2);")]),
    ("attention: no restart at 2048 keys", [("repops/semantics.h", "kKeyRestart = 2048", "kKeyRestart = 4096")]),
    ("attention: blocks of 64 keys", [(OPS + "attention.h", "block += kKeyBlock)", "block += 64)"),
                                      (OPS + "attention.h", "std::min(block + kKeyBlock, part_end)", "std::min<int64_t>(block + 64, part_end)")]),
    ("attention: lanes in ascending order", [(OPS + "attention.h", "return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));",
                                              "return lane[0] + lane[1] + lane[2] + lane[3] + lane[4] + lane[5] + lane[6] + lane[7];")]),
    ("attention: a key's lane is its index in the row", [(OPS + "attention_row.h", "lane[key[i] % kKeyLanes] += p;", "lane[i % kKeyLanes] += p;")]),
    ("attention: a window hides one key fewer", [(OPS + "attention.h", "position - window + 1, end", "position - window, end")]),
    ("int8 attention: exp2 for exp2p", [(OPS + "int8_attention.cc", "const float w = exp2p(t);", "const float w = exp2_f32(t);")]),
    ("int8 attention: weights up to 128", [(OPS + "int8_weights.h", "kMostCodeExponent = 7 - 6 / 512.0f", "kMostCodeExponent = 7")]),
    ("int8 attention: l's weights of 11 bits", [(OPS + "int8_weights.h", "(slices == 2 ? 18 : 10)", "(slices == 2 ? 18 : 11)")]),
    ("int8 attention: a block's greatest score is that of its greatest weight",
     [(OPS + "int8_attention.cc", "z[i] = z[i] - e;", "z[i] = z[i] - g;")]),
    ("int8 attention of vector code: no NaN is looked for",
     [(TARGET + "int8_attention.cc", "const bool has_nan = ", "const bool has_nan = false && ")]),
    ("rotation without the reflection", [(OPS + "quantized.cc", "if (blocks <= 1 || block == 1) return;", "if (block >= 1) return;")]),
    ("sliced product of vector code: spans of K before the last left out of the totals",
     [(TARGET + "sliced.cc", "if (!t.in_first_span) {\n    first_half", "if (false) {\n    first_half")]),
    ("sliced product of vector code: pairs of one weight taken once",
     [(TARGET + "sliced.cc", "least(level + 1, t.p->a_count)}", "least(level + 1, greatest(0, level - t.p->b_count + 1) + 1)}")]),
    ("quantised product of vector code: the scales multiplied one after another",
     [(TARGET + "sliced.cc", "to_nearest_float(load(sum)) * (all(a_scales[r]) * scale)", "to_nearest_float(load(sum)) * all(a_scales[r]) * scale")]),
    ("low-bit product of vector code: sums of groups in binary32",
     [(TARGET + "low_bit.cc", "result[r][c] += lanes[c];", "result[r][c] = static_cast<int64_t>(static_cast<float>(result[r][c]) + static_cast<float>(lanes[c]));")]),
    ("group product: fma split", [(OPS + "grouped.cc", "acc = fma32(static_cast<float>(dot), x.scale(m, g) * w.scale(n, g), acc);",
                                   "acc = acc + static_cast<float>(dot) * (x.scale(m, g) * w.scale(n, g));")]),
    ("group product of vector code: a dot times one scale, then times the other",
     [(TARGET + "grouped.cc", "fma(to_nearest_float(D::whole(sum[r][v])), own * scale[v], fold[r][v])",
       "fma(to_nearest_float(D::whole(sum[r][v])) * own, scale[v], fold[r][v])")]),
    ("group quantiser of vector code: ties of e4m3 go away from 0",
     [(TARGET + "quantize_groups.cc", "(rebased + 0x7FFFF + (rebased >> 20 & 1)) >> 20", "(rebased + 0x80000) >> 20")]),
    ("tensor-core products of vector code: no group of terms is crowded", [(TARGET + "tensor_core_step.h", "if (sum >= 15 * kOne) return true;", "")]),
    ("tensor-core products of vector code: terms left out may count", [(TARGET + "tensor_core_step.h", "careful ? kCarefulField << 23 : 0", "0")]),
    ("tensor-core attention of vector code: o may lie far below what zeros count as",
     [(TARGET + "tensor_core_attention.cc", "kLeastField = kZeroByte + kGreatestByte", "kLeastField = 64")]),
    ("tensor-core attention of vector code: weights above 1 have a scale for those below", [(TARGET + "tensor_core_attention.cc", "kBias + static_cast<int>(kMostExponent)", "kBias")]),
    ("tensor-core attention of vector code: l may be of any size", [(TARGET + "tensor_core_attention.cc", "kLeastSumField = 26", "kLeastSumField = 1")]),
    ("int8 tiles: sums written over others that are yet to be read (where there is AMX)",
     [(TARGET + "sliced.cc", "      state.end_rows(kRows);  // whose sums may be where these go\n", "")]),
    ("exponentials of vector code: doubt not looked at", [(TARGET + "unary.h", "if (doubt != 0) [[unlikely]]", "if (false)")]),
    ("slices: the cap is 128", [(OPS + "sliced.h", "g <= 127.0 * power_of_two(above - 7)", "g <= 128.0 * power_of_two(above - 7)")]),
    ("sliced product: all pairs of slices", [(OPS + "sliced.cc", "j < b.count && i + j <= order;", "j < b.count && i + j <= order + 1;"),
                                             (OPS + "sliced.cc", "(int64_t{1} << (7 * (order - i - j)))", "(int64_t{1} << (7 * (order + 1 - i - j))) / 128")]),
    ("sliced product: rounded by way of the sum in binary32", [(OPS + "sliced.h", "static_cast<double>(weighted_sum) *", "static_cast<double>(static_cast<float>(weighted_sum)) *")]),
    ("tensor core: the floor of sm90 is -132", [("repops/tensor_core.h", "kSm90{16, 25, -133, 24}", "kSm90{16, 25, -132, 24}")]),
    ("tensor core: the floor of sm80 is -133", [("repops/tensor_core.h", "kSm80{8, 24, -132, 24}", "kSm80{8, 24, -133, 24}")]),
    ("tensor core: sm90 keeps 24 bits of a term", [("repops/tensor_core.h", "kSm90{16, 25, -133, 24}", "kSm90{16, 24, -133, 24}")]),
    ("tensor core: fp8 keeps 24 bits of a sum", [("repops/tensor_core.h", "kSm90Float8{32, 13, -133, 14}", "kSm90Float8{32, 13, -133, 24}")]),
    ("tensor core: terms rounded, not truncated", [("repops/tensor_core.h", "right < 64 ? significand >> right : 0;\n    sum +=",
                                                    "right < 63 ? ((significand >> (right - 1)) + 1) >> 1 : 0;\n    sum +=")]),
    ("tensor core: products renormalised", [("repops/tensor_core.h", "adder.see(uint64_t{x.significand} * y.significand, x.exponent + y.exponent);",
                                             "adder.see(uint64_t{x.significand} * y.significand, x.exponent + y.exponent + (top_bit(uint64_t{x.significand} * y.significand | 1) > A::fraction_bits + B::fraction_bits));")]),
    ("tensor core: a split is not rounded up", [(OPS + "tensor_core.cc", "((k_size + split - 1) / split + multiple - 1) / multiple * multiple", "(k_size + split - 1) / split")]),
    ("tensor core: precise after 64 elements", [(OPS + "tensor_core.h", "kPreciseBlock = 128", "kPreciseBlock = 64")]),
    ("tensor-core attention: l of the weights before rounding",
     [(OPS + "tensor_core_attention.cc", "state.l = add(state.l, [](int64_t) { return store<T>(1.0f).bits; });",
       "state.l *= alpha;\n    for (int64_t i = begin; i < end; ++i) state.l += exp2p(grid_exponent(score_of[i - block], c, m));")]),
    ("tensor-core attention: l a sum in binary32, not the unit's",
     [(OPS + "tensor_core_attention.cc", "state.l = add(state.l, [](int64_t) { return store<T>(1.0f).bits; });",
       "state.l *= alpha;\n    for (int64_t i = begin; i < end; ++i) state.l += load(T{p[i - block]});")]),
    ("tensor-core attention: m is the greatest x", [("repops/semantics.h", "greatest <= m + kMostExponent ? m : greatest", "greatest <= m ? m : greatest")]),
    ("tensor-core attention: weights above 2^8",
     [("repops/semantics.h", "return minimum(((grid_score(s, c) - m) + kScoreGrid) - kScoreGrid, kMostExponent);", "return ((grid_score(s, c) - m) + kScoreGrid) - kScoreGrid;")]),
    ("tensor-core attention: exponents of scores far from zero as of others", [("repops/semantics.h", "if (m >= -kMostNear && m <= kMostNear)", "if (m >= -0x1p40f && m <= 0x1p40f)")]),
    ("tensor-core attention: o / l, rounded once", [(OPS + "tensor_core_attention.cc", "      const float share = 1.0f / total.l;\n", ""),
                                                    (OPS + "tensor_core_attention.cc", "total.o[j] * share", "total.o[j] / total.l")]),
    ("Philox of 9 rounds", [("core/philox.h", "round < 10", "round < 9")]),
    ("sampling: a draw on the boundary takes the earlier token", [(OPS + "sampling.cc", "if (sum > r)", "if (sum >= r)")]),
    ("sampling: top-p one token short", [(OPS + "sampling.cc", "    if (reached) w[i] = 0;\n    sum += w[i];", "    sum += w[i];\n    if (reached || uint128{sum} << 32 > bound) w[i] = 0;")]),
    ("sampling: the greater index in ties of top-k", [(OPS + "sampling.cc", "weights[a] > weights[b] : a < b;", "weights[a] > weights[b] : a > b;")]),
    ("a tensor's tree repeats an odd leaf", [("core/hash.cc", "    level[above - 1] = level.back();\n",
                                             "    level[above - 1] = merkle_node(level.back(), level.back());\n")]),
    ("two messages hashed at once share a round's sum", [("core/sha256_many.cc", "s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32(sum.of[m], 0x0e));",
                                                          "s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32(sum.of[0], 0x0e));")]),
    ("a tensor's leaves of 1024 elements", [("core/tensor_root.h", "kLeafElements = 512", "kLeafElements = 1024")]),
    ("packed elements from the highest bits down", [("core/tensor_root.cc", "byte |= std::to_integer<unsigned>(tensor.bytes()[begin + j]) << (j * packing.width);",
                                                    "byte |= std::to_integer<unsigned>(tensor.bytes()[begin + j]) << (8 - packing.width - j * packing.width);")]),
    ("GPU: a step's tiles read before they have arrived", [("kernels/cuda/tile_product.cuh", "wait_for_copies<kStages - 2>();", "wait_for_copies<kStages - 1>();")]),
    ("GPU: a product's slabs overwritten while others read them",
     [("kernels/cuda/simt_product.cuh", "    wait_for_copies<0>();\n    __syncthreads();", "    wait_for_copies<0>();")]),
    ("GPU: what K leaves over of a slab multiplied as a whole one",
     [("kernels/cuda/simt_product.cuh", "for (int at = 0; at < rest; ++at)", "for (int at = 0; at < (rest > 0 ? kSlab : 0); ++at)")]),
    ("GPU: streamed weights read before they have arrived",
     [("kernels/cuda/stream_product.cuh", "      ring.wait_until_full();\n", "")]),
    ("GPU: int32 sums of 36 groups of weights of few bits",
     [("kernels/cuda/low_bit.cu", "constexpr int kNarrowSlabs = 4;", "constexpr int kNarrowSlabs = 9;"),
      ("kernels/cuda/low_bit.cu", "static_assert(int64_t{kNarrowSlabs}", "static_assert(true || int64_t{kNarrowSlabs}")]),
    ("GPU: a convolution's results next to padding are not corrected",
     [("kernels/cuda/convolution.cu", "if (p.reaches_padding(r)) *p.at(i)", "if (false) *p.at(i)")]),
    ("GPU: of equal weights at a threshold the later tokens are kept",
     [("kernels/cuda/sampling.cu", "w > weight || (w == weight && i <= last)", "w > weight || (w == weight && i >= last)")]),
    ("GPU: parts of the keys merge in the other order",
     [("kernels/cuda/few_rows_attention.cuh", "for (int part = 0; part < p.parts; ++part) {", "for (int part = p.parts - 1; part >= 0; --part) {")]),
    ("GPU: attention: m rises to each greater score",
     [("kernels/cuda/attention_tiles.cuh", "  m = grid_maximum(before, greatest);", "  m = maximum_of(before, greatest);")]),
    ("GPU: attention: exponents of scores far from zero as of others",
     [("kernels/cuda/attention_tiles.cuh", "!(std::abs(m[h]) <= kMostNear)", "m[h] != m[h]")]),
    ("GPU: attention: a row whose scores are all -infinity has seen nothing",
     [("kernels/cuda/attention_tiles.cuh", "(m[h] == kUnseen && !sees[h])", "(m[h] == kUnseen && (sees[h] || true))")]),
    ("GPU: attention: the greatest of scores below zero is zero",
     [("kernels/cuda/attention_tiles.cuh", "if (least[h] >> 31 != 0) best[h]", "if (false) best[h]")]),
    ("GPU: attention of warp groups: heads beyond the sixteenth are the first ones",
     [("kernels/cuda/group_attention.cuh", "    head = first + (i", "    head = (i")]),
    ("GPU: attention of warp groups: l keeps its scale where m rises",
     [("kernels/cuda/group_attention.cuh", "        multiply_rows(l, alpha);\n", "")]),
    ("GPU: attention of few rows: scores of later keys lie where those of the first ones lay",
     [("kernels/cuda/few_rows_attention.cuh", "first / kBlockKeys - p.first_block", "first / kBlockKeys")]),
    ("GPU: ordered attention of few rows: blocks of keys merge past parts of 2048",
     [("kernels/cuda/ordered_few_rows.cuh", "of_part(static_cast<int>(kKeyRestart) / call.piece_keys)", "of_part(2 * static_cast<int>(kKeyRestart) / call.piece_keys)")]),
    ("GPU: ordered attention of few rows: two rows of a thread see the same keys",
     [("kernels/cuda/ordered_few_rows.cuh", "if (seen[0].begin == seen[1].begin && seen[0].end == seen[1].end) {", "if (seen[0].begin == seen[1].begin) {")]),
    ("GPU: ordered attention of many rows: some rows see keys that only others see",
     [("kernels/cuda/ordered_many_rows.cuh", "inside((whole_end - block) / kStep * kStep, whole, last)", "inside((end - block) / kStep * kStep, whole, last)")]),
    ("GPU: ordered attention of many rows: a block of which a row sees nothing adds +0",
     [("kernels/cuda/ordered_many_rows.cuh", "join(running, of_lane, -1)", "join(running, of_lane, 1)")]),
    ("GPU: ordered attention of many rows: subnormal weights rounded as others", [("kernels/cuda/exact_exp2.cuh", "kLeast = -126", "kLeast = -150")]),
    ("GPU: ordered attention of many rows: no rounding of a weight is in doubt", [("kernels/cuda/exact_exp2.cuh", "kMargin = 1 << 12", "kMargin = 0")]),
    ("GPU: tiles given back before their products are done",
     [("kernels/cuda/group_product.cuh", "wait_for_products<1>();", "wait_for_products<2>();")]),
    ("GPU: int8 attention: scores read before they are there",
     [("kernels/cuda/group_int8_attention.cuh", "      wait_for_products<0>();\n      settle(s);", "      settle(s);")]),
    ("GPU: attention: a weight below 2^-126 is not zero",
     [("kernels/cuda/attention_tiles.cuh", "return t < -126.0f ? 0.0f : p;", "return p;")]),
    ("GPU: int8 attention: a row that sees nothing of a block takes its units",
     [("kernels/cuda/group_int8_attention.cuh", "sees[h] = total[h] != 0 || is_nan(b.g[h]);", "sees[h] = true;")]),
    ("GPU: int8 attention: the greatest of scores below zero is the least",
     [("kernels/cuda/group_int8_attention.cuh", "if (best[h] < 0) best[h] = static", "if (false) best[h] = static")]),
    ("GPU: int8 attention: values' exponents far apart as others",
     [("kernels/cuda/group_int8_attention.cuh", "b.g[h] <= kMostRise;", "!is_nan(b.g[h]);")]),
    ("GPU: int8 attention: l's weights without what makes them of codes' 2^t",
     [(OPS + "int8_weights.h", "kTotalOfCode = 1.0033902f", "kTotalOfCode = 1.0f")]),
    ("GPU: int8 attention: a row's power is its neighbour's",
     [("kernels/cuda/group_int8_attention.cuh", "__shfl_sync(~0u, power, first + 2 * h + 1)", "__shfl_sync(~0u, power, first + 2 * h)")]),
    ("GPU: int8 attention of few rows: sums of blocks of keys go on without their unit",
     [("kernels/cuda/int8_attention.cu", "o = fma32(sum, unit, o * alpha);", "o = fma32(sum, 1.0f, o * alpha);")]),
    ("GPU: int8 attention: blocks of keys merge past parts of 2048",
     [("kernels/cuda/int8_attention.cu", "if (piece * of_part % kKeyRestart == 0) {", "if (piece == 0) {")]),
    ("GPU: warps that share rows of weights do not wait for one another",
     [("kernels/cuda/stream_product.cuh", "    sync_threads(kSharingBarrier, threads);\n    for (int part", "    for (int part")]),
    ("GPU: a block of keys that is seen in part is taken as means", [("kernels/cuda/sparse_attention.cu", "? level - 1 : 0;", "? level - 1 : level - 1;")]),
    ("GPU: a recorded step takes integers that follow shapes for what they were",
     [("kernels/cuda/recording.cu", "        if (!identical(here, places_[v])) return false;\n", "")]),
    ("GPU: a recorded step gives away memory that it writes again", [("kernels/cuda/recording.cu", "if (!ours) return t;", "return t;")]),
    ("GPU: roots hold no tensors, whose memory others take",
     [("kernels/cuda/hash.cu", "  const std::vector<Tensor> tensors_;  // outlive", "  const std::span<const Tensor> tensors_;  // outlive")]),
    ("GPU: roots do not wait for what makes the tensors", [("kernels/cuda/hash.cu", "    VB_TRY(gpu_.follow_stream(landing_));\n", "")]),
    ("GPU: roots taken before they are there", [("kernels/cuda/hash.cu", "      VB_TRY(batch.wait());\n", "")]),
    ("GPU: a box of results filled again before it was read",
     [("kernels/cuda/group_product.cuh", "wait_for_stores<kBoxes - 1>();", "wait_for_stores<kBoxes>();")]),
    ("GPU: a lane of a sum starts at +0", [("kernels/cuda/ordered_sum.cuh", "float lane = -0.0f;", "float lane = 0.0f;")]),
]


class Tree:
    """A copy of the sources, with a build of its own."""

    def __init__(self, number, cores):
        self.path = ROOT / "build/mutations" / str(number)
        self.cores = cores  # of this tree's builds

    def run(self, command, **options):
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, **options)

    def copy_sources(self):
        """The files as they are now; those that are equal stay, so that builds are incremental."""
        names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in names.split("\n"):
            source, copy = ROOT / name, self.path / name
            if name and source.is_file() and not (copy.exists() and copy.read_bytes() == source.read_bytes()):
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(source.read_bytes())
                copy.chmod(source.stat().st_mode)

    def prepare(self, cores=None):
        """Copies, configures, builds; the error, if any. At -O1, or the emulated GPU would take most of the time."""
        self.copy_sources()
        setup = self.run(["cmake", "--preset", "debug", "-DVERBATIM_NET=OFF", "-DCMAKE_CXX_FLAGS_DEBUG=-O1"])
        return setup.stderr if setup.returncode else self.build(cores)

    def build(self, cores=None):
        result = self.run(["cmake", "--build", "--preset", "debug", "--parallel", str(cores or self.cores), "--target", "kernels_test"])
        return "" if result.returncode == 0 else (result.stdout + result.stderr)[-2000:]

    def failures(self, tests, processes=1):
        """Names of failed tests, and of the golden cases among them. The tests are shared by several processes; each ends at its first."""
        def run(shard):
            return self.run([self.path / "build/debug/bin/kernels_test", "--gtest_filter=" + tests, "--gtest_fail_fast"], timeout=3600,
                            env=os.environ | {"GTEST_TOTAL_SHARDS": str(processes), "GTEST_SHARD_INDEX": str(shard)})
        try:
            with concurrent.futures.ThreadPoolExecutor(processes) as pool:
                results = list(pool.map(run, range(processes)))
        except subprocess.TimeoutExpired:
            return ["(no end)"], []
        said = "\n".join(r.stdout for r in results)
        names = sorted(set(re.findall(r"^\[  FAILED  \] (\w+[./][\w/.]+)", said, re.M)))
        names += [f"(exit {r.returncode})" for r in results if r.returncode and "[  FAILED  ]" not in r.stdout]
        return names, list(dict.fromkeys(re.findall(r"^(.*) by \w+, ", said, re.M)))

    def write(self, texts):
        for file, text in texts.items():
            (self.path / file).write_text(text)

    def caught(self, edits):
        """(whether a test turned red, what to say)."""
        texts = mutated(self.path, edits)
        if texts is None:
            return False, "DOES NOT APPLY"
        before, after = texts
        try:
            self.write(after)
            error = self.build()
            if error:
                return False, "DOES NOT BUILD: " + error.replace("\n", " ")
            tests, golden = self.failures("Golden.*")
            if not tests and any(file.startswith("kernels/cuda/") for file in after):
                tests, _ = self.failures("*/cuda", self.cores)
            if not tests:
                tests, _ = self.failures("-Golden.*", self.cores)
        finally:
            self.write(before)
        if golden:
            return True, f"golden: {golden[0]}" + and_more(golden)
        return bool(tests), tests[0] + and_more(tests) if tests else "SURVIVES"


def and_more(names):
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def mutated(root, edits):
    """The files' texts before and after, or None where an edit does not apply exactly once."""
    before, after = {}, {}
    for file, old, new in edits:
        text = after.get(file) or (root / file).read_text()
        before.setdefault(file, text)
        if text.count(old) != 1:
            return None
        after[file] = text.replace(old, new)
    return before, after


def check(chosen, jobs):
    """Every mutation in the next free tree; prints the table in the mutations' order. How many survive."""
    trees = [Tree(number, max(1, os.cpu_count() // jobs)) for number in range(jobs)]
    error = trees[0].prepare(os.cpu_count())  # alone: the others find its objects in ccache
    red = [] if error else trees[0].failures("*", os.cpu_count())[0]
    if error or red:
        sys.exit(f"the tree without mutations: {error or red}")
    free = queue.SimpleQueue()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for tree, error in zip(trees, pool.map(lambda tree: tree.prepare() if tree != trees[0] else "", trees)):
            if error:
                sys.exit(f"{tree.path}: {error}")
            free.put(tree)

        def one(mutation):
            tree = free.get()
            try:
                return tree.caught(mutation[1])
            finally:
                free.put(tree)

        print("| mutation | caught by |\n|---|---|", flush=True)
        survivors = 0
        for (what, _), (red, by) in zip(chosen, pool.map(one, chosen)):
            survivors += not red
            print(f"| {what} | {by} |", flush=True)
    return survivors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--applies", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    chosen = [m for m in MUTATIONS if not args.words or any(word in m[0] for word in args.words)]
    if args.applies:
        stale = [what for what, edits in chosen if mutated(ROOT, edits) is None]
        print("\n".join(stale) or f"{len(chosen)} mutations apply")
        return 1 if stale else 0
    return 1 if check(chosen, max(1, min(args.jobs, len(chosen)))) else 0


if __name__ == "__main__":
    sys.exit(main())
