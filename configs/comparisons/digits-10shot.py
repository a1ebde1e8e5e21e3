"""What pre-training without labels gives on ten labelled digits of each class, with five seeds.

    python tools/repeat.py configs/comparisons/digits-10shot.py

Each seed draws other labelled digits. Measured: see docs/selfsup.md.
"""

configs = {
    "from scratch": "{{ fileDirname }}/../mae/benchmarks/vit-nano_digits-10shot-scratch.py",
    "linear probe": "{{ fileDirname }}/../simclr/benchmarks/vit-nano_digits-10shot-linear.py",
    "fine-tuning": "{{ fileDirname }}/../simclr/benchmarks/vit-nano_digits-10shot.py",
}
seeds = 5
vary = ["train_dataloader.dataset.shots_seed"]
