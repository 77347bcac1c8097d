# shellcheck shell=bash disable=SC2034
# tools/setup.sh -- what tools/demo.sh and tools/check.sh share: packages and reporting.  Sourced.

build_packages=(
    gcc libc6-dev cmake ninja-build pkg-config
    liburing-dev libzstd-dev libpng-dev libjpeg-dev libjansson-dev
    libutf8proc-dev libxxhash-dev libexif-dev zlib1g-dev
)
test_packages=(libcriterion-dev g++ clang binutils)
optional_packages=(clang-format-14 shellcheck)

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die() {
    printf '%s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "packages are missing and neither root nor sudo is to be had; install: $*"
    fi
}

is_installed() {
    dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q ' installed$'
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# install_packages PACKAGE...: asks apt for what is missing; does nothing when nothing is.
install_packages() {
    local missing=() package
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian or Ubuntu system: assuming the equivalents of these are installed: $*"
        return
    fi
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    step "installing ${missing[*]}"
    apt_get update || die "apt-get update failed: is there a network?"
    apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install ${missing[*]}"
    installed_something=yes
}

clang_can_fuzz() {
    local program result=0
    program=$(mktemp)
    printf 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n ? 0 : 0; }\n' |
        clang -fsanitize=fuzzer,address -x c - -o "$program" 2>/dev/null || result=1
    rm -f "$program"
    return $result
}

# The sanitizers' runtime of clang is a package of its own, named differently over the releases.
install_clang_runtime() {
    local major package
    command -v clang >/dev/null && ! clang_can_fuzz || return 0
    major=$(clang -dumpversion | cut -d. -f1)
    for package in "libclang-rt-$major-dev" "libclang-common-$major-dev"; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            install_packages "$package"
        fi
    done
}

# Nice to have: tried once, when other packages had to be installed anyway.
install_optional() {
    local package
    [ "${installed_something:-}" = yes ] || return 0
    for package in "${optional_packages[@]}"; do
        is_installed "$package" ||
            apt_get install -y --no-install-recommends "$package" >/dev/null 2>&1 || true
    done
}
