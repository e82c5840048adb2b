// PyTorch's attention as a contender: in a child (pytorch_child.py), which takes turns with us as
// every other contender and times its runs on the device itself.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <sstream>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/child.h>
#include <verbatim/cli/bench/gpu.h>

namespace verbatim::bench::gpu {
namespace {

// A folder of its own, which goes with its files.
class Folder {
 public:
  static Result<Folder> create() {
    std::string name = std::filesystem::temp_directory_path() / "verbatim-bench-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) return unavailable("no folder like " + name);
    return Folder(std::move(name));
  }
  Folder(Folder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Folder& operator=(Folder&&) = delete;
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit Folder(std::string path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

Status write(const std::string& file, std::span<const std::byte> bytes) {
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  return out.flush() ? Status() : unavailable("cannot write " + file);
}

Status expect_ready(const std::string& answer) {
  if (answer == "ready") return {};
  return answer.starts_with("absent ") ? unavailable(answer.substr(7))
                                       : internal_error("PyTorch's child says: " + answer);
}

}  // namespace

class PyTorch {
 public:
  static Result<std::shared_ptr<PyTorch>> start(const std::string& python) {
    VB_ASSIGN(Child child, Child::start({python, VERBATIM_BENCH_FOLDER "/pytorch_child.py"}));
    VB_ASSIGN(const std::string answer, child.receive());
    VB_TRY(expect_ready(answer));
    VB_ASSIGN(std::string version, child.ask("version"));
    return std::make_shared<PyTorch>(std::move(child), std::move(version));
  }
  PyTorch(Child child, std::string version)
      : child_(std::move(child)), version_(std::move(version)) {}

  // q, k and v, each [heads, tokens, size] on the host, by one of its kernels.
  Status prepare(const std::string& kernel, const AttentionSize& s, const Tensors& operands) {
    VB_ASSIGN(const Folder folder, Folder::create());
    for (size_t i = 0; i < 3; ++i)
      VB_TRY(write(folder.file(std::string(1, "qkv"[i])), operands[i].bytes()));
    std::ostringstream line;
    line << std::setprecision(9) << "prepare " << kernel << ' ' << name_of(operands[0].dtype())
         << ' ' << s.heads << ' ' << s.queries << ' ' << s.keys << ' ' << s.head_size << ' '
         << s.causal << ' ' << s.scale() << ' ' << folder.path().string();
    VB_ASSIGN(const std::string answer, child_.ask(line.str()));
    return expect_ready(answer);
  }
  double seconds(const std::string& kernel, int64_t runs) {
    const Result<std::string> answer = child_.ask("run " + kernel + " " + std::to_string(runs));
    require(answer.status());
    return std::strtod(answer->c_str(), nullptr);
  }
  // Of the last run, in a tensor like q.
  Result<Tensor> output(const std::string& kernel, const Tensor& q) {
    VB_ASSIGN(const Folder folder, Folder::create());
    VB_ASSIGN(const std::string answer,
              child_.ask("output " + kernel + " " + folder.file("result")));
    VB_TRY(expect_ready(answer));
    VB_ASSIGN(Tensor t, Tensor::allocate(q.dtype(), q.shape()));
    std::ifstream in(folder.file("result"), std::ios::binary);
    in.read(reinterpret_cast<char*>(t.mutable_bytes().data()),
            static_cast<std::streamsize>(t.byte_size()));
    if (!in || in.peek() != std::ifstream::traits_type::eof())
      return internal_error("PyTorch's result has another size");
    return t;
  }
  const std::string& version() const { return version_; }

 private:
  Child child_;
  std::string version_;
};

Result<std::vector<Contender>> AttentionPeers::of(
    const AttentionSize& s, const Tensors& operands,
    const std::function<Status(const Tensor& theirs, const std::string& who)>& check) {
  if (!started_) {
    started_ = true;
    Result<std::shared_ptr<PyTorch>> found = PyTorch::start(python_);
    if (found.ok())
      pytorch_ = *std::move(found);
    else
      std::fprintf(stderr, "\nnot compared with PyTorch (--python): %s\n",
                   found.status().message().c_str());
  }
  std::vector<Contender> peers;
  if (pytorch_ == nullptr) return peers;
  const bool narrow = operands[0].dtype() != DType::f32;
  for (const std::string kernel :
       {narrow ? "CUDNN_ATTENTION" : "EFFICIENT_ATTENTION", narrow ? "FLASH_ATTENTION" : "MATH"}) {
    const Status status = pytorch_->prepare(kernel, s, operands);
    if (status.code() == StatusCode::unavailable) {
      std::fprintf(stderr, "\nnot compared with PyTorch's %s: %s\n", kernel.c_str(),
                   status.message().c_str());
      continue;
    }
    VB_TRY(status);
    VB_ASSIGN(const Tensor theirs, pytorch_->output(kernel, operands[0]));
    VB_TRY(check(theirs, "PyTorch's " + kernel));
    peers.push_back(
        {.name = "PyTorch SDPA",
         .version = pytorch_->version(),
         .kernel = kernel,
         .run = [p = pytorch_, kernel] { p->seconds(kernel, 1); },
         .seconds = [p = pytorch_, kernel](int64_t times) { return p->seconds(kernel, times); }});
  }
  return peers;
}

}  // namespace verbatim::bench::gpu
