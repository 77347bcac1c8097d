# shellcheck shell=bash
# tools/gpu_check/built.sh -- building, and carrying what was built to where the card is.
# Sourced by tools/gpu_check.sh.
#
# DIR of `build` holds
#
#   commit, sha256     of which commit, and all files' sums
#   main/              bin, tests and bench for the cards named by --arch
#   75/, 80/           the tests, of whose kernels a newer card's driver compiles the PTX
#   lib/               the shared libraries they need, but those of the system; found by $ORIGIN
#   tree/              the scripts and files of this repository that a run needs
#
# and DIR.tar.gz is the same in one file, to be carried.

TAR_MOST=$((56 << 20)) # of 64 MiB that may be carried, the tree beside it having the rest
TREE_FILES=(tools/gpu_check.sh tools/gpu_check tests/bench/torch_step.py
    tests/bench/diffusers_step.py docs/sample/demo_merges.txt)

# ---- headers and libraries, for a machine that has no packages of ours ----

collect() {
    local to=$1 triple name path
    triple=$(cc -print-multiarch)
    mkdir -p "$to/include" "$to/lib"
    for name in zstd.h zstd_errors.h xxhash.h xxh3.h jansson.h jansson_config.h utf8proc.h \
        liburing.h liburing png.h pngconf.h pnglibconf.h jpeglib.h jmorecfg.h jerror.h jconfig.h \
        libexif zlib.h zconf.h; do
        for path in /usr/include/$name /usr/include/$triple/$name; do
            [ ! -e "$path" ] || cp -rL "$path" "$to/include/"
        done
    done
    for name in zstd xxhash jansson utf8proc uring png jpeg exif z; do
        path=$(cc -print-file-name=lib$name.a)
        [ -f "$path" ] || die "lib$name.a is not here; tools/setup.sh names the packages"
        cp -L "$path" "$to/lib/"
    done
    du -sh "$to"
}

# ---- building ----

# Of this tree, and not of a repository that it lies in.
tree_commit() {
    local commit=''
    if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ]; then
        commit=$(git describe --always --dirty 2>/dev/null) || true
    fi
    say "${GPU_CHECK_COMMIT:-${commit:-unknown}}"
}

# configure_way WAY ARCHITECTURES: in $objects/WAY
configure_way() {
    local generator='Unix Makefiles' kind=ON
    ! command -v ninja >/dev/null || generator=Ninja
    [ -z "$emulated" ] || kind=EMULATED
    cmake -S . -B "$objects/$1" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
        -DREFINE_PARTIAL=ON -DREFINE_GPU_TESTS=ON -DREFINE_CUDA=$kind \
        -DREFINE_CUDA_ARCHITECTURES="$2" -DREFINE_DEPS="$with" \
        -DREFINE_WITHOUT="${GPU_CHECK_WITHOUT:-}" \
        "-DCMAKE_BUILD_RPATH=\$ORIGIN/../../lib" \
        -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags
}

# build_way WAY ARCHITECTURES [TARGET...]
build_way() {
    local way=$1 log=$objects/$1.log
    say "building $way, for $2"
    if ! configure_way "$way" "$2" >"$log" 2>&1; then
        tail -n 20 "$log"
        die "cannot configure; see $log"
    fi
    sed -n 's/^-- left out:/left out:/p' "$log"
    shift 2
    if ! cmake --build "$objects/$way" --parallel "$(nproc)" ${1:+--target "$@"} >>"$log" 2>&1; then
        grep -E 'error:|FAILED:' "$log" | head -n 20
        die "cannot build; see $log"
    fi
}

# take_way WAY: its programs, without what only a debugger reads
take_way() {
    local program place
    for place in bin tests bench; do
        for program in "$objects/$1/$place"/*; do
            if [ -f "$program" ] && [ -x "$program" ]; then
                mkdir -p "$built/$1/$place"
                strip --strip-debug -o "$built/$1/$place/${program##*/}" "$program"
            fi
        done
    done
}

