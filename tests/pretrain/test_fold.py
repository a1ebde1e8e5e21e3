"""Many keys in few words."""

from __future__ import annotations

import pytest

from framework.pretrain.fold import fold


@pytest.mark.parametrize(
    ("names", "others", "expected"),
    [
        ([], [], []),
        (["a"], [], ["a"]),
        (["a", "b"], [], ["a, b"]),
        (["fc.weight", "fc.bias"], [], ["fc.{weight, bias}"]),
        ([f"neck.{i}.weight" for i in range(129)], ["backbone.x"], ["neck.* (129)"]),
        (
            [f"blocks.{i}.attn.qkv.bias" for i in range(12)],
            [f"blocks.{i}.attn.qkv.weight" for i in range(12)],
            ["blocks.{0...11}.attn.qkv.bias"],
        ),
        (["l.1.se.w", "l.4.se.w"], ["l.1.w", "l.4.w"], ["l.{1, 4}.se.w"]),
        (["b.se.a", "b.se.b", "b.se.c", "b.se.d", "b.se.e"], ["b.x"], ["b.se.* (5)"]),
        (["p.1.2.w", "p.3.4.w"], ["p.w"], ["p.1.2.w", "p.3.4.w"]),
    ],
)
def test_fold(names, others, expected) -> None:
    assert fold(names, others) == expected
