"""What it costs to build a ViT-L/16 and fill it from a file, next to the limits and to other libraries.

    python benchmarks/load.py                      # the tables of the documentation, about five minutes
    python benchmarks/load.py --arch tiny --rounds 1 --only framework

Each load runs in a process of its own; the variants take turns, and the table gives medians. The clock runs
from the call that builds to the last weight, read once, since a memory map costs when it is read. Imports are
timed apart. The files are made in a temporary folder and lie in the page cache: this is the cost of the
software, not of a disk. Memory is the highest resident size minus that after the imports, in multiples of the
model's size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load_files import ARCHES, make_files, meta_model

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK = 16 << 20


@dataclass(frozen=True)
class Variant:
    """One way to get a model filled.

    Attributes:
        load: (folder, arch) -> the filled model.
        imports: What is imported before the clock starts.
        needs: The package that has to be installed.
    """

    load: Callable[[Path, str], nn.Module]
    imports: tuple[str, ...]
    needs: str = "torch"


# What is measured


def limit_own(folder: Path, arch: str) -> nn.Module:
    """Read every tensor into fresh memory in parallel and nothing else."""
    model = meta_model(arch)
    model.load_state_dict(dict(parallel_reads(folder / "own.safetensors")), assign=True)
    return model


def limit_mmap_pth(folder: Path, arch: str) -> nn.Module:
    """Map the file and assign."""
    import torch

    model = meta_model(arch)
    model.load_state_dict(torch.load(folder / "own.pth", mmap=True, weights_only=True), assign=True)
    return model


def limit_mmap_safetensors(folder: Path, arch: str) -> nn.Module:
    """Map the file and assign."""
    from safetensors.torch import load_file

    model = meta_model(arch)
    model.load_state_dict(load_file(folder / "own.safetensors"), assign=True)
    return model


def plain_torch(folder: Path, arch: str) -> nn.Module:
    """Build, read, copy."""
    import torch

    from framework.models.backbones.vision_transformer import VisionTransformer

    model = VisionTransformer(arch=arch)
    model.load_state_dict(torch.load(folder / "own.pth", weights_only=True))
    return model


def with_timm(folder: Path, arch: str) -> nn.Module:
    """Load as timm's users do."""
    import timm

    path = str(folder / "own.pth")
    return timm.create_model(f"vit_{arch}_patch16_224", num_classes=0, checkpoint_path=path)


def with_transformers(folder: Path, arch: str) -> nn.Module:
    """Load as transformers' users do."""
    from transformers import ViTModel

    return ViTModel.from_pretrained(folder / "hugging_face", add_pooling_layer=False)


def ours(file: str, arch: str | None = None, *, mmap: bool = False) -> Variant:
    """Load as our users do; `arch` overrides the one that is asked for."""

    def load(folder: Path, asked: str) -> nn.Module:
        from framework import BACKBONES

        pretrain = {"path": str(folder / file), "mmap": mmap}
        if file == "large.pth":
            pretrain["sub_level"] = "backbone"
        cfg = {"type": "VisionTransformer", "arch": arch or asked, "img_size": 224, "patch_size": 16}
        return BACKBONES.build({**cfg, "pretrain": pretrain})

    return Variant(load, ("torch", "safetensors.torch", "framework.models", "framework.pretrain"))


MODELING_VIT = "transformers.models.vit.modeling_vit"
TORCH = ("torch", "safetensors.torch", "framework.models")
OWN_LIMIT, MMAP_LIMITS = "limit: own memory", ("limit: map of .pth", "limit: map of .safetensors")
FILES = {
    ".pth": "own.pth",
    ".safetensors": "own.safetensors",
    "mmpretrain's .pth": "mmpretrain.pth",
    "Hugging Face folder": "hugging_face",
}
VARIANTS = {
    OWN_LIMIT: Variant(limit_own, TORCH),
    **{f"framework, {name}": ours(file) for name, file in FILES.items()},
    MMAP_LIMITS[0]: Variant(limit_mmap_pth, TORCH),
    MMAP_LIMITS[1]: Variant(limit_mmap_safetensors, TORCH),
    **{f"framework, {name}, mmap": ours(file, mmap=True) for name, file in FILES.items()},
    "torch, .pth: build, load, copy": Variant(plain_torch, TORCH),
    "timm, .pth": Variant(with_timm, ("torch", "timm"), "timm"),
    "transformers, Hugging Face folder": Variant(with_transformers, (MODELING_VIT,), "transformers"),
}
FLAT = "plan of a flat model with 5,000 tensors"
PLANS = {**{f"plan, {name}": file for name, file in FILES.items()}, FLAT: "flat.pth"}
PARTS = {
    "ViT-S/16 out of its own file": ours("small.pth", "small"),
    "ViT-S/16 out of a file ten times as large": ours("large.pth", "small"),
}


