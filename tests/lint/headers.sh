#!/bin/sh
# tests/lint/headers.sh [-I FLAG]... -- fail when a header does not compile by itself as C11, or
# when one that C++ may see does not compile as C++17.  Run from the source root.
bad=0
cc=${CC:-cc}
cxx=${CXX:-c++}

# A *_body.h is text included several times over, not a header.  Our file names have no spaces.
# shellcheck disable=SC2044
for header in $(find engine kernels offload quant tools tests/support -name '*.h' ! -name '*_body.h'); do
    printf '#include "%s"\n' "$header" |
        $cc -std=c11 -fsyntax-only -Wall -Wextra -pedantic -Werror -I. "$@" -x c - || {
        echo "$header: does not stand alone"
        bad=1
    }
done

command -v "$cxx" >/dev/null || exit $bad
for header in engine/refine.h engine/base/status.h kernels/device.h; do
    printf '#include "%s"\n' "$header" |
        $cxx -std=c++17 -fsyntax-only -Wall -Wextra -pedantic -Werror -I. "$@" -x c++ - || {
        echo "$header: not valid C++17"
        bad=1
    }
done
exit $bad
