#!/bin/sh
# Puts programs that this Debian does not have, or has too old, into the user's cache folder: nothing is installed, no source is added to the machine.
# usage: tools.sh NAME...    prints the folder of each; a tool that cannot be had is an error.
set -eu

tools=${XDG_CACHE_HOME:-$HOME/.cache}/skerry/tools

# The suite and the packages of a tool. With a version where a newer one could behave differently.
recipe() {
    case $1 in
    runsc) echo "bookworm-backports runsc=0.0~20240729*" ;;
    qemu) echo "bookworm-backports qemu-system-x86=1:10.0.2* qemu-system-common=1:10.0.2* qemu-system-data=1:10.0.2* seabios" ;;
    docker) echo "bookworm docker.io containerd runc libdevmapper1.02.1" ;;
    # With all that it needs, its C library too: it is of another suite than this one.
    criu) echo "trixie criu=4.1.1* libcompel1 libc6 libnet1 libbsd0 libmd0 libgnutls30t64 libnftables1 libnl-3-200 libprotobuf-c1 libuuid1 libnftnl11 libmnl0 libxtables12 libjansson4 libgmp10 libedit2 libtinfo6 libp11-kit0 libidn2-0 libunistring5 libtasn1-6 libnettle8t64 libhogweed6t64 libffi8 libcap2" ;;
    # A leading @: what this package depends on, since its own content is nothing.
    kernel) echo "bookworm @linux-image-cloud-amd64" ;;
    *)
        echo "error: no tool is called $1" >&2
        exit 1
        ;;
    esac
}

# The mirror that this machine takes its own suite from has the neighbouring suites too.
mirror() {
    # shellcheck disable=SC1091 # every Debian has it
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016 # apt fills these in
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | sed -n "s/^$codename //p" | head -n 1
}

# What runs CRIU with the libraries beside it.
own_libraries() {
    cat <<'EOF'
#!/bin/sh
root=${0%/*}
libraries=$root/usr/lib/$(uname -m)-linux-gnu
exec "$libraries"/ld-linux-*.so.* --library-path "$libraries" "$root/usr/sbin/criu" "$@"
EOF
}

fetch() {
    name=$1 suite=$2
    shift 2
    uri=$(mirror)
    [ -n "$uri" ] || {
        echo "error: $name: this machine has no Debian mirror among its package sources" >&2
        return 1
    }
    work=$(mktemp -d)
    # Beside what it becomes: a move within a file system is whole or not at all.
    mkdir -p "$tools"
    tree=$(mktemp -d "$tools/.XXXXXX")
    trap 'rm -rf "$work" "$tree"' EXIT
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$key] $uri $suite main" >"$work/sources.list"
    set -- -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/lists" \
        -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root -- "$@"
    options=""
    while [ "$1" != -- ]; do options="$options $1" && shift; done
    shift
    # shellcheck disable=SC2086 # lists of words
    (
        cd "$work" && apt-get $options -qq update || exit 1
        for package in "$@"; do
            case $package in
            @*) package=$(apt-cache $options depends "${package#@}" | sed -n 's/.*Depends: //p' | head -n 1) ;;
            esac
            apt-get $options -qq download "$package" || exit 1
        done
    ) >&2 || return 1
    for package in "$work"/*.deb; do dpkg-deb -x "$package" "$tree"; done
    [ "$name" != criu ] || own_libraries >"$tree/criu"
    [ ! -f "$tree/criu" ] || chmod 755 "$tree/criu"
    chmod 755 "$tree"
    # Two at once: the one that comes later finds it there, which mv calls an error.
    said=$(mv -T "$tree" "$tools/$name" 2>&1) || [ -d "$tools/$name" ] || {
        echo "error: $name: $said" >&2
        return 1
    }
    rm -rf "$work" "$tree"
    trap - EXIT
}

for name in "$@"; do
    # shellcheck disable=SC2046 # a list of words
    [ -d "$tools/$name" ] || fetch "$name" $(recipe "$name")
    echo "$tools/$name"
done
