#!/usr/bin/env bash
# Everything that needs a GPU, in one command and at most 8 minutes, offline:
#
#     tools/gpu_check.sh [FASHION_MNIST_FOLDER] [REPORT.md]
#
# Needs torch, Lightning and torchmetrics. What else is missing is skipped, and the report says so. Without a GPU it does
# what a CPU can do, in small sizes and on one thread (OMP_NUM_THREADS), since other work may be on the machine. PYTHON
# chooses the interpreter. The exit status is 0 where nothing failed.
set -u
absolute() { case $1 in /* | "") echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
data=$(absolute "${1:-}")
report=$(absolute "${2:-gpu_check.md}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] && [ -z "${PYTHON:-}" ] && python=.venv/bin/python
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONPATH="$folder:$PWD${PYTHONPATH:+:$PYTHONPATH}"
ends=$((SECONDS + 470))
failed=0
log=$folder/log
header=$folder/header
parts=$folder/parts
rows=$folder/rows
touch "$parts" "$rows"

has() { "$python" -c "import sys, importlib.util as u; sys.exit(not all(u.find_spec(n) for n in sys.argv[1:]))" "$@" 2>/dev/null; }

# write VERDICT: the report, with what there is.
write() {
  {
    cat "$header"
    printf '\nIn all: %s, after %s s.\n\n| part | how it ended | seconds |\n| --- | --- | --- |\n' "$1" "$SECONDS"
    cat "$rows" "$parts"
  } >"$report"
}

# ended TITLE HOW SECONDS: a line of the table on top, and the heading of a part.
ended() {
  printf '| %s | %s | %s |\n' "$@" >>"$rows"
  printf '\n## %s\n\nResult: %s.\n' "$1" "$2" >>"$parts"
}

# What a program said last: tables as tables, and without what Lightning says at every start.
said() {
  grep -vE '^(GPU|TPU|HPU) available|^💡|^ *$' "$log" | tail -n 40 | cut -c1-300 | awk '
    function into(new) {
      if (new == kind) return
      if (kind == "text") print "```"
      print ""
      if (new == "text") print "```"
      kind = new
    }
    { into($0 ~ /^\|/ ? "table" : "text"); print }
    END { if (kind == "text") print "```" }'
}

# part TITLE SECONDS COMMAND...: run within the time, and write how it ended and what it said last.
part() {
  local title=$1 limit=$2 left=$((ends - SECONDS)) began=$SECONDS status how=passed
  shift 2
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 5 ]; then
    ended "$title" "FAILED: not run, the time is over" ""
    failed=1
    return
  fi
  echo "$title ..."
  timeout -k 5 "$limit" "$@" >"$log" 2>&1
  status=$?
  if [ $status -eq 124 ] || [ $status -eq 137 ]; then
    how="FAILED: it ran out of its $limit s"
  elif [ $status -ne 0 ]; then
    how="FAILED: exit status $status"
  fi
  [ $status -ne 0 ] && failed=1
  ended "$title" "$how" "$((SECONDS - began))"
  said >>"$parts"
  write "not at its end"
}

skip() {
  echo "$1: skipped, $2"
  ended "$1" "skipped: $2" ""
}

gpu=$("$python" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")')
[ -z "$gpu" ] && export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# What the numbers belong to.
{
  printf '# Check on %s\n\nWritten by `tools/gpu_check.sh`%s.\n\n' "${gpu:-a machine without a GPU}" \
    "$(commit=$(git rev-parse --short HEAD 2>/dev/null) && echo ", commit $commit")"
  "$python" - <<'P'
import os, platform
from importlib.metadata import PackageNotFoundError, version
import torch
from benchmarks.attack_step import processor
def of(name):
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} missing"
names = "torch torchvision pytorch-lightning lightning torchmetrics torchattacks foolbox adv-lib".split()
names += ["adversarial-robustness-toolbox", "timm"]
print(f"Python {platform.python_version()}, " + ", ".join(map(of, names)) + ".\n")
print(f"CPU: {processor()}, {os.cpu_count()} cores, instructions {torch.backends.cpu.get_cpu_capability()}.")
if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    kind = f"compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}"
    print(f"GPU: {card.name}, {card.total_memory / 2**30:.0f} GiB, {kind}.")
P
} >"$header"

# A test file whose imports are not there is skipped by name. (pytest with what is not installed would stop.)
cat >"$folder/skip_missing.py" <<'P'
import re
import pytest

@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    outcome = yield
    report = outcome.get_result()
    missing = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", str(report.longrepr or ""))
    if report.failed and missing and not missing[1].startswith(("lightning_robust", "tests")):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {missing[1]} is missing")
P
if has pytest; then
  run=("$python" -m pytest -p skip_missing -p no:cacheprovider -rs --disable-warnings)
  has xdist && run+=(-n 0)
  if [ -n "$gpu" ]; then
    files=($(grep -rlE "mark\.gpu|test_gpu" tests --include='test_*.py' | sort))
    part "Tests marked gpu" 210 "${run[@]}" -m gpu "${files[@]}"
  else
    part "Tests of attacks that are compiled, in bfloat16 or in channels last (no GPU: on the CPU)" 150 "${run[@]}" tests/attacks/test_fast.py
  fi
else
  skip "Tests" "pytest is missing"
fi

cat >"$folder/sharded.py" <<'P'
"""Steps of adversarial training under FSDP on one device."""
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
                     enable_model_summary=False, callbacks=[AdversarialTraining(PGD(Linf(0.1), steps=3))], **options)
trainer.fit(RobustClassifier(net), data)
assert all(p.isfinite().all() for p in trainer.model.parameters())
print("weights are finite after", trainer.global_step, "steps,", options)
P
part "$([ -n "$gpu" ] && echo 'FSDP on one device' || echo 'Adversarial training (no GPU: without FSDP)')" 60 "$python" -W ignore "$folder/sharded.py"

# The program imports pytorch_lightning; where only the other copy of Lightning is there, it gets that one.
alias='import runpy, sys
try:
    import pytorch_lightning
except ImportError:
    import lightning.pytorch
    sys.modules["pytorch_lightning"] = lightning.pytorch
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")'
small=() && [ -z "$gpu" ] && small=(--train 600 --epochs 1 --images 5)
if [ -z "$data" ]; then
  skip "Speed run" "no folder with the files of Fashion-MNIST was given"
elif ! has torchvision; then
  skip "Speed run" "torchvision is missing"
else
  part "Speed run${small:+ (no GPU: whether it runs, on few images)}" 110 "$python" -W ignore -c "$alias" \
    examples/speedrun.py --data "$data" ${small[@]+"${small[@]}"}
fi

bench() { part "What a step costs: $1" "$2" "$python" -u -W ignore benchmarks/attack_step.py "${@:3}"; }

if [ -z "$gpu" ]; then
  bench "standard net (no GPU: whether it runs, in small batches)" 100 --models standard --precisions float32 --rounds 3 --batch-size 16 --clock cpu \
    --variants lightning_robust "lightning_robust, channels_last"
else
  few=(lightning_robust "lightning_robust, channels_last" "lightning_robust, both" torchattacks)
  bench "standard net" 80 --models standard --precisions float32 --rounds 15
  if has torchvision; then
    bench "ResNet-18" 120 --models resnet18 --precisions float32 --rounds 7
    bench "ResNet-18 in bfloat16" 80 --models resnet18 --precisions bfloat16 --rounds 7 --variants "${few[@]}"
  else
    skip "What a step costs: ResNet-18" "torchvision is missing"
  fi
  bench "small ViT" 80 --models vit --precisions float32 --rounds 7 --variants "${few[@]}"
fi

verdict=$([ $failed -eq 0 ] && echo 'nothing failed' || echo 'something FAILED')
write "$verdict"
echo "$report: $verdict"
exit $failed
