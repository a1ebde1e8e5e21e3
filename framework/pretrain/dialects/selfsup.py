"""Whole self-supervised models around a ResNet: projectors, predictors, teachers, prototypes, queues.

Only models that have these parts are read here, to go on with a training; a backbone, and the translation
into other schemes, have the table of their family.
"""

from framework.pretrain.dialect import OURS, Column, Row, Table, row
from framework.pretrain.dialects import resnet

COLUMNS = {
    "timm": Column(
        producers="framework; mmpretrain 1.x: SimCLR, MoCo, BYOL, SimSiam, BarlowTwins, SwAV",
        source="mmpretrain 1.2.0, models/selfsup, necks, heads",
        tested="timm 1.0.31, in the official layouts",
    ),
    "moco": Column(
        producers="official MoCo v2",
        source="facebookresearch/moco, moco/builder.py",
        tested="timm 1.0.31, in the official layout",
    ),
    "simsiam": Column(
        producers="official SimSiam",
        source="facebookresearch/simsiam, simsiam/builder.py",
        tested="timm 1.0.31, in the official layout",
    ),
    "barlowtwins": Column(
        producers="official Barlow Twins",
        source="facebookresearch/barlowtwins, main.py",
        tested="timm 1.0.31, in the official layout",
    ),
    "swav": Column(
        producers="official SwAV",
        source="facebookresearch/swav, src/resnet50.py",
        tested="timm 1.0.31, in the official layout",
    ),
}


def _backbone() -> tuple[Row, ...]:
    """Return the ResNet of the student, and that of the teacher without the wrapper `module` around it."""
    names = [name for one in resnet.TABLE.rows if isinstance(name := one.names[OURS], str)]
    students = [
        row(
            f"backbone.{name}",
            moco=f"encoder_q.{name}",
            simsiam=f"encoder.{name}",
            barlowtwins=f"backbone.{name}",
            swav=name,
        )
        for name in names
    ]
    return *students, *(row(f"encoder_k.0.{name}", moco=f"encoder_k.{name}") for name in names)


TABLE = Table(
    name="selfsup_resnet",
    title="Self-supervised models with a ResNet",
    columns=COLUMNS,
    rows=(
        *_backbone(),
        row("neck.mlp.0.*", moco="encoder_q.fc.0.*"),
        row("neck.mlp.2.*", moco="encoder_q.fc.2.*"),
        row("encoder_k.1.mlp.0.*", moco="encoder_k.fc.0.*"),
        row("encoder_k.1.mlp.2.*", moco="encoder_k.fc.2.*"),
        row("queue", moco="queue"),
        row("queue_ptr", moco="queue_ptr"),
        row("neck.fc0.*", simsiam="encoder.fc.0.*", barlowtwins="projector.0.*"),
        row("neck.bn0.*", simsiam="encoder.fc.1.*", barlowtwins="projector.1.*"),
        row("neck.fc1.*", simsiam="encoder.fc.3.*", barlowtwins="projector.3.*"),
        row("neck.bn1.*", simsiam="encoder.fc.4.*", barlowtwins="projector.4.*"),
        row("neck.fc2.*", simsiam="encoder.fc.6.*", barlowtwins="projector.6.*"),
        row("neck.bn2.*", simsiam="encoder.fc.7.*"),
        row("head.bn.*", barlowtwins="bn.*"),
        row("head.predictor.fc0.*", simsiam="predictor.0.*"),
        row("head.predictor.bn0.*", simsiam="predictor.1.*"),
        row("head.predictor.fc1.*", simsiam="predictor.3.*"),
        row("neck.projection_neck.0.*", swav="projection_head.0.*"),
        row("neck.projection_neck.1.*", swav="projection_head.1.*"),
        row("neck.projection_neck.3.*", swav="projection_head.3.*"),
        row("head.loss_module.prototypes.weight", swav="prototypes.weight"),
    ),
)
