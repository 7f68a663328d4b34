#!/bin/sh
# From a failing test suite to the diff that fixes it, with nothing but the command line.
#
# One sandbox gets a small project and runs its tests, which fail. It is forked once for each candidate fix; the forks apply their fix
# and run the tests side by side. The best diff comes home, and everything is deleted. Needs python3 on this machine; not root.
#
#     examples/demo/demo.sh [path of the skerry program]
set -eu

demo=$(cd "$(dirname "$0")" && pwd)
skerry=${1:-skerry}
work=$(mktemp -d "${TMPDIR:-/tmp}/skerry-demo.XXXXXX")

# A server of its own, which knows nothing of any other on this machine.
unset SKERRY_URL SKERRY_API_KEY
export SKERRY_DATA_DIR="$work/data" SKERRY_CONFIG="$work/config.toml"

bold= plain= live=
if [ -t 1 ]; then
    live=yes
    [ -n "${NO_COLOR:-}" ] || { bold=$(printf '\033[1m'); plain=$(printf '\033[0m'); }
fi

say() {
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

# Shows a command and runs it.
run() {
    printf '$ skerry %s\n' "$*"
    "$skerry" "$@"
}

stop_server() {
    [ -n "${server:-}" ] || return 0
    "$skerry" clean --force >"$work/clean" 2>&1 || cat "$work/clean" >&2
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

leave() {
    code=$?
    trap - EXIT INT TERM
    kill $jobs 2>/dev/null || true
    stop_server
    rm -rf "$work"
    exit $code
}

jobs=
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Applies one candidate in its fork and runs the tests there.
try() {
    fork=$1 candidate=$2 out=$work/$2
    "$skerry" cp "$demo/candidates/$candidate.patch" "$fork:fix.patch"
    "$skerry" exec "$fork" 'cd shop && { patch -sp1 <../fix.patch || git apply ../fix.patch; }'
    "$skerry" exec --stats "$fork" 'cd shop && python3 -m unittest -q' >"$out.out" 2>&1 || true
    touch "$out.done"
}

# One line of the table: what is known of a candidate so far.
row() {
    candidate=$1 out=$work/$1 verdict=running tests=- time=- memory=-
    if [ -e "$out.done" ]; then
        tests=$(sed -n 's/^Ran \([0-9]*\) tests.*/\1/p' "$out.out")
        failed=$(sed -n 's/^FAILED (.*failures=\([0-9]*\).*/\1/p' "$out.out")
        stats=$(tail -n 1 "$out.out")
        time=$(echo "$stats" | awk -F ' · ' '{ print $2 }')
        memory=$(echo "$stats" | awk -F ' · ' '{ print $3 }')
        verdict=passed
        case $stats in 'exit 0 '*) ;; *) verdict=failed ;; esac
        tests="$((${tests:-0} - ${failed:-0})) of ${tests:-0}"
    fi
    printf '%-12s %-8s %8s %10s %10s\n' "$candidate" "$verdict" "$tests" "$time" "$memory"
}

table() {
    printf '%s%-12s %-8s %8s %10s %10s%s\n' "$bold" CANDIDATE TESTS PASSED TIME MEMORY "$plain"
    for candidate in $candidates; do row "$candidate"; done
}

running() {
    for candidate in $candidates; do
        [ -e "$work/$candidate.done" ] || return 0
    done
    return 1
}

say "1. A server, and a sandbox made from this machine's own /usr"
"$skerry" up --listen 127.0.0.1:0 2>"$work/log" &
server=$!
until [ -s "$work/data/url" ]; do
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.05
done
run create --name shop --image host --network none
run get shop

say "2. A project whose tests fail"
run cp "$demo/project" shop:shop
run exec shop -- cp -r shop before
run exec shop 'cd shop && python3 -m unittest -q' 2>&1 | grep -E '^(FAIL|Ran|FAILED)' || true

candidates=$(cd "$demo/candidates" && ls -- *.patch | sed 's/\.patch$//')
number=$(echo "$candidates" | wc -l)
say "3. A fork for each of $number candidate fixes"
run fork shop -n "$number" --name fix
run tree shop

say "4. Each fix in its own fork, all at once"
fork=0
for candidate in $candidates; do
    fork=$((fork + 1))
    try "fix-$fork" "$candidate" &
    jobs="$jobs $!"
done
while [ -n "$live" ] && running; do
    table
    sleep 0.1
    printf '\033[%dA\033[J' $((number + 1))
done
for job in $jobs; do wait "$job"; done
jobs=
table

fork=0 winner=
for candidate in $candidates; do
    fork=$((fork + 1))
    case $(tail -n 1 "$work/$candidate.out") in
    'exit 0 '*)
        ms=$("$skerry" execs "fix-$fork" --json | sed -n 's/.*"duration_ms": \([0-9]*\).*/\1/p' | tail -n 1)
        if [ -z "$winner" ] || [ "$ms" -lt "$best" ]; then
            winner=fix-$fork best=$ms name=$candidate
        fi
        ;;
    esac
done
[ -n "$winner" ] || { echo "no candidate passed" >&2; exit 1; }

say "5. The fastest that passed is $name: its diff comes home"
run exec "$winner" -- diff -ru -x __pycache__ before shop >"$work/winner.diff" || true
cat "$work/winner.diff"

say "6. What happened in its sandbox"
run events "$winner"

say "7. Nothing stays"
run clean --force
run ls
folder=$(stat -c '%d %i' "$work/data")
stop_server
# So that what counts the processes is none of them.
unset SKERRY_DATA_DIR
group=$(printf '%x-%x' $folder)
left() { printf '%-16s %d\n' "$1" "$2"; }
left "sandboxes" "$(find "$work/data/sandboxes" -name meta.json | wc -l)"
left "processes" "$(grep -ls "SKERRY_DATA_DIR=$work/data" /proc/[0-9]*/environ | wc -l)"
left "control groups" "$(find /sys/fs/cgroup -type d -path "*/$group/*" 2>/dev/null | wc -l)"
left "mounts" "$(grep -c "$work" /proc/self/mounts || true)"
