# Runs one PostgreSQL cluster for as long as standard input stays open, then removes every trace of it.
# Arguments: the folder of PostgreSQL's programs. Writes the folder of its socket to standard output once it answers.
set -eu
umask 077
bin=$1
dir=$(mktemp -d /tmp/skerry-pg.XXXXXX)
cd "$dir"
finish() {
    "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
    cd /
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
"$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C --no-sync >log 2>&1 || { cat log >&2; exit 1; }
"$bin/pg_ctl" -D data -l log -w -s start -o "-k '$dir' -c listen_addresses='' -c fsync=off -c max_connections=300" >start 2>&1 ||
    { cat start log >&2; exit 1; }
echo "$dir"
exec >/dev/null 2>&1
# The pipe closes when the test process ends, however it ends.
cat >/dev/null
