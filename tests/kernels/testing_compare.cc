#include "kernels/compare.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <cstdlib>
#include <cstring>

#include <verbatim/core/parallel.h>
#if defined(VERBATIM_EMULATED_GPU)
#include <verbatim/kernels/cuda/cuda_backend.h>
#endif
#if defined(VERBATIM_EMULATED_GPU) || defined(VERBATIM_KERNELS_CUDA)
#include <verbatim/kernels/cuda/device.h>
#endif
#include <verbatim/repops/semantics.h>

namespace verbatim::test {
namespace {

// Memory for `size` bytes that ends where an unreadable page begins.
std::shared_ptr<std::byte> guarded(size_t size) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t readable = (size + page - 1) / page * page;
  void* base =
      mmap(nullptr, readable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) std::abort();
  auto* bytes = static_cast<std::byte*>(base);
  if (mprotect(bytes + readable, page, PROT_NONE) != 0) std::abort();
  return {bytes + readable - size,
          [base, readable, page](std::byte*) { munmap(base, readable + page); }};
}

// A copy of t that ends there. Elements below a byte are not borrowed, and stay.
Tensor guarded(const Tensor& t) {
  if (!t.defined() || bit_width(t.dtype()) < 8) return t;
  const std::span<const std::byte> bytes = t.bytes();
  const std::shared_ptr<std::byte> memory = guarded(bytes.size());
  std::ranges::copy(bytes, memory.get());
  return *Tensor::borrow(t.dtype(), t.shape(), {memory.get(), bytes.size()}, memory);
}

void expect_identical(const Tensors& want, const Tensors& have, const std::string& how) {
  ASSERT_EQ(want.size(), have.size()) << how;
  for (size_t i = 0; i < want.size(); ++i) {
    if (identical(want[i], have[i])) continue;
    ADD_FAILURE() << how << ": output " << i << " differs: " << want[i].describe() << " and "
                  << have[i].describe();
    if (want[i].dtype() != DType::f32 || !(want[i].shape() == have[i].shape())) return;
    for (int64_t e = 0; e < want[i].elements(); ++e) {
      const auto w = std::bit_cast<uint32_t>(want[i].data<float>()[e]),
                 h = std::bit_cast<uint32_t>(have[i].data<float>()[e]);
      if (w == h) continue;
      ADD_FAILURE() << "element " << e << std::hex << ": want " << w << ", have " << h;
      return;
    }
  }
}

// What an operator computes has no NaN but the canonical one: an addition of infinities gives
// another on each processor.
void expect_canonical(const Tensor& t) {
  if (t.dtype() != DType::f32) return;
  for (const float x : t.data<float>())
    if (is_nan(x) && bits_of(x) != kNanBits) {
      ADD_FAILURE() << "a NaN is " << std::hex << bits_of(x);
      return;
    }
}

// As number(): of any exponent where that is wide, and where it is special, any code now and then.
uint16_t number_of_16_bits(Random& random, DType type, Fill fill) {
  const auto any = static_cast<uint16_t>(random.next());
  const int infinity = type == DType::bf16 ? 0x7F80 : 0x7C00;
  if (fill == Fill::special && random.chance(4)) return any;
  if (fill == Fill::wide && (any & infinity) != infinity) return any;
  const float x = number(random, fill);
  return type == DType::bf16 ? bfloat16_from_float(x) : half_from_float(x);
}

Result<Tensors> with_threads(int threads, Backend& backend, const Case& c) {
  set_thread_count(threads);
  return run_to_host(backend, c.node, c.inputs);
}

// A graph of the case's node alone, its weights as initializers.
Result<Graph> graph_of(const Case& c) {
  GraphBuilder b;
  std::vector<ValueId> ids;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Tensor& t = c.inputs[i];
    const std::string name = "i" + std::to_string(i);
    if (!t.defined())
      ids.push_back(kAbsent);
    else if (std::ranges::find(c.weights, static_cast<int>(i)) != c.weights.end())
      ids.push_back(b.constant(name, t));
    else
      ids.push_back(b.input(name, t.dtype(), {t.shape().dims().begin(), t.shape().dims().end()}));
  }
  b.output("y", b.add(c.node.op, c.node.domain, ids, c.node.attributes, "",
                      static_cast<int>(c.node.outputs.size())));
  return b.finish();
}

Result<Tensors> prepared(std::string_view backend, const Case& c) {
  VB_ASSIGN(const Graph graph, graph_of(c));
  VB_ASSIGN(const std::unique_ptr<Backend> fresh, make_tested_backend(backend));
  VB_TRY(fresh->prepare(graph));
  return with_threads(2, *fresh, c);
}

}  // namespace

Result<Tensors> run_to_host(Backend& backend, const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(Tensors outputs, backend.run(node, inputs));
  for (Tensor& t : outputs) {
    VB_ASSIGN(t, t.on_host());
  }
  return outputs;
}