# What a program needs and no system is sure to have.  The C++ library stays the system's: the
# sanitizer's and the profiler's own code in the process may want a newer one than ours.
take_libraries() {
    mkdir -p "$built/lib"
    find "$built" -type f -perm -u+x -print0 | xargs -0 ldd 2>/dev/null |
        awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
        grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libcuda|libnvidia-ml)\.so' |
        while read -r library; do
            cp -L "$library" "$built/lib/"
        done
}

take_tree() {
    local file
    for file in "${TREE_FILES[@]}"; do
        mkdir -p "$built/tree/$(dirname "$file")"
        cp -r "$file" "$built/tree/$(dirname "$file")/"
    done
}

seal() {
    [ "$(tree_commit)" = "$(cat "$built/commit")" ] ||
        die "the tree became $(tree_commit) while $(cat "$built/commit") was built: build again"
    (cd "$built" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) >"$objects/sha256"
    mv "$objects/sha256" "$built/sha256"
    tar -C "$built/.." -czf "$built.tar.gz" "$(basename "$built")"
    local bytes
    bytes=$(wc -c <"$built.tar.gz")
    say "$built.tar.gz: $((bytes >> 20)) MiB, commit $(cat "$built/commit")"
    [ "$bytes" -lt $TAR_MOST ] || die "it must be below $((TAR_MOST >> 20)) MiB to be carried"
    case $(cat "$built/commit") in
    *-dirty) say "mind: the tree has changes that no commit has" ;;
    esac
}

# A driver takes the newest PTX that it finds: that of an older card must be the only one.
check_ptx() {
    local found
    found=$(find "$objects/$1" \( -name build.ninja -o -name flags.make -o -name build.make \) \
        -exec grep -oh 'compute_[0-9]*' {} + | sort -u | tr '\n' ' ')
    [ "$found" = "compute_$1 " ] || die "the build for $1 alone has $found"
}

build_all() {
    local way
    mkdir -p "$objects"
    rm -rf "$built" "$built.tar.gz"
    mkdir -p "$built"
    built=$(cd "$built" && pwd)
    tree_commit >"$built/commit"
    build_way main "$architectures"
    take_way main
    for way in 75 80; do
        [ -z "$emulated" ] || break
        build_way $way $way test_cuda_{linear,conv2d,norm,attention}
        check_ptx $way
        take_way $way
    done
    take_libraries
    take_tree
    seal
}

# ---- taking it into use ----

# The scripts that run must be those that were built for, to the byte: a tree with changes has the
# name of many.
check_tree() {
    local commit other
    commit=$(tree_commit)
    case $commit in
    "$(cat "$built/commit")" | unknown) ;;
    *) die "$built is of commit $(cat "$built/commit"), this tree is $commit: build again" ;;
    esac
    other=$(sed -n 's|^\([0-9a-f]*\)  \./tree/|\1  |p' "$built/sha256" |
        sha256sum -c 2>/dev/null | sed -n 's/: FAILED.*//p' | tr '\n' ' ') || true
    [ -z "$other" ] ||
        die "$built is of commit $(cat "$built/commit"), and of this tree other files: ${other% }"
}

# open_built: a folder, or a tar, which is unpacked
open_built() {
    if [ -f "$built" ]; then
        mkdir -p "$work"
        rm -rf "$work/built"
        mkdir "$work/built"
        tar -C "$work/built" --strip-components=1 -xzf "$built" ||
            die "$built cannot be unpacked into $work ($(free_mib "$work") MiB are left there)"
        built=$work/built
    fi
    if [ ! -s "$built/commit" ] || [ ! -s "$built/sha256" ]; then
        die "nothing is built in $built; tools/gpu_check.sh build makes it"
    fi
    built=$(cd "$built" && pwd)
    (cd "$built" && sha256sum --quiet -c sha256) ||
        die "$built is not as it was built: files were changed or lost"
    check_tree
    main=$built/main
}
