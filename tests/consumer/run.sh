#!/usr/bin/env bash
# run.sh find_package|pkg_config|add_subdirectory BUILD: builds the outside project of this folder against Verbatim in the given way,
# from an installation of BUILD that was moved after installing or from the sources, runs its C++ and its C programs on a model
# (VERBATIM_MINILM) and compares the digests that they print with the command line's. Exit 77: no model, built only.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
way=$1 build=$2
root=$(cd "$here/../.." && pwd)
work=$build/consumer/$way
text="The same bits everywhere."

install_and_move() {
  rm -rf "$work"
  mkdir -p "$work"
  cmake --install "$build" --prefix "$work/first" >/dev/null
  mv "$work/first" "$work/moved"
  prefix=$work/moved
}

case $way in
  find_package)
    install_and_move
    cmake -G Ninja -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release >"$work/log"
    cmake --build "$work/build" >>"$work/log" || { cat "$work/log"; exit 1; }
    ;;
  pkg_config)
    install_and_move
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name verbatim.pc)")
    export PKG_CONFIG_PATH
    mkdir "$work/build"
    read -ra cflags <<<"$(pkg-config --cflags verbatim)"
    read -ra libs <<<"$(pkg-config --libs verbatim)"
    c++ -std=c++20 -O2 "${cflags[@]}" "$here/embed.cc" -o "$work/build/embed_cpp" "${libs[@]}"
    cc -std=c11 -O2 "${cflags[@]}" "$here/embed.c" -o "$work/build/embed_c" "${libs[@]}"
    cc -std=c11 -O2 -ffast-math "${cflags[@]}" "$here/fast_math.c" -o "$work/build/fast_math_c" "${libs[@]}"
    ;;
  add_subdirectory)  # unoptimised: builds fast, and must give the same bits
    mkdir -p "$work"
    launcher=
    command -v ccache >/dev/null && launcher="env;CCACHE_BASEDIR=$root;CCACHE_NOHASHDIR=1;ccache"
    cmake -G Ninja -S "$here" -B "$work/build" -DVERBATIM_SOURCE="$root" -DCMAKE_BUILD_TYPE=Debug \
      -DCMAKE_CXX_COMPILER_LAUNCHER="$launcher" >"$work/log"
    cmake --build "$work/build" >>"$work/log" || { grep -A9 -E 'error|FAILED' "$work/log"; exit 1; }
    ;;
esac

if [ -z "${VERBATIM_MINILM:-}" ]; then
  printf 'Skipped\nno model: VERBATIM_MINILM is not set\n\n'
  exit 77
fi
want=$("$build/bin/verbatim" embed "$VERBATIM_MINILM" --text "$text" --json | sed -n 's/.*"digest": *"\([0-9a-f]*\)".*/\1/p')
[ -n "$want" ]
for program in embed_cpp embed_c fast_math_c; do
  got=$("$work/build/$program" "$VERBATIM_MINILM" "$text")
  echo "$program: $got"
  [ "$got" = "$want" ] || { echo "the command line's digest is $want"; exit 1; }
done
