#!/bin/sh
# The first process of the guest: makes the machine as a distribution would, runs the tests, switches off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RUST_BACKTRACE=0 TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
groups=/sys/fs/cgroup
mount -t cgroup2 -o nsdelegate cgroup "$groups"
ip link set lo up 2>/dev/null
for module in overlay btrfs loop veth nf_tables; do modprobe "$module" || echo "guest: no module $module"; done
chmod 1777 /tmp
helper=$(find / -xdev -name skerry-ns-helper | head -n 1)
chmod -R a+rX /skerry
failed=""

# Runs tests as root, or as whoever the words before them make of them.
check() {
    echo "guest: $what"
    "$@" || failed="$failed; $what"
}

# The checks of the suite with this word in their name. None may be left out for want of control groups.
conform() {
    word=$1
    shift
    echo "guest: $what: conformance: $word"
    SKERRY_CONFORMANCE=$word "$@" /skerry/tests --nocapture conformance:: >/tmp/report 2>&1 || failed="$failed; $what: $word"
    cat /tmp/report
    if grep -E '^- .* (limits: (a memory hog is|a fork bomb stops|processor|stats)|pause: a)' /tmp/report; then
        failed="$failed; $what: $word were left out"
    fi
}

# An ordinary user in a group like those that systemd makes: the highest one that is the user's has no process of its own.
delegated=$groups/user.slice/user-65534.slice/user@65534.service
delegate() {
    mkdir -p "$delegated/app.slice/test.scope"
    for group in "$groups" "$groups/user.slice" "$groups/user.slice/user-65534.slice"; do
        echo "+cpu +memory +pids +io" >"$group/cgroup.subtree_control"
    done
    chown nobody "$delegated" "$delegated/cgroup.procs" "$delegated/cgroup.subtree_control" "$delegated/cgroup.threads"
    chown -R nobody "$delegated/app.slice"
}
# shellcheck disable=SC2016 # the inner shell fills it in
as_nobody() {
    sh -c 'echo $$ >"$0/app.slice/test.scope/cgroup.procs"; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' "$delegated" "$@"
}

filter=$(cat /skerry/filter)
if [ -n "$filter" ]; then
    what="root" check /skerry/tests --nocapture --test-threads 1 "$filter"
else
    what="root: limits" check /skerry/tests --test-threads 1 limits:: walls:: life::
    for word in limits isolation pause fork; do what="root" conform $word env; done
    delegate
    what="one id, delegated group" check as_nobody /skerry/tests --test-threads 1 rootless::
    for word in limits pause; do what="one id, delegated group" conform $word as_nobody; done
    mkdir /tmp/data && chown nobody /tmp/data
    for word in limits isolation fork; do
        what="range of ids, delegated group" conform $word as_nobody "$helper" users /tmp/data
    done
fi
if [ -z "$failed" ]; then echo "guest: passed"; else echo "guest: failed$failed"; fi
sync
echo b >/proc/sysrq-trigger
sleep 60