uint64_t Random::next() {  // SplitMix64
  uint64_t z = state_ += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

Fill any_fill(Random& random) {
  return random.pick({Fill::ordinary, Fill::ordinary, Fill::wide, Fill::special});
}

DType any_type(Random& random) {
  return random.pick({DType::f32, DType::f32, DType::bf16, DType::f16});
}

float number(Random& random, Fill fill) {
  if (fill == Fill::special && random.chance(4))
    return std::bit_cast<float>(random.pick<uint32_t>(
        {0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F800001,
         0x00000001, 0x80000001, 0x007FFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000}));
  if (fill == Fill::wide || (fill == Fill::special && random.chance(10))) {
    const auto any = static_cast<uint32_t>(random.next());
    return std::bit_cast<float>((any & 0x7F800000) == 0x7F800000 ? any & 0x807FFFFF : any);
  }
  const double u = static_cast<double>(random.next() >> 11) * 0x1p-53;
  return static_cast<float>(4 * u - 2);
}

Tensor floats(Random& random, const Shape& shape, Fill fill) {
  return numbers(random, DType::f32, shape, fill);
}

Tensor numbers(Random& random, DType type, const Shape& shape, Fill fill) {
  const size_t width = size_of(type), size = static_cast<size_t>(shape.elements()) * width;
  const std::shared_ptr<std::byte> memory = guarded(size);
  for (size_t i = 0; i < size; i += width) {
    if (type == DType::f32) {
      const float x = number(random, fill);
      std::memcpy(memory.get() + i, &x, sizeof x);
    } else {
      const uint16_t x = number_of_16_bits(random, type, fill);
      std::memcpy(memory.get() + i, &x, sizeof x);
    }
  }
  return *Tensor::borrow(type, shape, {memory.get(), size}, memory);
}

Tensor filled(DType dtype, const Shape& shape, uint8_t byte) {
  const auto size = static_cast<size_t>(shape.elements()) * size_of(dtype);
  const std::shared_ptr<std::byte> memory = guarded(size);
  std::memset(memory.get(), byte, size);
  return *Tensor::borrow(dtype, shape, {memory.get(), size}, memory);
}

std::vector<std::pair<std::string, Result<Tensors>>> every_way(Backend& backend, Case c) {
  for (Tensor& t : c.inputs) t = guarded(t);
  std::vector<std::pair<std::string, Result<Tensors>>> ways;
  for (const int threads : {1, 3})
    if (threads == 1 || !is_emulated(backend))
      ways.emplace_back(std::to_string(threads) + " threads", with_threads(threads, backend, c));
  // Prepared weights stay with their backend, so each case gets a new one.
  if (!c.weights.empty()) ways.emplace_back("prepared", prepared(backend.name(), c));
  return ways;
}

void expect_reference(Backend& backend, const Case& c) {
  // Outputs that a node does not name may be left out.
  const auto asked_for = [&](Result<Tensors> outputs) {
    if (outputs.ok()) outputs->resize(std::min(outputs->size(), c.node.outputs.size()));
    return outputs;
  };
  const Result<Tensors> want = asked_for(evaluate_reference(c.node, c.inputs));
  std::string what = c.node.title();
  for (const Tensor& t : c.inputs) what += " " + t.describe();
  SCOPED_TRACE(what);
  if (want.ok() && c.node.op != "RotaryEmbedding")  // which copies what it does not turn
    for (const Tensor& t : *want) expect_canonical(t);
  for (const auto& [how, outputs] : every_way(backend, c)) {
    const Result<Tensors> have = asked_for(outputs);
    // What is refused may be refused when weights are prepared, in other words.
    if (how == "prepared" && !want.ok()) continue;
    ASSERT_EQ(want.ok(), have.ok()) << want.status().message() << have.status().message();
    if (want.ok())
      expect_identical(*want, *have, how);
    else
      EXPECT_EQ(want.status().message(), have.status().message());
  }
}

std::vector<BackendInfo> tested_backends() {
  std::vector<BackendInfo> backends = list_backends();
#if defined(VERBATIM_EMULATED_GPU)
  for (BackendInfo& b : backends)
    if (b.name == "cuda") b.missing.clear();
#endif
  return backends;
}

Result<std::unique_ptr<Backend>> make_tested_backend(std::string_view name) {
#if defined(VERBATIM_EMULATED_GPU)
  if (name == "cuda") return make_cuda_backend(make_reference_backend());
#endif
  return make_backend(name);
}

bool is_emulated([[maybe_unused]] const Backend& backend) {
#if defined(VERBATIM_EMULATED_GPU)
  return backend.name() == "cuda";
#else
  return false;
#endif
}

int cases_for(const Backend& backend, int count) {
  const auto given = [](const char* name, int otherwise) {
    const char* const text = std::getenv(name);
    return text == nullptr ? otherwise : std::max(std::atoi(text), 1);
  };
  if (is_emulated(backend)) count = (count + 3) / 4;
  count = std::max(count, given("VERBATIM_LEAST_CASES", 1));
  return std::min(count, given("VERBATIM_MOST_CASES", INT_MAX));
}

bool has_warp_groups([[maybe_unused]] const Backend& backend) {
#if defined(VERBATIM_EMULATED_GPU) || defined(VERBATIM_KERNELS_CUDA)
  return backend.name() == "cuda" && cuda::find_device()->hopper;
#else
  return false;
#endif
}

std::vector<std::string> vector_backends() {
  std::vector<std::string> names;
  for (const BackendInfo& b : tested_backends())
    if (b.name != "reference") names.push_back(b.name);
  return names;
}

void OnBackend::SetUp() {
  for (const BackendInfo& b : tested_backends())
    if (b.name == GetParam() && !b.missing.empty()) GTEST_SKIP() << b.missing;
  Result<std::unique_ptr<Backend>> backend = make_tested_backend(GetParam());
  ASSERT_TRUE(backend.ok()) << backend.status().message();
  backend_ = *std::move(backend);
}

}  // namespace verbatim::test
