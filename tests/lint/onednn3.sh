#!/bin/sh
# tests/lint/onednn3.sh -- compile the one file that knows oneDNN against version 3 of it.
#
# Headers from DNNL3_INCLUDE, or the system's where they are of version 3; without either
# there is nothing to compile against and the check is skipped (77).
# Run from the source root.
include=${DNNL3_INCLUDE:-/usr/include}
version=$include/oneapi/dnnl/dnnl_version.h
if ! grep -qs 'define DNNL_VERSION_MAJOR 3' "$version"; then
    echo "SKIP no headers of oneDNN 3; set DNNL3_INCLUDE to their directory"
    exit 77
fi
exec "${CC:-cc}" -std=c11 -pedantic -Wall -Wextra -Wshadow -Wstrict-prototypes \
    -Wmissing-prototypes -Wvla -Werror -I. -isystem "$include" -fopenmp -fsyntax-only \
    kernels/cpu/onednn.c
