#!/usr/bin/env bash
# Prints the first Python interpreter that starts and whose version lies between the two given ones, e.g. `3.10 3.13`.
set -u
for candidate in python3 python python3.11 python3.12 python3.10 python3.13; do
  if "$candidate" - "$1" "$2" >/dev/null 2>&1 <<'PY'
import sys

low, high = ([int(part) for part in text.split(".")] for text in sys.argv[1:3])
sys.exit(not low <= list(sys.version_info[:2]) <= high)
PY
  then
    command -v "$candidate"
    exit 0
  fi
done
echo "no Python between $1 and $2 found: install one, or name it, e.g. make PYTHON=/usr/bin/python3.11" >&2
exit 1
