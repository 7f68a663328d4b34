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
    # A leading +: with all that this package depends on, its C library too, since it is of another suite than this one. That suite moves on
    # still, and lets go of older versions; from 4.2.1 on sockets of TCP are kept on Linux 6.16 and newer.
    criu) echo "forky +criu" ;;
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
            +*) package=$(apt-cache $options depends --recurse --important "${package#+}" | grep '^[a-z]') ;;
            esac
            apt-get $options -qq download $package || exit 1
        done
    ) >&2 || return 1
    for package in "$work"/*.deb; do dpkg-deb -x "$package" "$tree"; done
    [ "$name" != criu ] || own_libraries >"$tree/criu"
    [ ! -f "$tree/criu" ] || chmod 755 "$tree/criu"
    chmod 755 "$tree"
    recipe "$name" >"$tree/recipe"
    # One that was made by an older recipe.
    rm -rf "${tools:?}/$name"
    # Two at once: the one that comes later finds it there, which mv calls an error.
    said=$(mv -T "$tree" "$tools/$name" 2>&1) || [ -d "$tools/$name" ] || {
        echo "error: $name: $said" >&2
        return 1
    }
    rm -rf "$work" "$tree"
    trap - EXIT
}

# QEMU is unpacked without what it loads.
say_what_qemu_lacks() {
    lacking=$(ldd "$tools/qemu/usr/bin/qemu-system-x86_64" 2>/dev/null | sed -n 's/ => not found//p' | tr -d '\t' | tr '\n' ' ')
    [ -z "$lacking" ] || echo "note: QEMU does not start without ${lacking}here; Debian's package qemu-system-x86 brings them" >&2
}

for name in "$@"; do
    wanted=$(recipe "$name")
    # shellcheck disable=SC2086 # a list of words
    [ "$(cat "$tools/$name/recipe" 2>/dev/null)" = "$wanted" ] || fetch "$name" $wanted
    [ "$name" != qemu ] || say_what_qemu_lacks
    echo "$tools/$name"
done
