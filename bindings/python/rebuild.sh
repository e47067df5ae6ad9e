cd "$(dirname "$0")"; VIRTUAL_ENV=$PWD/.venv .venv/bin/maturin develop -q --release 2>&1 | grep -E "^(error|warning)|^ *-->" -A6 | head -40
