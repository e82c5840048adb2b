#!/usr/bin/env bash
# symbols.sh TARGET OBJECT...: an inline function or template that an object file defines for itself is merged by the linker with
# all others of its name, and any one of them survives. One compiled for AVX-512 would then run on every machine. So whatever
# an object compiled for TARGET defines and shares must have the namespace TARGET in its name.
set -euo pipefail
target=$1
shift
strays=$(nm -A -C --defined-only "$@" | grep -E ' W ' | grep -v "::$target::" || true)
[ -z "$strays" ] && exit 0
echo "shared with code for the baseline machine:"
echo "$strays"
exit 1
