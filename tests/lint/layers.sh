#!/bin/sh
# tests/lint/layers.sh -- fail when an #include crosses a layer of tests/lint/layers.txt.
# Run from the source root.
# shellcheck disable=SC2016
# Our file names have no spaces.
# shellcheck disable=SC2046
awk '
    function begins_with_one_of(text, list,    part, n, i) {
        n = split(list, part, " ")
        for (i = 1; i <= n; i++)
            if (index(text, part[i]) == 1)
                return 1
        return 0
    }
    function complain(what) {
        print FILENAME ":" FNR ": " what
        bad = 1
    }
    BEGIN {
        while ((getline line < "tests/lint/layers.txt") > 0) {
            if (line == "" || line ~ /^#/)
                continue
            key = line
            sub(/[ \t].*/, "", key)
            sub(/^[^ \t]+[ \t]+/, "", line)
            if (key ~ /^</)
                owners[key] = line
            else
                may[key] = line
        }
    }
    FNR == 1 {
        layer = ""
        for (dir in may)
            if (index(FILENAME, dir "/") == 1 && length(dir) > length(layer))
                layer = dir
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, quoted, "\"")
        if (!begins_with_one_of(quoted[2], may[layer]))
            complain(layer "/ may not include " quoted[2])
    }
    /^[ \t]*#[ \t]*include[ \t]*</ {
        name = substr($0, index($0, "<"))
        for (prefix in owners)
            if (index(name, prefix) == 1 && !begins_with_one_of(FILENAME, owners[prefix]))
                complain("only " owners[prefix] " may include " name)
    }
    END { exit bad }' $(find engine kernels offload quant tools -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh')
