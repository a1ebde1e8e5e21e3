"""Naming tables, one file per architecture family. Tables only: the rules are in `dialect.py`."""

from framework.pretrain.dialects import (
    beit,
    convnext,
    resnet,
    selfsup,
    selfsup_vit,
    swin_transformer,
    vision_transformer,
)

TABLES = (
    vision_transformer.TABLE,
    beit.TABLE,
    resnet.TABLE,
    resnet.TABLE_D,
    convnext.TABLE,
    swin_transformer.TABLE,
    swin_transformer.TABLE_V2,
)

#: Tables of whole models: what a training has around a backbone of these families.
WHOLE = (selfsup.TABLE, selfsup_vit.TABLE)
