# The Debian 12 packages that Verbatim needs, one list for everybody; sourced by cli/demo.sh, tests/run.sh and cmake/sysroot.sh.
# shellcheck shell=bash disable=SC2034

# Libraries that the programs link, for the build machine and, in a sysroot, for another one.
library_packages=(libssl-dev libtbb-dev libprotobuf-dev nlohmann-json3-dev libcli11-dev)
net_packages=(libgrpc++-dev protobuf-compiler-grpc)
test_library_packages=(libgtest-dev librapidcheck-dev libeigen3-dev libmpfr-dev)

# Build and use: what cli/demo.sh installs. pip fetches the demo's model.
build_packages=(ca-certificates cmake g++ ninja-build ccache pkgconf protobuf-compiler python3-pip
                "${library_packages[@]}" "${net_packages[@]}")
# Tests on the build machine; the fuzzers need clang.
test_packages=(git libonnx-testdata xz-utils "${test_library_packages[@]}")
fuzz_packages=(clang-14 libclang-rt-14-dev)
# Cross builds, and running what they built.
cross_packages=(g++-aarch64-linux-gnu g++-s390x-linux-gnu qemu-user)
# The long matrix of compilers and processors, tests/matrix.sh.
matrix_packages=("${cross_packages[@]}" g++-riscv64-linux-gnu g++-i686-linux-gnu clang-14)

# install_packages NAME...: installs what is missing, as root or through sudo; silent when nothing is.
install_packages() {
  local missing=() name as_root=()
  for name; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null)" = "ii " ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "missing packages, and neither root nor sudo: ${missing[*]}" >&2; return 69; }
    as_root=(sudo)
  fi
  echo "installing ${missing[*]}" >&2
  "${as_root[@]}" apt-get -qq update >&2 &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}" </dev/null >&2
}
