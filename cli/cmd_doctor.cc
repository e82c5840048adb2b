// doctor: what this machine has, and what would run here.
#include <oneapi/tbb/version.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <map>

#include <verbatim/cli/common.h>
#include <verbatim/core/cpu.h>
#include <verbatim/core/fp_guard.h>
#include <verbatim/core/parallel.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/kernels/cuda/device.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::cli {
namespace {

std::pair<Json, std::string> describe_gpu() {
#if defined(VERBATIM_KERNELS_CUDA)
  const auto version = [](int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
  };
  const Result<cuda::Device> device = cuda::find_device();
  if (!device.ok()) return {nullptr, "none (" + device.status().message() + ")"};
  const std::string capability =
      std::to_string(device->major) + "." + std::to_string(device->minor);
  return {{{"name", device->name},
           {"compute_capability", capability},
           {"memory_bytes", device->memory},
           {"cuda_driver", version(device->driver)},
           {"cuda_runtime", version(device->runtime)}},
          device->name + ", compute capability " + capability + ", " +
              std::to_string(device->memory >> 20) + " MiB, CUDA driver " +
              version(device->driver) + ", runtime " + version(device->runtime)};
#else
  return {nullptr, "none looked for: CUDA is not built in (cmake --preset cuda)"};
#endif
}

// Of each backend, whether it is there, or why not.
std::map<std::string, std::string> describe_backends() {
  std::map<std::string, std::string> said;
  for (const BackendInfo& b : list_backends())
    said[b.name] = b.missing.empty() ? "available" : b.missing;
  return said;
}

// What VERBATIM_CPU_DISABLE takes away, and what it names in vain.
std::string describe_disabled(const std::vector<std::string>& disabled) {
  std::string text;
  for (const std::string& name : disabled)
    text += (text.empty() ? "" : ", ") + name +
            (is_cpu_feature(name) ? "" : " (NO FEATURE has this name)");
  return text.empty() ? "" : "not used (VERBATIM_CPU_DISABLE): " + text + "\n";
}

Result<int> doctor(const Context& context) {
  Json backends = Json::object();
  std::string backend_text;
  const auto described = describe_backends();
  for (const char* name : {"reference", "avx2", "avx512", "neon", "cuda"}) {
    backends[name] = described.at(name);
    backend_text += "  " + std::string(name) + ": " + described.at(name) + "\n";
  }
  const auto chosen = context.make_backend();
  const std::string would_run =
      chosen.ok() ? std::string((*chosen)->name()) : chosen.status().message();
  const Status environment = check_float_environment();
  const std::string floats =
      describe_float_environment() +
      (environment.ok() ? ": nearest-even, subnormals kept" : ": NOT the contract's") +
      (float_environment_asserted()
           ? "; asserted: a run in another mode is an error"
           : "; another mode is corrected (VERBATIM_ASSERT_FP=1: an error)");

  Json json;
  const std::vector<std::string> disabled = disabled_cpu_features();
  json["cpu"] = {{"model", cpu_model_name()},
                 {"features", cpu_feature_names()},
                 {"disabled", disabled},
                 {"threads", thread_count()}};
  const auto [gpu, gpu_text] = describe_gpu();
  json["gpu"] = gpu;
  json["backends"] = backends;
  json["backend"] = would_run;
  json["float_environment"] = {{"ok", environment.ok()},
                               {"control", describe_float_environment()},
                               {"asserted", float_environment_asserted()}};
  json["semantics"] = kSemanticsVersion;
  json["libraries"] = {{"openssl", OpenSSL_version(OPENSSL_VERSION)}, {"tbb", TBB_VERSION_STRING}};
  std::string features;
  for (const std::string& f : cpu_feature_names()) features += " " + f;
  print_result(context, json,
               "cpu: " + cpu_model_name() + "," +
                   (features.empty() ? " no vector features" : features) + ", " +
                   std::to_string(thread_count()) + " threads\n" + describe_disabled(disabled) +
                   "gpu: " + gpu_text + "\nbackends:\n" + backend_text + "would run: " + would_run +
                   "\nfloating point: " + floats +
                   "\nsemantics version: " + std::to_string(kSemanticsVersion) + "\nlibraries: " +
                   OpenSSL_version(OPENSSL_VERSION) + ", oneTBB " + TBB_VERSION_STRING + "\n");
  const bool known = std::ranges::all_of(disabled, is_cpu_feature);
  return environment.ok() && chosen.ok() && known ? kDone : 69;
}

}  // namespace

void register_doctor(CLI::App& app, Context& context) {
  CLI::App& c = *app.add_subcommand(
      "doctor",
      "Check this machine: CPU features, backends, floating-point environment, libraries");
  add_backend_flags(c, context);
  add_json_flag(c, context);
  on_run(c, context, [&context] { return doctor(context); });
}

}  // namespace verbatim::cli
