#!/bin/sh
# Makes sure that what `run`, `test`, `guest` or `bench` needs is there: installs it as root on Debian, and says what is missing elsewhere.
set -eu

purpose=${1:-run}

# command:package or file:package, what a machine needs to build; without these nothing works.
needed="cc:gcc make:make"
# What makes sandboxes better, and what they lack without it.
wanted="mkfs.btrfs:btrfs-progs nft:nftables newuidmap:uidmap mmdebstrap:mmdebstrap"
modules=/usr/lib/python3/dist-packages
interpreter="$modules/ipykernel:python3-ipykernel $modules/jupyter_client:python3-jupyter-client $modules/matplotlib:python3-matplotlib $modules/pandas:python3-pandas node:nodejs /usr/share/nodejs/typescript:node-typescript"
case $purpose in
test) wanted="$wanted qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs setpriv:util-linux python3:python3 pip3:python3-pip npm:npm node:nodejs pg_ctlcluster:postgresql docker-registry:docker-registry skopeo:skopeo podman:podman runc:runc fakechroot:fakechroot fakeroot:fakeroot $interpreter" ;;
guest) wanted="$wanted qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs strip:binutils" ;;
bench) wanted="$wanted qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs python3:python3 pip3:python3-pip npm:npm node:nodejs unshare:util-linux pg_ctlcluster:postgresql cpio:cpio nsenter:util-linux bwrap:bubblewrap crun:crun runc:runc podman:podman dockerd:docker.io" ;;
esac

missing() {
    for pair in $1; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || [ -e "${pair%%:*}" ] || printf '%s ' "${pair#*:}"
    done
}

command -v cargo >/dev/null 2>&1 || {
    echo "error: Rust is missing: install the stable toolchain, 1.95 or newer (rustup), and try again" >&2
    exit 1
}

packages=$(missing "$needed $wanted")
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing Debian packages: $packages" >&2
    log=$(mktemp)
    # Packages may bring servers; none of them shall start.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
    fi
    # shellcheck disable=SC2086 # a list of words
    if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    echo "warning: they could not be installed; the end of the log:" >&2
    tail -n 5 "$log" >&2
    rm -f "$log"
fi

packages=$(missing "$needed")
if [ -n "$packages" ]; then
    echo "error: missing: $packages(Debian's names). Install them, then try again." >&2
    exit 1
fi
echo "note: not installed: $(missing "$wanted")(Debian's names). Everything runs without them; \`skerry doctor\` says what is lacking." >&2
