#!/bin/sh
# tests/lint/format.sh [--fix] -- fail when a .c file is not as .clang-format has it.  Only
# clang-format 14 answers; other versions lay out differently.  Headers are tables, aligned by
# hand, and are left alone.  Run from the source root.
for tool in clang-format-14 clang-format; do
    command -v "$tool" >/dev/null && "$tool" --version | grep -q 'version 14\.' && break
    tool=
done
if [ -z "$tool" ]; then
    echo "SKIP clang-format 14 is not installed"
    exit 77
fi
if [ "${1:-}" = --fix ]; then
    set -- -i
else
    set -- --dry-run --Werror --ferror-limit=3
fi
find engine kernels offload quant tools tests -name '*.c' -exec "$tool" "$@" {} +