def parallel_reads(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Read a .safetensors file into fresh tensors, with a thread per core."""
    import torch

    descriptor = os.open(path, os.O_RDONLY)
    size = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    header = json.loads(os.pread(descriptor, size, 8))
    header.pop("__metadata__", None)
    tensors = {name: torch.empty(entry["shape"]) for name, entry in header.items()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, tensor in tensors.items():
            view = memoryview(tensor.view(-1).numpy().data).cast("B")
            begin = 8 + size + header[name]["data_offsets"][0]
            for start in range(0, len(view), CHUNK):
                pool.submit(read_fully, descriptor, view[start : start + CHUNK], begin + start)
    os.close(descriptor)
    yield from tensors.items()


def read_fully(descriptor: int, view: memoryview, offset: int) -> None:
    """Fill a view from an offset of a file."""
    while view:
        count = os.preadv(descriptor, [view], offset)
        assert count, "the file ends early"
        view, offset = view[count:], offset + count


# One measurement, in its own process


def measure(name: str, folder: Path, arch: str) -> dict[str, float]:
    """Load once and read every weight."""
    variant = {**VARIANTS, **PARTS}[name]
    seconds_import = timed(lambda: [import_module(module) for module in variant.imports])
    if "framework.models" in variant.imports:
        import_module("framework").BACKBONES.get("VisionTransformer")
    before = start_of_peak()
    start = time.perf_counter()
    model = variant.load(folder, arch)
    total = sum(float(weight.sum()) for weight in model.state_dict().values())
    seconds = time.perf_counter() - start
    size = sum(weight.nbytes for weight in model.state_dict().values())
    return {
        "seconds": seconds,
        "import": seconds_import,
        "peak": (memory("VmHWM") - before) / size,
        "size": size,
        "sum": total,
    }


def measure_plan(name: str, folder: Path, arch: str) -> list[float]:
    """Time `plan_pretrained`: the first call and the median of the next five, in seconds."""
    from framework.pretrain import plan_pretrained

    module = flat_module() if name == FLAT else meta_model(arch).to_empty(device="cpu")
    plan = partial(plan_pretrained, module, str(folder / PLANS[name]))
    times = [timed(plan) for _ in range(6)]
    return [times[0], statistics.median(times[1:])]


def flat_module() -> nn.Module:
    """Build a module of 5,000 parameters without parts."""
    import torch

    module = torch.nn.Module()
    for i in range(5000):
        module.register_parameter(f"weight_{i}", torch.nn.Parameter(torch.empty(4, 4)))
    return module


def timed(action: Callable[[], Any]) -> float:
    """Return how long an action takes, in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def start_of_peak() -> int:
    """Forget the peak of the imports where the kernel can; return the resident size in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(field: str) -> int:
    """Return a memory field of this process, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) << 10  # type: ignore[index]


# All of them


def run(task: str, folder: Path, arch: str) -> Any:
    """Run one task in a process of its own; an error comes back as its last line."""
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder), "--arch", arch]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["died"])[-1][:120]
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


def alternate(names: Sequence[str], folder: Path, arch: str, rounds: int) -> dict[str, Any]:
    """Measure all variants in turn, several times; an error takes a variant out."""
    results: dict[str, Any] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % max(len(names), 1)
        for name in (*names[first:], *names[:first]):
            if isinstance(results[name], list):
                result = run(name, folder, arch)
                results[name] = result if isinstance(result, str) else [*results[name], result]
    return results


