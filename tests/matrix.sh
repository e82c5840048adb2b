#!/usr/bin/env bash
# matrix.sh [ARCH...]: the scalar reference by gcc and clang at -O0, -O2 and -O3, for x86-64, i686 (SSE2), aarch64, s390x and riscv64
# (or the ARCHs given), the foreign ones under qemu: every build's selftest digests, of seed 1 and of four that are drawn anew
# (MATRIX_SEEDS="1 2": these), are those of `build/release/bin/verbatim`, which runs vector code, and every replay file gives its own.
# MATRIX_COMPILERS=gcc and MATRIX_LEVELS=-O2 leave out the others. Prints a table as Markdown; exit code 1 on any difference. About an
# hour on two cores, most of it compiling. Not part of CI.
set -uo pipefail
cd "$(dirname "$0")/.."
source cmake/packages.sh
install_packages "${matrix_packages[@]}" || exit
archs=("$@")
[ $# -gt 0 ] || archs=(x86_64 i686 aarch64 s390x riscv64)
verbatim=build/release/bin/verbatim
[ -x $verbatim ] || { echo "$verbatim is not built: cmake --preset release && cmake --build --preset release --target verbatim" >&2; exit 69; }
read -ra seeds <<<"${MATRIX_SEEDS:-1 $(od -An -N16 -tu4 /dev/urandom)}"
replays=(tests/replay/*.vreplay)
[ -d build/release/replays ] && replays+=(build/release/replays/*.vreplay)
mkdir -p build/matrix

# What every build has to print.
for seed in "${seeds[@]}"; do
  $verbatim selftest --seed "$seed" --json | python3 -c '
import json, sys
for group, digest in sorted(json.load(sys.stdin)["digests"].items()):
    print("selftest", sys.argv[1], group, digest)' "$seed" || exit
done >build/matrix/expected
printf 'replay %s same\n' "${replays[@]}" >>build/matrix/expected

# build ARCH COMPILER LEVEL: into $dir, log in $dir.log.
build() {
  local arch=$1 compiler=$2 flags=$3 command
  [ "$arch" = i686 ] && flags+=" -msse2 -mfpmath=sse"
  case $compiler in
    gcc) command=$arch-linux-gnu-g++ ;;
    clang) command=clang++-14 flags+=" --target=$arch-linux-gnu" ;;
  esac
  cmake -S tests/matrix -B "$dir" -G Ninja -DCMAKE_CXX_COMPILER="$command" -DCMAKE_CXX_FLAGS="$flags" \
    -DCMAKE_CXX_COMPILER_LAUNCHER="env;CCACHE_BASEDIR=$PWD;CCACHE_NOHASHDIR=1;ccache" &&
    cmake --build "$dir" -j "${MATRIX_JOBS:-$(nproc)}"
}

# sound EMULATOR: whether it multiplies 3 by 5. QEMU 7.2, Debian 12's, gives 160 for s390x's MDEBR, which clang uses.
sound() {
  local probe=build/matrix/mdebr
  printf 'int main(void) { volatile float a = 3, b = 5; float x = a, y = b; double d;\n%s\nreturn d == 15 ? 0 : 1; }' \
    '__asm__("ler %%f0,%1\n\tmdebr %%f0,%2\n\tldr %0,%%f0" : "=f"(d) : "f"(x), "f"(y) : "f0");' >$probe.c
  s390x-linux-gnu-gcc -static -O1 $probe.c -o $probe && "$1" $probe
}

# The s390x emulator: Debian's own where it is sound, else that of its backports, unpacked under build/matrix/qemu.
s390x_emulator() {
  local state=$PWD/build/matrix/qemu apt
  sound qemu-s390x && { echo qemu-s390x; return; }
  if [ ! -x "$state/usr/bin/qemu-s390x" ]; then
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    echo "deb http://deb.debian.org/debian bookworm-backports main" >"$state/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State=$state"
         -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o "APT::Sandbox::User=$(id -un)")
    { "${apt[@]}" update && (cd "$state" && "${apt[@]}" download qemu-user) && dpkg -x "$state"/qemu-user_*.deb "$state"; } >&2 || return
  fi
  sound "$state/usr/bin/qemu-s390x" && echo "$state/usr/bin/qemu-s390x"
}

# i686 runs as it is where the kernel lets it.
run() {
  local emulator=()
  case $1 in
    x86_64) ;;
    i686) "$dir/verbatim-digests" 2>/dev/null || emulator=(qemu-i386) ;;
    s390x) emulator=("$s390x") ;;
    *) emulator=("qemu-$1") ;;
  esac
  "${emulator[@]}" "$dir/verbatim-digests" "${seeds[@]}" "${replays[@]}"
}

status=0
if [[ " ${archs[*]} " == *" s390x "* ]]; then
  s390x=$(s390x_emulator) || { echo "no sound emulator for s390x" >&2; exit 69; }
fi
echo "Seeds ${seeds[*]}; ${#replays[@]} replay files; $($verbatim selftest --json | python3 -c 'import json, sys; print("compared with the backend", json.load(sys.stdin)["backend"])')."
echo
echo "| processor | compiler | level | digests equal | replays equal |"
echo "|---|---|---|---|---|"
for arch in "${archs[@]}"; do
  for compiler in ${MATRIX_COMPILERS:-gcc clang}; do
    for level in ${MATRIX_LEVELS:--O0 -O2 -O3}; do
      dir=build/matrix/$arch-$compiler$level
      cell="| $arch | $compiler | $level |"
      if ! build "$arch" "$compiler" "$level" >"$dir.log" 2>&1; then
        echo "$cell not built: $dir.log | |"
        status=1
        continue
      fi
      run "$arch" >"$dir.out" 2>>"$dir.log"
      for kind in selftest replay; do
        want=$(grep -c "^$kind" build/matrix/expected)
        have=$(grep "^$kind" "$dir.out" | grep -cFxf - build/matrix/expected)
        [ "$want" = "$have" ] || status=1
        cell+=" $have of $want |"
      done
      echo "$cell"
    done
  done
done
exit $status
