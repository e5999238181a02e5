#!/usr/bin/env bash
# All that a CUDA machine is asked, in one call of under ten minutes and without a network:
#
#     OUT=results/gpu MINUTES=9.5 bash scripts/gpu_checklist.sh
#     bash scripts/gpu_checklist.sh FOLDER --set model.audio.patch_frames=8 model.audio.patch_bins=32
#     bash scripts/gpu_checklist.sh FOLDER --dry          # the same on any machine, with small sizes: about two minutes
#
# numerics   log-mel, outputs, losses and gradients in float32 and bf16, against the CPU in float64
# render     the generated clips for training (at the same time)
# speed      mavil-edu benchmark step at paper and small, bf16, eager and compiled
# batches    share of the matrix peak over batch sizes, and the largest batch
# lessons    the notebooks' sources as scripts, with their GPU budgets (at the same time as train)
# train      small on the generated world for the minutes that are left, its scores beside their trivial answers, its weights
#
# A stage that fails or takes too long does not stop the next. The exit code and OUT/summary.json say which did. OUT gets 8 files at
# most, of 16 MiB at most: summary.json, log.txt, curves.png, metrics.jsonl, weights-1-of-3.safetensors … (float16, without decoders;
# `python scripts/gpu_training.py join OUT FOLDER` makes a model's folder of them). Everything else stays in WORK.
#
# Settings, as variables: OUT (or the first argument), MINUTES (9.5), WORK (a new temporary folder), PYTHON (python3),
# SKIP ("lessons batches": stages to leave out), CLIPS (20000 training clips), PRESET (small), WORKERS (of the loader),
# SITE (a folder of packages that were unpacked for this call; it is put behind PYTHONPATH).
# --set NAME=VALUE …: numbers of the training's config, such as train.base_lr=2e-3.
#
# What must be there: torch, torchaudio, torchvision, numpy, einops, lightning-fabric (pytorch-lightning brings it), safetensors,
# matplotlib, rich. Used where they are there: scikit-learn (probes), tensorboard. Not needed: PyAV, tyro, dacite, huggingface_hub,
# pyarrow, ipywidgets, IPython, webdataset; but `lessons` needs av and dacite. Where they are missing, bring wheels (none of
# them needs others; av is 30 to 40 MB) and unpack them:
#
#     python3 -m pip download --no-deps --only-binary=:all: -d wheels av dacite       # on a machine with a network, same Python and system
#     python3 -m pip install --no-index --no-deps --target "$HOME/site" wheels/*.whl     # on the GPU machine
#     SITE="$HOME/site" OUT=results/gpu bash scripts/gpu_checklist.sh
#
# For `mavil-edu` itself: tyro, docstring_parser, typeguard, typing_extensions (pure Python) as well. For the explorers of the lessons
# a stand-in takes the place of ipywidgets.
set -u
began=$SECONDS
cd "$(dirname "$0")/.." || exit 2
dry= sets=()
while (($#)); do
    case $1 in
        --dry) dry=--dry ;;
        --set) shift; while (($#)) && [[ $1 == *=* ]]; do sets+=("$1"); shift; done; continue ;;
        -*) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
        *) OUT=$1 ;;
    esac
    shift
done
: "${OUT:?give a folder: OUT=FOLDER bash scripts/gpu_checklist.sh}"
: "${MINUTES:=9.5}" "${PYTHON:=python3}" "${WORK:=$(mktemp -d)}" "${SKIP:=}" "${PRESET:=small}" "${CLIPS:=20000}" "${SITE:=}"
mkdir -p "$OUT" "$WORK" || exit 2
if [[ -n $(ls -A "$OUT") ]]; then
    echo "$OUT is not empty; give a new folder" >&2
    exit 2
fi
: >"$WORK/stages.tsv"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}${SITE:+:$SITE}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg HF_HUB_OFFLINE=1
budget=$(awk -v m="$MINUTES" 'BEGIN { print int(60 * m) }') || exit 2

left() { echo $((budget - (SECONDS - began) - 5)); } # seconds, 5 kept for the summary
summarise() { "$PYTHON" scripts/gpu_summary.py "$WORK" "$OUT"; }

# stage NAME SECONDS COMMAND …: runs it with a limit, keeps its log, exit code and time
stage() {
    local name=$1 limit=$2 started=$SECONDS code how=()
    shift 2
    if [[ " $SKIP " == *" $name "* ]] || (($(left) < 5)); then
        printf '%s\t-\t0\n' "$name" >>"$WORK/stages.tsv"
        return
    fi
    limit=$((limit < $(left) ? limit : $(left)))
    # Training finishes its step and saves when it is stopped; for that its loader's processes must live: it alone gets the signal.
    [[ $name == train ]] && how=(--foreground)
    timeout ${how[@]+"${how[@]}"} --signal=TERM --kill-after=20 "$limit" "$@" >"$WORK/$name.log" 2>&1
    code=$?
    printf '%s\t%s\t%s\n' "$name" "$code" $((SECONDS - started)) >>"$WORK/stages.tsv"
    echo "$name: exit code $code after $((SECONDS - started)) s, $(left) s left"
}

if [[ $dry ]]; then
    data=(--preset tiny --clips 64 --held-out 64 --set train.batch=8) lessons=(--only 01)
    render_s=120 numerics_s=120 speed_s=120 batches_s=90 train_s=90 reserve=75 workers=0 threads=1 jobs=1
else
    data=(--preset "$PRESET" --clips "$CLIPS" --set) lessons=()
    render_s=150 numerics_s=90 speed_s=150 batches_s=90 train_s=3600 reserve=50 workers=${WORKERS:-8} threads=2 jobs=$("$PYTHON" -c "import os; print(os.cpu_count())")
fi
data+=(${sets[@]+"${sets[@]}"})

# 1. what is not timed
stage render $render_s "$PYTHON" scripts/gpu_training.py render "$WORK" --jobs $jobs "${data[@]}" &
rendering=$!
stage numerics $numerics_s "$PYTHON" scripts/gpu_checks.py numerics "$WORK" $dry
wait $rendering
summarise >/dev/null

# 2. what is timed: alone
stage speed $speed_s "$PYTHON" scripts/gpu_checks.py speed "$WORK" $dry
summarise >/dev/null
stage batches $batches_s "$PYTHON" scripts/gpu_checks.py batches "$WORK" $dry
summarise >/dev/null

# 3. the rest of the time; `reserve` of it is for loading, scores and weights
limit=$(($(left) < train_s ? $(left) : train_s))
OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads} stage lessons "$limit" "$PYTHON" scripts/run_lessons.py "$WORK/lessons.json" \
    --limit $((limit > 20 ? limit - 10 : 10)) ${lessons[@]+"${lessons[@]}"} &
learning=$!
training_s=$((limit - reserve))
if ((training_s >= 10)); then
    minutes=$(awk -v s="$training_s" 'BEGIN { printf "%.3f", s / 60 }')
    stage train $((limit - 10)) "$PYTHON" scripts/gpu_training.py train "$WORK" "$OUT" --minutes "$minutes" --workers $workers "${data[@]}"
else
    printf 'train\t-\t0\n' >>"$WORK/stages.tsv"
    echo "no time is left for training"
fi
wait $learning
summarise
