# Sourced by the scripts at the root: sees to it that cargo can build and run
# xtask, which does all the rest. $root is the work tree.

oldest_rust=1.95

if ! command -v cargo >/dev/null; then
    echo "error: there is no cargo. Install Rust $oldest_rust or newer: https://rustup.rs" >&2
    exit 1
fi
rust=$(rustc --version | cut -d ' ' -f 2)
if [ "$(printf '%s\n' "$oldest_rust" "$rust" | sort -V | head -n 1)" != "$oldest_rust" ]; then
    echo "error: this is Rust $rust, but $oldest_rust is needed. Run: rustup update stable" >&2
    exit 1
fi

# cargo links with cc, and some dependencies compile a little C.
if ! command -v cc >/dev/null; then
    packages=(gcc libc6-dev)
    echo "missing: ${packages[*]} (cargo links with them)"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: run this and try again: sudo apt-get install ${packages[*]}" >&2
        exit 1
    fi
    echo "\$ apt-get install ${packages[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

cd "$root"
