# The driver of bash: reads variables and a script from the socket $1, runs it, and says there how it ended.
# The names begin with underlines because scripts share them.
__socket=$1
shift
trap 'return 130 2>/dev/null' INT
while IFS= read -r -d '' -u "$__socket" __words && IFS= read -r -d '' -u "$__socket" __script; do
    eval "$__words"' source <(printf "%s\n" "$__script") {__socket}>&-' </dev/null
    __status=$?
    if [ "$__status" -ne 0 ]; then
        printf '{"type":"error","name":"ExitStatus","value":"%d","traceback":""}\n' "$__status" >&"$__socket"
    fi
    printf '{"type":"done"}\n' >&"$__socket"
done
