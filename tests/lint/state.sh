#!/bin/sh
# tests/lint/state.sh LIBRARY.a... -- fail when a library keeps mutable state between calls: a
# variable in .data, .bss or thread-local storage.  The counters of engine/base/mem.c are the one
# exception: they count the process; and what nvcc itself keeps to find a kernel's code, or the
# card's context_bytes.
objdump -t "$@" | awk '
    /^[^ ]+: +file format/ { object = $1; sub(/:$/, "", object) }
    /^In archive/ { archive = $3 }
    $NF ~ /__device_stub__|^_ZL20__cudaFatCubinHandle$|^_ZL13context_bytes$/ { next }
    object != "mem.c.o" && / O / && / \.(data|bss|tdata|tbss|data\.[^r][^ ]*|bss\.[^ ]*)\t/ {
        print archive " " object " " $NF " is mutable state"
        bad = 1
    }
    END { exit bad }'
