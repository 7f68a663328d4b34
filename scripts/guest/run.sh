#!/bin/sh
# Runs the namespace driver's tests in a virtual machine with control groups of version 2, as Debian boots, whatever this machine has.
# usage: run.sh [FILTER]    only the tests whose name has FILTER in it, as root; without it the checks that depend on the kernel, as each kind of user.
# Without KVM the machine is emulated: some minutes. Exits with 0 and says why where it cannot be done at all.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/skerry/guest
limit=${SKERRY_GUEST_SECONDS:-900}

leave_out() {
    echo "left out: tests in a guest kernel: $1" >&2
    exit 0
}

[ "$(id -u)" = 0 ] || leave_out "the file system of the guest can only be made as root"
for program in mmdebstrap mke2fs; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || leave_out "$program is not installed"
done
kernel=$(scripts/tools.sh kernel) || leave_out "there is no kernel to be had"
tool=$(scripts/tools.sh qemu) || tool=/nonexistent
qemu=$tool/usr/bin/qemu-system-x86_64
"$qemu" --version >/dev/null 2>&1 || qemu=$(command -v qemu-system-x86_64) || leave_out "there is no QEMU to be had"

# A small Debian, kept for the next time.
# shellcheck disable=SC1091 # every Debian has it
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
base=$cache/$codename
if [ ! -d "$base" ]; then
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/new.XXXXXX")
    mmdebstrap --quiet --variant=minbase --format=directory --include=python3,uidmap,kmod,nftables,btrfs-progs,iproute2,procps \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$codename" "$new/root" || { rm -rf "$new"; leave_out "no Debian packages"; }
    mv -T "$new/root" "$base" 2>/dev/null || [ -d "$base" ]
    rm -rf "$new"
fi

built=$(cargo test --package skerry-driver-ns --test ns --no-run 2>&1) || { echo "$built" >&2; exit 1; }
tests=$(echo "$built" | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
helper=$PWD/$(dirname "$(dirname "$tests")")/skerry-ns-helper
case $tests in /*) helper=$(dirname "$(dirname "$tests")")/skerry-ns-helper ;; esac

work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
root=$work/root
cp -al "$base" "$root"
# The tests know their helper by the path that it was built at.
mkdir -p "$root$(dirname "$helper")" "$root/skerry"
strip -o "$root$helper" "$helper"
strip -o "$root/skerry/tests" "$tests"
install -m 0755 "$here/init.sh" "$root/skerry/init"
printf '%s\n' "${1:-}" >"$root/skerry/filter"
rm -f "$root/etc/subuid" "$root/etc/subgid"
echo "nobody:700000000:65536" | tee "$root/etc/subuid" >"$root/etc/subgid"
cp -a "$kernel"/lib/modules "$root/usr/lib/"
release=$(basename "$kernel"/lib/modules/*)
chroot "$root" depmod "$release"
PATH="$PATH:/usr/sbin:/sbin" mke2fs -q -t ext4 -d "$root" "$work/disk" 3G
rm -rf "$root"

accel=tcg,thread=multi
# Taken only by who says so: there are machines where it is there and does not work.
[ -z "${SKERRY_GUEST_KVM:-}" ] || accel=kvm
data=$tool/usr/share
timeout --kill-after=5 "$limit" "$qemu" -L "$data/qemu" -L "$data/seabios" -L /usr/share/qemu -L /usr/share/seabios \
    -machine q35 -accel "$accel" -cpu max -smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$kernel/boot/vmlinuz-$release" \
    -append "console=ttyS0 quiet root=/dev/nvme0n1 rootfstype=ext4 rw init=/skerry/init panic=-1 mitigations=off no_timer_check tsc=reliable random.trust_cpu=on" \
    -drive "if=none,id=disk,file=$work/disk,format=raw,cache=unsafe" -device nvme,drive=disk,serial=1 \
    -serial stdio </dev/null | tr -d '\r' | tee "$work/log"
if ! grep -q '^guest: passed$' "$work/log"; then
    echo "error: the tests in the guest failed, or took longer than $limit seconds" >&2
    exit 1
fi
