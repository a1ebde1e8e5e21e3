"""A linear probe: the backbone stays as it is, and only a linear layer learns from ten digits a class.

Behind a batch normalisation without weights, as in MAE (https://arxiv.org/abs/2111.06377, appendix A.1).
"""

_base_ = "./digits_10shot.py"

model = dict(backbone=dict(frozen=True), neck=dict(_delete_=True, type="ClsBatchNormNeck", num_features=64))
optim_wrapper = dict(
    _delete_=True, type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.0)
)
