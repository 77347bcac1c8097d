#!/bin/sh
# tests/lint/exports.sh LIBRARY.so -- fail unless the library exports what
# engine/include/refine/refine.h declares, and nothing without the prefix refine_.  Run from the source root.
bad=0
exported=$(nm -D --defined-only "$1" | awk '$2 ~ /[A-Z]/ { print $3 }')

for symbol in $exported; do
    case $symbol in
    refine_*) ;;
    _init | _fini) ;;
    *) echo "$1: exports $symbol"; bad=1 ;;
    esac
done
for symbol in $(grep -ohE 'refine_[a-z_0-9]+\(' engine/include/refine/refine.h | tr -d '(' | sort -u); do
    grep -qE "^REFINE_API .*\b$symbol\(" engine/include/refine/refine.h || continue
    printf '%s\n' "$exported" | grep -qx "$symbol" || {
        echo "$1: does not export $symbol"
        bad=1
    }
done
exit $bad
