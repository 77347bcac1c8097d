#!/bin/sh
# tests/lint/headers.sh [-I FLAG]... -- fail when a header does not compile by itself as C11, or
# when one that C++ may see does not compile as C++17.  CUDA's own headers are those of the
# emulation.  Run from the source root.
bad=0
cc=${CC:-cc}
cxx=${CXX:-c++}

# A *_body.h is text included several times over, not a header.  Our file names have no spaces.
# shellcheck disable=SC2044
for header in $(find engine kernels offload quant tools tests/support -name '*.h' ! -name '*_body.h' \
    ! -path 'tests/support/cuda/*') tests/support/cuda/emulation.h; do
    printf '#include "%s"\n' "$header" |
        $cc -std=c11 -fsyntax-only -Wall -Wextra -pedantic -Werror -Itests/support/cuda -I. -Iengine/include "$@" \
            -x c - || {
        echo "$header: does not stand alone"
        bad=1
    }
done

command -v "$cxx" >/dev/null || exit $bad
# shellcheck disable=SC2044
for header in engine/include/refine/*.h kernels/device.h kernels/cuda/cuda.h \
    $(find kernels/cuda -name '*.cuh' ! -name ptx.cuh) $(find tests/support/cuda -name '*.h' -o -name '*.cuh'); do
    printf '#include "%s"\n' "$header" |
        $cxx -std=c++17 -fsyntax-only -Wall -Wextra -Wno-unknown-pragmas -Werror \
            -Itests/support/cuda -I. -Iengine/include "$@" -x c++ - || {
        echo "$header: not valid C++17"
        bad=1
    }
done
exit $bad
