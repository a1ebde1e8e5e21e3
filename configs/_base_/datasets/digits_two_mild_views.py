"""Two views of each training digit, without labels: turned, shifted and scaled a little, lighter or darker.

The bounds of the geometry are half to two thirds of those in `digits_two_views.py`, with which short
trainings of MoCo v2 and v3 gave worse features (a linear layer, learnt and tested on training digits).
"""

_base_ = ["digits_two_views.py"]

view = [
    dict(
        type="RandomAffine",
        degrees=10,
        translate=(0.13, 0.13),
        scale=(0.9, 1.1),
        shear=(-5, 5),
        interpolation="bilinear",
    ),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4),
]
train_dataloader = dict(dataset=dict(pipeline=[dict(type="MultiView", transforms=[view], num_views=2)]))
