#!/usr/bin/env bash
# Usage: install_venv.sh PYTHON VENV EXTRAS. Makes the virtual environment and installs this checkout with its extras.
set -eu -o pipefail
python=$1 venv=$2 extras=$3
if [ -z "$python" ]; then
  echo "error: no suitable Python (see the line above)" >&2
  exit 1
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable ".[$extras]"

# opencv-python links to libGL for its windows, which servers often lack. The headless wheel is the same module of the
# same version without windows, so it takes the place of the other where that one cannot be loaded.
if ! "$venv/bin/python" -c "import cv2" 2>/dev/null; then
  version=$("$venv/bin/python" -m pip show opencv-python | sed -n 's/^Version: //p')
  echo "cv2 does not load here (no libGL?): taking opencv-python-headless $version instead" >&2
  "$venv/bin/python" -m pip uninstall --quiet --yes opencv-python
  "$venv/bin/python" -m pip install --quiet "opencv-python-headless==$version"
  "$venv/bin/python" -c "import cv2"
fi
