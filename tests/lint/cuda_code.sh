#!/bin/sh
# tests/lint/cuda_code.sh BUILD_DIR STEP... -- fail unless what nvcc made of every kernel spills no
# register and keeps to its ceiling of registers, for every architecture it was built for, and the
# kernels for tensor cores are the ones with mma.sync, in the PTX of each step (cmake/Cuda.cmake).
# Run from the source root.
#
# Registers are as of ptxas, which cmake/keep_report.sh kept, with the PTX; shared memory is all
# dynamic, and load_kernel (kernels/cuda/launch.cuh) asserts that it is no more than the oldest
# cards have.
reports=$(find "$1" -name '*.cu.o.ptxas' 2>/dev/null)
if [ -z "$reports" ]; then
    echo "SKIP the CUDA device was not built by nvcc"
    exit 77
fi
bad=0

# shellcheck disable=SC2086 # a list of files
awk '
    # The most registers that a kernel may take; what is not here must not exist.
    BEGIN {
        most["product_tensor_kernel"] = 254; most["product_simt_kernel"] = 208
        most["product_int8_kernel"] = 176; most["quantise_kernel"] = 56
        most["flash_kernel"] = 208; most["flash_wide_kernel"] = 200
        most["flash_simt_kernel"] = 200; most["flash_simt_wide_kernel"] = 128
        most["sums_kernel"] = 64; most["affine_kernel"] = 104
        most["layernorm_kernel"] = 64; most["element_kernel"] = 56
    }
    function complain(what) { print kernel " for " arch ": " what; bad = 1 }
    /Compiling entry function/ {
        match($0, /sm_[0-9]+/); arch = substr($0, RSTART, RLENGTH)
        split($0, quoted, "\047"); kernel = quoted[2]; ceiling = 0
        for (name in most)
            if (index(kernel, length(name) name)) ceiling = most[name]
        n_archs += !of[arch]++; all++
        if (!ceiling) complain("has no ceiling of registers in tests/lint/cuda_code.sh")
    }
    /bytes stack frame/ && !/ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/ {
        sub(/^ */, ""); complain($0)
    }
    match($0, /Used [0-9]+ registers/) {
        used = substr($0, RSTART + 5, RLENGTH - 15) + 0
        if (used > ceiling) complain(used " registers, " ceiling " are allowed")
        if (match($0, /[0-9]+ bytes smem/)) complain("has static shared memory")
        seen++
    }
    END {
        for (arch in of) {
            if (of[arch] * n_archs != all) {
                print arch ": " of[arch] " kernels of " all " for " n_archs " architectures"
                bad = 1
            }
        }
        if (seen != all || all == 0) {
            print "the reports are not as expected: registers of " seen " kernels of " all
            bad = 1
        }
        print all " kernels for " n_archs " architectures"
        exit bad
    }' $reports || bad=1

# read_ptx FILE STEP -- mma.sync by kernel: of 7.5 with k of 8, of later ones with k of 16; of int8
# twice as many.  What lies as it is multiplied goes to shared memory by itself from 8.0 on, and is
# waited for before the loop and in it.  IEEE division and the like, which are a branch and a call
# each, have no place where every element passes: of floats in the one kernel that takes two for a
# group, of doubles in the two that take a quotient or two for a whole group.
read_ptx() {
    awk -v of="$1" -v old="$(($2 < 80))" '
        function complain(what) { print of ": " entry " has " what }
        function check() {
            if (entry == "") return
            ints = entry ~ /19product_int8_kernel/
            wanted = ints || entry ~ /product_tensor_kernel|12flash_kernel|17flash_wide_kernel/
            right = ints ? of_int8 : of_halves
            if ((n > 0) != wanted || n != right)
                complain(n " mma.sync, " right " of them of its form")
            copying = !old && entry ~ /half_pixels|half_rows|product_int8_kernel|12flash_kernelILb1/
            staged = !old && entry ~ /product_[a-z0-9]+_kernel|12flash_kernel/
            if ((copies > 0) != copying || waits != (staged ? 2 : 0))
                complain(copies " copies to shared memory and " waits " waits for them")
            if (slow && entry !~ /15quantise_kernel/)
                complain(slow " divisions or roots rounded as IEEE has it")
            if (slow64 && entry !~ /11sums_kernel|13affine_kernel/)
                complain(slow64 " divisions or roots of doubles")
        }
        function begin() { n = of_halves = of_int8 = copies = waits = slow = slow64 = 0 }
        BEGIN { halves = old ? ".m16n8k8." : ".m16n8k16."; int8 = old ? ".m8n8k16." : ".m16n8k32." }
        /\.entry/ { check(); entry = $0; begin(); kernels++ }
        /mma\.sync/ { n++; of_halves += index($0, halves) > 0; of_int8 += index($0, int8) > 0 }
        /cp\.async\.cg\.shared\.global.*, 16, %r/ { copies++ }
        /cp\.async\.wait_all/ { waits++ }
        /(div|rcp|sqrt)\.rn\.(ftz\.)?f32/ { slow++ }
        /(div|rcp|sqrt)\.rn\.f64/ { slow64++ }
        END { check(); print of ": " kernels + 0 " kernels" }' "$1"
}

# shellcheck disable=SC2086 # a list of files
kernels=$(grep -h 'Compiling entry function' $reports | sed "s/' for .*//" | sort -u | wc -l)
dir=$1
shift
[ $# -gt 0 ] || bad=1
for step in "$@"; do
    find "$dir" -name "*.cu.o.$step.ptx" | while read -r ptx; do
        read_ptx "$ptx" "$step"
    done | awk -v all="$kernels" -v step="$step" '
        /: [0-9]+ kernels$/ { n += $(NF - 1); next }
        { print; bad = 1 }
        END {
            print n + 0 " kernels in PTX of " step
            if (n != all) { print "there should be " all; bad = 1 }
            exit bad
        }' || bad=1
done
exit $bad
