from __future__ import annotations


def test_a_default_hook_that_is_changed_keeps_its_type(make_runner):
    runner = make_runner(default_hooks={"logger": {"interval": 7}, "checkpoint": {"max_keep_ckpts": 2}})
    hooks = {type(hook).__name__: hook for hook in runner.hooks}
    assert hooks["LoggerHook"].interval == 7
    assert (hooks["CheckpointHook"].interval, hooks["CheckpointHook"].max_keep_ckpts) == (1, 2)
