#!/usr/bin/env bash
# Everything that needs a GPU, in one command and at most 8 minutes, offline:
#
#     tools/gpu_check.sh [FASHION_MNIST_FOLDER] [REPORT.md]
#
# Needs torch, Lightning, torchmetrics and pytest. What else is missing is skipped, and the report says so. Without a GPU
# it does what a CPU can do, in small sizes. PYTHON chooses the interpreter. The exit status is 0 where nothing failed.
set -u
cd "$(dirname "$0")/.."
data=${1:-}
report=${2:-gpu_check.md}
python=${PYTHON:-python3}
[ -x .venv/bin/python ] && [ -z "${PYTHON:-}" ] && python=.venv/bin/python
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
ends=$((SECONDS + 470))
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

has() { "$python" -c "import sys, importlib.util as u; sys.exit(u.find_spec('$1') is None)" 2>/dev/null; }

# part TITLE SECONDS COMMAND...: run within the time, and write how it ended and what it said last.
part() {
  local title=$1 limit=$2 left=$((ends - SECONDS)) began=$SECONDS status
  shift 2
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 5 ]; then
    printf '\n## %s\n\nNot run: the time is over.\n' "$title" >>"$report"
    failed=1
    return
  fi
  echo "$title ..."
  timeout -k 5 "$limit" "$@" >"$log" 2>&1
  status=$?
  { [ $status -eq 124 ] || [ $status -eq 137 ]; } && echo "(ran out of its $limit s)" >>"$log"
  [ $status -eq 5 ] && [ "${*#*pytest}" != "$*" ] && status=0 # pytest: nothing to run
  [ $status -ne 0 ] && failed=1
  {
    printf '\n## %s\n\n%s after %s s.\n\n```\n' "$title" "$([ $status -eq 0 ] && echo Passed || echo "FAILED ($status)")" "$((SECONDS - began))"
    tail -n 40 "$log" | cut -c1-200
    printf '```\n'
  } >>"$report"
}

skip() { printf '\n## %s\n\nSkipped: %s.\n' "$1" "$2" >>"$report"; }

gpu=$("$python" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")')
{
  printf '# Check on %s\n\n' "${gpu:-a machine without a GPU}"
  "$python" - <<'P'
import importlib, platform
from importlib.metadata import PackageNotFoundError, version
def of(name):
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} missing"
names = "torch torchvision pytorch-lightning lightning torchmetrics torchattacks foolbox adv-lib timm".split()
print(f"Python {platform.python_version()}, " + ", ".join(map(of, names)) + ".")
P
} >"$report"

# Test files whose imports are not there are left out by name.
if has pytest; then
  serial=() && has xdist && serial=(-n 0)
  if [ -n "$gpu" ]; then
    files=() left=()
    for file in $(grep -rl "gpu" tests --include='test_*.py' | sort); do
      missing=$("$python" - "$file" <<'P'
import ast, importlib.util, sys
tree = ast.parse(open(sys.argv[1], encoding="utf-8").read())
names = [a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names]
names += [n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.module and not n.level]
tops = {name.partition(".")[0] for name in names} - {"tests", "lightning_robust", "callbacks_fakes", "benchmarks"}
gone = [t for t in sorted(tops) if importlib.util.find_spec(t) is None and not __import__("os").path.exists(f"tests/{t}.py")]
print(*gone)
P
)
      if [ -z "$missing" ]; then files+=("$file"); else left+=("$file ($missing)"); fi
    done
    [ ${#left[@]} -gt 0 ] && skip "Tests left out" "$(printf '%s; ' "${left[@]}")packages are missing"
    part "Tests marked gpu" 210 "$python" -m pytest ${serial[@]+"${serial[@]}"} -q -m gpu "${files[@]}"
  else
    part "Attacks that call the model in another way (no GPU: on the CPU)" 200 "$python" -m pytest ${serial[@]+"${serial[@]}"} -q tests/attacks/test_fast.py
  fi
else
  skip "Tests" "pytest is missing"
fi

cat >"$log.py" <<'P'
"""One step of adversarial training under FSDP on one device."""
import torch
from lightning_robust._lightning import pl
from torch.utils.data import DataLoader, TensorDataset
from lightning_robust import PGD, AdversarialTraining, Linf
from lightning_robust.models import RobustClassifier

net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
data = DataLoader(TensorDataset(torch.rand(32, 1, 8, 8), torch.arange(32) % 3), batch_size=8)
gpu = torch.cuda.is_available()
options = {"accelerator": "gpu", "devices": 1, "strategy": "fsdp"} if gpu else {"accelerator": "cpu", "devices": 1}
trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     callbacks=[AdversarialTraining(PGD(Linf(0.1), steps=3))], **options)
trainer.fit(RobustClassifier(net), data)
assert all(p.isfinite().all() for p in trainer.model.parameters())
print("weights are finite after", trainer.global_step, "steps,", options)
P
part "FSDP on one device$([ -z "$gpu" ] && echo ' (no GPU: plain)')" 60 "$python" "$log.py"
rm -f "$log.py"

table=$(mktemp)
if [ -n "$gpu" ]; then
  part "What a step costs" 180 "$python" benchmarks/attack_step.py --rounds 9 --precisions float32 bfloat16 --markdown "$table"
else
  part "What a step costs" 120 "$python" benchmarks/attack_step.py --models standard --precisions float32 --rounds 3 \
    --batch-size 16 --clock cpu --markdown "$table" --variants floor lightning_robust "lightning_robust, channels_last"
fi
[ -s "$table" ] && { printf '\n'; cat "$table"; } >>"$report"
rm -f "$table"

if [ ! -f examples/speedrun.py ]; then
  skip "Speed run" "examples/speedrun.py is not there"
elif [ -z "$data" ]; then
  skip "Speed run" "no folder with the files of Fashion-MNIST was given"
else
  part "Speed run" 120 "$python" examples/speedrun.py --data "$data"
fi

echo "$report: $([ $failed -eq 0 ] && echo 'nothing failed' || echo 'something FAILED')"
exit $failed
