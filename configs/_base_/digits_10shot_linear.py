"""A linear probe: the backbone stays as it is, and only a linear layer learns from ten digits a class."""

_base_ = "./digits_10shot.py"

model = dict(backbone=dict(frozen=True))
optim_wrapper = dict(
    _delete_=True, type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.0)
)
