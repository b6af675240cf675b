#!/usr/bin/env bash
# Makes the environment if need be, makes a small labelled data set, and does the main job on
# it: train, score, evaluate. ASD_DATA=DIR runs on recordings of your own instead.
# ASD_DATA is relative to where this was called, which is left below.
if [ -n "${ASD_DATA:-}" ]; then
  ASD_DATA=$(CDPATH='' cd -- "$ASD_DATA" && pwd)
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [ -n "${ASD_DATA:-}" ]; then
  exec .venv/bin/asd-jax run --config=dense_ae --data_dir="$ASD_DATA" \
    --out_dir="runs/dense_ae_$(basename -- "$ASD_DATA")"
fi
.venv/bin/asd-jax synth --out_dir=runs/synthetic --sections=2 --clips=30
exec .venv/bin/asd-jax run --config=dense_ae --data_dir=runs/synthetic --out_dir=runs/quickstart \
  --config.train.epochs=30
