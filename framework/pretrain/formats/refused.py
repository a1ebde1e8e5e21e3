"""Names that have no business in a checkpoint: a file that mentions one is refused.

Nothing that a file names is ever called, so this is no line of defence. It is there because whoever wrote
such a file wanted to run code on the reader's machine, and the reader should hear of it.
"""

from __future__ import annotations

_MODULES = frozenset(
    {
        # processes and shells
        "os", "posix", "nt", "subprocess", "_posixsubprocess", "pty", "popen2", "shutil", "multiprocessing",
        "asyncio", "pexpect", "paramiko",
        # running Python
        "sys", "runpy", "codeop", "marshal", "importlib", "_frozen_importlib", "_frozen_importlib_external",
        "_imp", "imp", "pkgutil", "zipimport", "pdb", "bdb", "timeit", "cProfile", "pydoc", "doctest", "pip",
        "setuptools", "distutils", "idlelib", "lib2to3", "ensurepip", "_xxsubinterpreters", "_interpreters",
        "torch.hub", "torch.package", "torch.utils.cpp_extension", "torch._inductor", "numpy.f2py",
        "numpy.distutils", "numpy.testing",
        # machine code
        "ctypes", "_ctypes", "cffi", "_cffi_backend",
        # network
        "socket", "_socket", "socketserver", "ssl", "webbrowser", "antigravity", "http", "httplib",
        "urllib.request", "urllib2", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib",
        "poplib", "imaplib", "nntplib", "xmlrpc",
    }
)  # fmt: skip

_NAMES_BY_MODULE = {
    "builtins": "eval exec execfile compile __import__ open file input raw_input breakpoint globals locals "
    "setattr delattr apply reload",
    "types": "FunctionType LambdaType CodeType MethodType ModuleType",
    "code": "interact InteractiveConsole InteractiveInterpreter",
    "commands": "getoutput getstatusoutput",
    "platform": "popen",
    "profile": "run runctx Profile",
    "trace": "Trace",
    "io": "open open_code FileIO",
    "_io": "open open_code FileIO",
    "codecs": "open",
    "bz2": "open",
    "gzip": "open",
    "lzma": "open",
    "pickle": "load loads Unpickler _load _loads _Unpickler",
    "_pickle": "load loads Unpickler",
    "cPickle": "load loads Unpickler",
    "cloudpickle": "load loads",
    "cloudpickle.cloudpickle": "load loads subimport _make_function _make_skel_func _builtin_type",
    "dill": "load loads",
    "dill._dill": "load loads _create_code _create_function _eval_repr _import_module",
    "joblib": "load",
    "joblib.numpy_pickle": "load",
    "pandas": "read_pickle",
    "pandas.io.pickle": "read_pickle",
    "torch": "load",
    "torch.serialization": "load",
    "torch.jit": "load",
    "torch.jit._serialization": "load",
    "torch.ops": "load_library",
    "numpy": "load",
    "numpy.lib.npyio": "load",
    "numpy.lib._npyio_impl": "load",
    "yaml": "load unsafe_load full_load",
}

_NAMES = frozenset(f"{module}.{name}" for module, names in _NAMES_BY_MODULE.items() for name in names.split())

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def qualified(module: str, name: str) -> str:
    """Join module and name, Python 2's modules by their present names."""
    return f"{_PYTHON_2.get(module, module)}.{name}"


def is_refused(module: str, name: str) -> bool:
    """Whether a global stands for processes, shells, imports, evaluation or the network.

    A dotted `name` is a path of attributes, so `json`, `codecs.sys.exit` means `sys.exit`.

    Args:
        module: As the pickle says it.
        name: As the pickle says it.
    """
    path = qualified(module, name)
    parts, depth = path.split("."), module.count(".") + 1
    if path in _NAMES or _is_within(parts):
        return True
    return any(
        _is_within(parts[i:]) or ".".join(parts[i : i + 2]) in _NAMES for i in range(depth, len(parts) - 1)
    )


def _is_within(parts: list[str]) -> bool:
    return any(".".join(parts[:end]) in _MODULES for end in range(1, len(parts)))
