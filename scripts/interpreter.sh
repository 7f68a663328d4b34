#!/bin/sh
# Tests the server of the template code-interpreter-v1 by itself, with Debian's Python. Left out where its packages are missing.
set -eu
cd "$(dirname "$0")/../crates/recipe/ready/code-interpreter-v1"
python=/usr/bin/python3
if ! "$python" -c 'import ipykernel, jupyter_client, matplotlib, pandas' 2>/dev/null; then
    echo "note: the tests of the code interpreter are left out: Debian's Python packages for it are missing" >&2
    exit 0
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$python" -m unittest discover -t . -s tests
