"""The common settings for the digits: one thread, which is fastest at this size, and few lines of log."""

_base_ = "./default_runtime.py"

env_cfg = dict(num_threads=1)
default_hooks = dict(logger=dict(interval=90), checkpoint=dict(interval=50, max_keep_ckpts=1))
