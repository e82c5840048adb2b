// oneDNN's matmul primitive. Its weights are reordered once into the layout that it asks for.
#include <verbatim/cli/bench/peers.h>

#if defined(VERBATIM_BENCH_ONEDNN)
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

namespace verbatim::bench {
namespace {

std::string version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

// One product [m, k] times [k, n]; b_tag says how b lies in memory.
Contender contender(const dnnl::memory::dims& a_dims, const dnnl::memory::dims& b_dims,
                    const dnnl::memory::dims& c_dims, dnnl::memory::data_type in,
                    dnnl::memory::data_type out, dnnl::memory::format_tag b_tag, const void* a,
                    const void* b, void* c) {
  using dnnl::memory;
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::desc a_desc(a_dims, in, memory::format_tag::ab),
      c_desc(c_dims, out, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc desc(
      dnnl::matmul::desc(a_desc, memory::desc(b_dims, in, memory::format_tag::any), c_desc),
      engine);
  dnnl::stream stream(engine);
  memory plain({b_dims, in, b_tag}, engine, const_cast<void*>(b)),
      packed(desc.weights_desc(), engine);
  dnnl::reorder(plain, packed).execute(stream, plain, packed);
  stream.wait();
  const dnnl::matmul primitive(desc);
  const memory x(a_desc, engine, const_cast<void*>(a)), y(c_desc, engine, c);
  return {"oneDNN", version(), desc.impl_info_str(),
          [=]() mutable {
            primitive.execute(stream,
                              {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, y}});
            stream.wait();
          },
          [](int threads) { ::omp_set_num_threads(threads); }};
}

}  // namespace

void add_onednn(std::vector<Contender>& to, const FloatProduct& p) {
  using Type = dnnl::memory::data_type;
  if (p.m == 0) return to.push_back({});
  to.push_back(contender({p.m, p.k}, {p.k, p.n}, {p.m, p.n}, Type::f32, Type::f32,
                         dnnl::memory::format_tag::ab, p.a, p.b, p.c));
}

void add_onednn(std::vector<Contender>& to, const Int8Product& p) {
  using Type = dnnl::memory::data_type;
  to.push_back(contender({p.m, p.k}, {p.k, p.n}, {p.m, p.n}, Type::s8, Type::s32,
                         dnnl::memory::format_tag::ba, p.a, p.b, p.c));
}

}  // namespace verbatim::bench

#else

namespace verbatim::bench {
void add_onednn(std::vector<Contender>&, const FloatProduct&) {}
void add_onednn(std::vector<Contender>&, const Int8Product&) {}
}  // namespace verbatim::bench

#endif
