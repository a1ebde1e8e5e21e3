"""Plain pickles: numpy arrays of model zoos (detectron2, Caffe2), and what `pickle.dump` wrote."""

from __future__ import annotations

from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.constructors import CONSTRUCTORS
from framework.pretrain.formats.globals import Names
from framework.pretrain.formats.torch_legacy import storage_from_bytes
from framework.pretrain.formats.tree import Contents, tree_of
from framework.pretrain.formats.unpickle import unpickle


def read_pickle(file: Blob) -> Contents:
    """Return the contents of a file with one pickle, of protocol 0 to 5 and of Python 2 or 3.

    Args:
        file: All of it.

    Raises:
        CheckpointError: See `open_checkpoint`.
    """
    names = Names({**CONSTRUCTORS, "torch.storage._load_from_bytes": storage_from_bytes})
    root, _ = unpickle(file, names)
    names.check()
    return Contents("pickle", tree_of(root), sorted(names.replaced))
