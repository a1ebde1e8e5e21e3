#!/usr/bin/env bash
# Train on machines that Slurm gives: one process per GPU, all ended when one fails.
#
#   GPUS=16 GPUS_PER_NODE=8 PARTITION=gpu tools/slurm_train.sh CONFIG [arguments of tools/train.py]
#
# Variables: GPUS (default 8), GPUS_PER_NODE (8, or GPUS if that is less), CPUS_PER_TASK (8), PARTITION, JOB_NAME
# (the config's name), SRUN_ARGS (further arguments of srun). Without GPUs: GPUS_PER_NODE=0 and TASKS=<processes>.
set -euo pipefail

if [[ $# -lt 1 ]]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
config=$1
shift

gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
arguments=(--cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 --job-name="${JOB_NAME:-$(basename "${config%.*}")}")
if [[ $gpus_per_node -gt 0 ]]; then
    arguments+=(--ntasks="$gpus" --ntasks-per-node="$gpus_per_node" --gres="gpu:$gpus_per_node")
else
    arguments+=(--ntasks="${TASKS:?needed where GPUS_PER_NODE is 0}")
fi
[[ -z ${PARTITION:-} ]] || arguments+=(--partition="$PARTITION")

# shellcheck disable=SC2086  # SRUN_ARGS holds several arguments
exec srun "${arguments[@]}" ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
