#!/bin/sh
# tests/lint/dead.sh -- fail when a function that a header of the product declares is named nowhere
# in the product but where it is declared and defined: nobody calls it.  Run from the source root.
#
# What the public headers export is for others to call (tests/lint/exports.sh).  ALLOWED are called
# by tests alone, each for the reason beside it.
ALLOWED='
cuda_self_test_one     gpu_check.sh asks for a family of kernels by name
cuda_self_test_family  likewise
i8_encode_tile_plain   the twin of the wide one, to the bit
euler_end          where a base hands over; its vectors are those of euler_first
new_file_open_named    where tests run, files can be without a name
mem_fail_after         an allocation that fails is what it is for
'
# shellcheck disable=SC2046 # our file names have no spaces
awk -v allowed="$ALLOWED" '
    BEGIN {
        n = split(allowed, line, "\n")
        for (i = 1; i <= n; i++) {
            split(line[i], word, " ")
            if (word[1] != "")
                excused[word[1]] = 1
        }
    }
    # Comments are no use of a name.
    {
        text = $0
        gsub(/"([^"\\]|\\.)*"/, "", text)
        if (inside) {
            if (!sub(/^.*\*\//, "", text)) next
            inside = 0
        }
        gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, "", text)
        if (sub(/\/\*.*/, "", text)) inside = 1
        sub(/\/\/.*/, "", text)
    }
    FILENAME ~ /\.(h|cuh)$/ && text ~ /^(__device__|[a-z]).*[a-z0-9_]\(/ && text !~ /REFINE_API|^typedef|^return|#/ {
        name = text
        sub(/\(.*/, "", name)
        sub(/^.*[^a-zA-Z0-9_]/, "", name)
        declared[name] = FILENAME
        # Its own: where it is defined there, one.  Templates are, in .cuh.
        there = text ~ /^(static|INLINE|__device__)/ || (FILENAME ~ /cuh$/ && text !~ /;$/)
        mentions[name] = there ? 1 : 2
    }
    {
        while (match(text, /[A-Za-z_][A-Za-z0-9_]*/)) {
            word_at = substr(text, RSTART, RLENGTH)
            seen[word_at]++
            text = substr(text, RSTART + RLENGTH)
        }
    }
    END {
        for (name in declared) {
            n_declared++
            if (seen[name] <= mentions[name] && !(name in excused)) {
                print declared[name] ": " name "() is called by nobody"
                bad = 1
            }
        }
        if (n_declared < 200) {
            print "only " n_declared " functions were found in headers"
            bad = 1
        }
        exit bad
    }' $(find engine kernels offload quant tools -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh')
