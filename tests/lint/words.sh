#!/bin/sh
# tests/lint/words.sh -- fail on what the house style (docs/style.md) forbids by spelling.
# Run from the source root.
bad=0
ours=$(find engine kernels offload quant tools -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh')
all="$ours $(find tests -name '*.[ch]')"

# forbid WHY PATTERN FILES...
forbid() {
    why=$1 pattern=$2
    shift 2
    [ $# -gt 0 ] || return 0
    if found=$(grep -nHE -- "$pattern" "$@"); then
        printf '%s\n' "$found" | sed "s|\$|    <- $why|"
        bad=1
    fi
}

# except PATTERN FILES...: the files that do not match
except() {
    pattern=$1
    shift
    printf '%s\n' "$@" | grep -vE -- "$pattern"
}

# Lists of files without spaces in their names, split on purpose.
# shellcheck disable=SC2046,SC2086
{
    forbid 'a tab' "$(printf '\t')" $all
    forbid 'trailing space' ' $' $all
    forbid 'longer than 100 columns' '^.{101}' $all
    forbid 'comments are /* */' '(^|[^:"])//( |$)' $all
    forbid 'an open end: finish it or leave it out' '\b(TODO|FIXME|XXX)\b' $all
    forbid 'a path of one machine' '"/(home|work|tmp|root|mnt)/' $ours
    forbid 'heap memory goes through engine/base/mem.h' \
        '(^|[^_a-zA-Z0-9.>])(malloc|calloc|realloc|strdup|strndup|aligned_alloc|posix_memalign) ?\(' \
        $(except '^engine/base/mem\.c$' $ours)
    # What jansson hands out is given back with free().
    forbid 'heap memory goes through engine/base/mem.h' '(^|[^_a-zA-Z0-9.>])free ?\(' \
        $(grep -L '^#include <jansson.h>' $(except '^engine/base/mem\.c$' $ours))
    forbid 'unbounded string function' \
        '(^|[^_a-zA-Z0-9])(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atof|atol) ?\(' $ours
    # isa.c pretends that the processor is a lesser one: for tests, whatever program they run.
    forbid 'the environment is read by tools and tests only' '(^|[^_a-zA-Z0-9])getenv ?\(' \
        $(except '^tools/' $(except '^kernels/cpu/isa\.c$' $ours))
    # The right column of the glossary.  compare's JSON has a member "picture".
    forbid 'docs/style.md has another word for it' \
        '([^"a-z]|^|[a-z]_)(picture|pictures|rehears[a-z]*|foretold|company)([^"a-z]|$)' $ours
    forbid 'a ceiling ends in _MAX, a floor in _MIN' '_(MOST|LEAST)\b|\bMAX_[A-Z]' $ours
    forbid 'a test links the library, it does not include a .c' '^#include ".*\.c"' $all
}
exit $bad
