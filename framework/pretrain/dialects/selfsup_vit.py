"""Whole self-supervised models around a Vision Transformer: projectors, predictors, teachers, decoders."""

from __future__ import annotations

from dataclasses import replace

from framework.pretrain.dialect import OURS, Column, Given, Row, Table, row
from framework.pretrain.dialects import masked, vision_transformer
from framework.pretrain.operation import Operation

COLUMNS = {
    "timm": Column(
        producers="framework",
        source="framework/models/selfsup",
        tested="framework",
    ),
    "mmpretrain": Column(
        producers="mmpretrain 1.x: MoCoV3, DINO",
        source="mmpretrain 1.2.0, models/selfsup/mocov3.py, projects/dino",
        tested="framework, renamed",
    ),
    "moco_v3": Column(
        producers="official MoCo v3",
        source="facebookresearch/moco-v3@c349e6e moco/builder.py, vits.py",
        tested="framework, renamed",
    ),
    "dino": Column(
        producers="official DINO, full checkpoints",
        source="facebookresearch/dino@7c446df main_dino.py, vision_transformer.py",
        tested="framework, renamed",
    ),
    "huggingface_mae": Column(
        producers="transformers 5: ViTMAEForPreTraining",
        source="transformers 5.23.0, models/vit_mae, as save_pretrained writes them",
        tested="transformers 5.23.0",
    ),
}

#: The layers of projectors here, and in the official MoCo v3.
_LAYERS = {"fc0": 0, "bn0": 1, "fc1": 3, "bn1": 4, "fc2": 6, "bn2": 7}


def _behind(prefix: str, given: Given) -> Given:
    """Write a prefix before the names of an entry."""
    if isinstance(given, str):
        return prefix + given
    if isinstance(given, Operation):
        return replace(given, names=tuple(prefix + name for name in given.names))
    return None


def _network(one: Row) -> tuple[Row, ...]:
    """Return a tensor of the student's network, and of the teachers' without the wrapper `module`."""
    name, mmpretrain = one.names[OURS], one.names.get("mmpretrain")
    return (
        row(
            _behind("backbone.", name),
            mmpretrain=_behind("backbone.", mmpretrain),
            moco_v3=_behind("base_encoder.", name),
            dino=_behind("student.backbone.", name),
            huggingface_mae=_behind("vit.", one.names.get("huggingface")),
        ),
        row(
            _behind("momentum_encoder.0.", name),
            mmpretrain=_behind("momentum_encoder.0.", mmpretrain),
            moco_v3=_behind("momentum_encoder.", name),
        ),
        row(
            _behind("teacher.0.", name),
            mmpretrain=_behind("teacher.0.", mmpretrain),
            dino=_behind("teacher.backbone.", name),
        ),
    )


def _projector(ours: str, theirs: str) -> tuple[Row, ...]:
    """Return the layers of a projector or predictor of MoCo v3."""
    return tuple(
        row(f"{ours}.{layer}.*", mmpretrain=f"{ours}.{layer}.*", moco_v3=f"{theirs}.{number}.*")
        for layer, number in _LAYERS.items()
    )


def _prototypes(ours: str, theirs: str) -> tuple[Row, ...]:
    """Return the projector and the prototypes of DINO."""
    names = ("mlp.{}.*", "last_layer.weight_g", "last_layer.weight_v")
    return tuple(row(f"{ours}.{n}", mmpretrain=f"{ours}.{n}", dino=f"{theirs}.{n}") for n in names)


def _decoder(one: Row) -> Row:
    """Return a tensor of MAE's decoder, whose layers transformers 5 calls otherwise than 4 did."""
    theirs, there, here = one.names["huggingface"], ".decoder_layers.", ".decoder_encoder.layer."
    if isinstance(theirs, str):
        return row(one.names[OURS], huggingface_mae=theirs.replace(there, here))
    assert isinstance(theirs, Operation)
    names = tuple(name.replace(there, here) for name in theirs.names)
    return row(one.names[OURS], huggingface_mae=replace(theirs, names=names))


TABLE = Table(
    name="selfsup_vit",
    title="Self-supervised models with a Vision Transformer",
    columns=COLUMNS,
    rows=(
        *(one for row_ in vision_transformer.ROWS for one in _network(row_)),
        *_projector("neck", "base_encoder.head"),
        *_projector("momentum_encoder.1", "momentum_encoder.head"),
        *_projector("head.predictor", "predictor"),
        *_prototypes("neck", "student.head"),
        *_prototypes("teacher.1", "teacher.head"),
        row("head.center", mmpretrain="head.center", dino="dino_loss.center"),
        *map(_decoder, masked.MAE_ROWS),
    ),
)
