"""Naming tables, one file per architecture family. Tables only: the rules are in `dialect.py`."""
