"""Linear probing of the digits: the pre-trained backbone of the quickstart is frozen, a linear layer learns.

    python tools/train.py configs/quickstart_linear.py

Features are the mean of the patches, normalised without weights before the linear layer, as masked
autoencoders are probed (https://arxiv.org/abs/2111.06377, appendix A.1).

Expected: test accuracy 0.933. Measured: 0.9333 with the seed 0.
"""

_base_ = ["./quickstart.py"]

model = dict(
    backbone=dict(frozen=True, out_type="avg_featmap", final_norm=False),
    neck=dict(_delete_=True, type="ClsBatchNormNeck", num_features=64),
)
train_dataloader = dict(dataset=dict(pipeline=[]))

optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, end=40, convert_to_iter_based=True)]
