#!/usr/bin/env python
"""Classify by nearest neighbours on frozen features: `python tools/knn.py CONFIG [CHECKPOINT] [--help]`."""

import argparse

from mmengine.config import DictAction

from framework.engine.cli import main
from framework.engine.knn import evaluate_knn


def knn_command() -> str:
    """Do what the command line says; return the accuracies in one line."""
    parser = argparse.ArgumentParser(description="Classify by nearest neighbours on frozen features.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="weights: a path or an address. Default: the config's")
    parser.add_argument("-k", type=int, default=20, help="number of neighbours")
    parser.add_argument("--temperature", type=float, default=0.07, help="small: the nearest decide")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, metavar="NAME=VALUE")
    given = parser.parse_args()
    options = (given.cfg_options, given.k, given.temperature)
    metrics = evaluate_knn(given.config, given.checkpoint, *options)
    return ", ".join(f"{name}: {value:.4f}" for name, value in metrics.items())


if __name__ == "__main__":
    main(knn_command)
