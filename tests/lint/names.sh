#!/bin/sh
# tests/lint/names.sh -- fail when a function or a type is defined twice in the tree, or a function
# has a name of one word.  Run from the source root.
#
# A body that is compiled several times (kernels/cpu/*_body.h) is one definition.  ALLOWED may be
# defined more than once, or be of one word, each for the reason beside it.
ALLOWED='
main                   the C standard names it
dev_event              a device says what its events are; nobody else looks inside
dev_open_cuda          kernels/cuda/absent.c answers where there is no CUDA
dev_list_gpus          likewise
reader_open_uring      offload/uring_absent.c answers where there is no io_uring
operator_begins        a bench says what it does with an operator (tests/bench/operators.h)
operator_ended         likewise
operators_of           likewise
vf                     lanes of floats, as wide as the body that is compiled (kernels/cpu/*_body.h)
vi                     likewise, of integers
opened_cpu             a hook that a test program may define (tests/support/opened_cpu.h)
LLVMFuzzerTestOneInput libFuzzer names it
'
# What stands for a real thing of the same name, and says so at its head.
TWINS='^tests/support/cuda/'
# shellcheck disable=SC2046 # our file names have no spaces
awk -v allowed="$ALLOWED" -v twins="$TWINS" '
    BEGIN {
        n = split(allowed, line, "\n")
        for (i = 1; i <= n; i++) {
            split(line[i], word, " ")
            if (word[1] != "")
                excused[word[1]] = 1
        }
    }
    function define(what, name) {
        if (FILENAME ~ twins)
            return
        if ((name in first && first[name] == FILENAME ":" FNR) || name ~ /^[A-Z_]+$/ || name ~ /^(float|int)$/)
            return
        count[what]++
        if (name in excused || name ~ /^cuda[A-Z]/) # CUDA names its own
            return
        if (what == "function" && name !~ /[a-zA-Z0-9]_[a-zA-Z0-9]/) {
            print FILENAME ":" FNR ": " name "() is a name of one word"
            bad = 1
        }
        if (what == "function" && name ~ /^(do|my|the)_|_(impl|helper|internal|func)$/) {
            print FILENAME ":" FNR ": " name "() has a filler in its name"
            bad = 1
        }
        if (name in first) {
            print FILENAME ":" FNR ": " name " is defined in " first[name] " too"
            bad = 1
        } else
            first[name] = FILENAME ":" FNR
    }
    # Twice in one file are alternatives of the preprocessor, or overloads by type.
    function define_function(name) {
        if (!((FILENAME ":" name) in seen_here))
            define("function", name)
        seen_here[FILENAME ":" name] = 1
    }
    # The head of a definition, without what may stand before its name and has brackets itself.
    function name_of(head,    name) {
        gsub(/__launch_bounds__\([^()]*(\([^()]*\)[^()]*)*\)/, "", head)
        gsub(/__attribute__\(\([^()]*(\([^()]*\)[^()]*)*\)\)/, "", head)
        gsub(/extern "C" /, "", head)
        gsub(/[A-Z_]+\([A-Z"][^()]*\) */, "", head)
        gsub(/[A-Z_]+\(T\) */, "", head)
        if (!match(head, /[A-Za-z_][A-Za-z0-9_]* ?\(/))
            return ""
        name = substr(head, RSTART, RLENGTH - 1)
        sub(/ $/, "", name)
        return name
    }
    FNR == 1 { head = ""; inside = 0; type_open = 0 }
    {
        text = $0
        if (inside) {
            if (!sub(/^.*\*\//, "", text)) next
            inside = 0
        }
        gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, "", text)
        if (sub(/\/\*.*/, "", text)) inside = 1
        sub(/[ \t]+$/, "", text)
    }
    { sub(/^template ?<[^{}()]*> */, "", text) }
    text ~ /^typedef/ { gsub(/ *__attribute__\(\([^;]*\)\)/, "", text) }
    # Types: `typedef struct name {`, `struct name {`, `enum name {`, `} name;`, `typedef ... name;`.
    text ~ /^(typedef )?(struct|enum|union) [A-Za-z_0-9]+( :[^;{]*)? ?\{/ {
        name = text
        sub(/^(typedef )?(struct|enum|union) /, "", name)
        sub(/[^A-Za-z_0-9].*/, "", name)
        define("type", name)
    }
    text ~ /^(typedef )?(struct|enum|union) [A-Za-z_0-9]+$/ { tag = text; sub(/.* /, "", tag) }
    text ~ /^\{/ && tag != "" { define("type", tag) }
    text !~ /^(typedef )?(struct|enum|union) [A-Za-z_0-9]+$/ { tag = "" }
    text ~ /^typedef (struct|enum|union) ?\{/ && text !~ /\}/ { type_open = 1 }
    text ~ /^typedef .*[a-zA-Z0-9_}*)] ?[a-zA-Z_0-9]+;$/ && text !~ /^typedef (struct|enum|union) [A-Za-z_0-9]+ [A-Za-z_0-9]+;$/ {
        name = text
        sub(/;$/, "", name)
        sub(/^.*[^A-Za-z_0-9]/, "", name)
        define("type", name)
    }
    text ~ /^typedef .*\(\*?[a-z_0-9]+\)\(.*;$/ || text ~ /^typedef [a-z].* \*?[a-z_0-9]+\(.*\);$/ {
        name = text
        sub(/\)?\([^(]*$/, "", name)
        sub(/^.*[^A-Za-z_0-9]/, "", name)
        define("type", name)
    }
    type_open && text ~ /^\} [A-Za-z_0-9]+;/ {
        name = text
        sub(/^\} /, "", name)
        sub(/;.*/, "", name)
        define("type", name)
        type_open = 0
    }
    # Functions: a brace at the start of a line closes the head that began there.
    text ~ /^\{/ {
        if (head != "" && head !~ /^[A-Z][A-Za-z]*\(/ \
            && head !~ /^(typedef|struct [A-Za-z_0-9]+ ?$|enum|union|extern "C"|BODY\(|TENSOR_BOUNDS\()/) {
            name = name_of(head)
            if (name != "")
                define_function(name)
        }
        head = ""
        next
    }
    text ~ /^[A-Za-z_].*\) ?\{.*\}$/ && text !~ /^(enum|struct|union|typedef)/ && text !~ /^[^(]*=/ {
        sub(/ ?\{.*/, "", text)
        name = name_of(head " " text)
        if (name != "" && name !~ /^[A-Z][A-Za-z]*$/)
            define_function(name)
        head = ""
        next
    }
    text == "" || text ~ /^[#}]/ || text ~ /;$/ { head = ""; next }
    text == "" { next }
    text !~ /^ / || head != "" { head = head " " text; sub(/^ /, "", head) }
    END {
        if (count["function"] < 3000 || count["type"] < 300) {
            print "only " count["function"] " functions and " count["type"] " types were found"
            bad = 1
        }
        exit bad
    }' $(find engine kernels offload quant tools tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh')
