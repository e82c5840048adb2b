#!/usr/bin/env bash
# sysroot.sh ARCH [--net]: makes build/sysroot/{aarch64,s390x}, a tree of Debian packages for ARCH (aarch64 or arm64, s390x) to
# cross-build against and to run under qemu-user. The packages come through a private apt state, so the machine's own package
# database never hears of a second architecture. Needs no root. With --net the tree also holds gRPC. Does nothing when the tree
# is there and holds what this version of the script puts in it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/packages.sh"

net=()
[ "${2:-}" = --net ] && net=("${net_packages[@]}")
case "${1:-}" in
  aarch64 | arm64) name=aarch64 debian=arm64 ;;
  s390x) name=s390x debian=s390x ;;
  *) sed -n '2,5s/^# //p' "$0" >&2; exit 64 ;;
esac
# protobuf-compiler and the gRPC plugin never run from here, but CMake files in the -dev packages check that they exist.
packages=(libc6-dev libgcc-12-dev libstdc++-12-dev protobuf-compiler
          "${library_packages[@]}" "${test_library_packages[@]}" "${net[@]}")

root=$(mkdir -p "$here/../build/sysroot" && cd "$here/../build/sysroot" && pwd)
tree=$root/$name
exec 9>"$root/$name.lock"
flock 9  # two configure steps may want the same tree at once

# A tree with gRPC also serves who asks for none.
contents=$(cat "$tree/.packages" 2>/dev/null || true)
covered=yes
for package in "${packages[@]}"; do [[ " $contents " == *" $package "* ]] || covered=no; done
[ $covered = yes ] && exit 0

echo "making the $name sysroot in ${tree#"$PWD"/}" >&2
new=$tree.new state=$tree.apt
rm -rf "$new" "$state"
mkdir -p "$new" "$state/lists/partial" "$state/cache/archives/partial"
: >"$state/status"
apt=(apt-get -qq -o "APT::Architecture=$debian" -o "APT::Architectures::=$debian" -o APT::Install-Recommends=false
     -o "Dir::State=$state" -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache"
     -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)" -o APT::Keep-Downloaded-Packages=true -o Acquire::Retries=3)
"${apt[@]}" update
"${apt[@]}" -y --download-only install "${packages[@]}" >&2
for deb in "$state"/cache/archives/*.deb; do dpkg -x "$deb" "$new"; done
# An absolute link would lead out of the tree, to the build machine's files.
find "$new" -type l -lname '/*' -printf '%p\t%l\n' | while IFS=$'\t' read -r link target; do
  ln -sfn --relative "$new$target" "$link"
done
# Documentation, locales and programs are most of the bytes and none of the use.
rm -rf "$new"/usr/share/{doc,man,locale,info,zoneinfo} "$new"/var
echo " ${packages[*]} " >"$new/.packages"
rm -rf "$tree" "$state"
mv "$new" "$tree"
