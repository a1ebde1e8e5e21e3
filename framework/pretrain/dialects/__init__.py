"""Naming tables, one file per architecture family. Tables only: the rules are in `dialect.py`."""

from framework.pretrain.dialects import vision_transformer

TABLES = (vision_transformer.TABLE,)