def median(results: Any, field: str) -> float:
    """Return the median of a field over the rounds; not a number where the variant failed."""
    return (
        statistics.median(r[field] for r in results)
        if isinstance(results, list) and results
        else float("nan")
    )


def load_table(results: dict[str, Any]) -> Iterator[str]:
    """Format the medians with their ratios to the two limits."""
    limits = {name: median(results[name], "seconds") for name in (OWN_LIMIT, *MMAP_LIMITS)}
    yield "| variant | seconds (range) | x own limit | x mmap limit | memory / model | imports, s |"
    yield "|---|---|---|---|---|---|"
    for name, runs in results.items():
        if isinstance(runs, str):
            yield f"| {name} | failed: {runs} | | | | |"
            continue
        seconds, times = median(runs, "seconds"), [run["seconds"] for run in runs]
        ratios = [seconds / limits[limit] for limit in (OWN_LIMIT, MMAP_LIMITS[".pth" not in name])]
        note = "" if same_weights(runs, results[OWN_LIMIT]) else " (other weights!)"
        cells = [f"{seconds:.2f} ({min(times):.2f}-{max(times):.2f})", *(f"{ratio:.2f}" for ratio in ratios)]
        rest = f"{median(runs, 'peak'):.2f} | {median(runs, 'import'):.2f}"
        yield f"| {name}{note} | {' | '.join(cells)} | {rest} |"


def same_weights(runs: Any, expected: Any) -> bool:
    """Whether the sum of all weights is that of the expected variant, up to the order of adding."""
    if not isinstance(expected, list):
        return True
    return abs(median(runs, "sum") - median(expected, "sum")) < 1e-4 * median(runs, "size") ** 0.5


def plan_row(name: str, times: Any) -> str:
    """Format the times of a plan."""
    if isinstance(times, str):
        return f"| {name} | failed: {times} | |"
    return f"| {name} | {1e3 * times[0]:.0f} | {1e3 * times[1]:.0f} |"


def machine() -> str:
    """Return what it ran on."""
    info = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*: (.*)", info)
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = [name for name in ("torch", "safetensors", "timm", "transformers") if find_spec(name)]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    size = f"{os.cpu_count()} cores, {ram:.0f} GiB"
    return f"{cpu[1] if cpu else platform.machine()}, {size}; {system}; {versions}; files in the page cache"


def report(folder: Path, arch: str, rounds: int, only: str) -> None:
    """Make the files, measure and print the tables."""
    error = run("files", folder, arch)
    if error:
        sys.exit(f"the files could not be made: {error}")
    print(f"ViT-{arch[0].upper()}/16, {(folder / 'own.pth').stat().st_size / 1e6:.0f} MB. {machine()}.")
    names = [
        n for n, v in VARIANTS.items() if find_spec(v.needs) and (n.startswith("limit") or re.search(only, n))
    ]
    print("", *load_table(alternate(names, folder, arch, rounds)), sep="\n")
    parts = alternate([name for name in PARTS if re.search(only, name)], folder, arch, rounds)
    print("", "| part | seconds | memory / model |", "|---|---|---|", sep="\n")
    for name, runs in parts.items():
        failed = f"failed: {runs} |" if isinstance(runs, str) else ""
        print(f"| {name} |", failed or f"{median(runs, 'seconds'):.3f} | {median(runs, 'peak'):.2f}", "|")
    rows = (plan_row(name, run(name, folder, arch)) for name in PLANS if re.search(only, name))
    print("", "| plan | first call, ms | next calls, ms |", "|---|---|---|", *rows, sep="\n")


def main() -> None:
    """Read the arguments; without `--task` measure everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", choices=ARCHES, default="large")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="regular expression; the limits are always measured")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task is None:
        with tempfile.TemporaryDirectory() as folder:
            report(Path(folder), args.arch, args.rounds, args.only)
    elif args.task == "files":
        make_files(args.folder, args.arch)
    elif args.task in PLANS:
        print(json.dumps(measure_plan(args.task, args.folder, args.arch)))
    else:
        print(json.dumps(measure(args.task, args.folder, args.arch)))


if __name__ == "__main__":
    main()
