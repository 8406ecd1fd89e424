"""DeepSpeed's compiled operation: built once, under a lock that dies with its holder.

torch guards such builds by a file that stays behind when a build is killed, and every later start then waits for ever.
Here one process at a time loads the operation, under a lock of the kernel's; whoever holds that may remove the file.
Where nothing can be built, as in the image, what was built with it is loaded.
"""

import fcntl
import os
import shutil
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Final

_ENV: Final = "TORCH_EXTENSIONS_DIR"
_OP: Final = "deepspeed_shm_comm"


def prepare_environment() -> None:
    """Where the build lives and which ninja makes it; before DeepSpeed is imported.

    The folder is the environment's own where that can be written or has it already. ninja must be always the same:
    another version throws the log of the first away and builds everything anew.
    """
    if _ENV not in os.environ and (os.access(sys.prefix, os.W_OK) or built_op()):
        os.environ[_ENV] = str(_own_folder())
    scripts = sysconfig.get_path("scripts")
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])


def built_op() -> Path | None:
    """The operation, where it is compiled already."""
    built = Path(os.environ.get(_ENV) or _own_folder()) / _OP / f"{_OP}.so"
    return built if built.exists() else None


def load_op() -> None:
    """Load the shared-memory all-reduce, building it if need be (about 50 s once). DeepSpeed finds it loaded."""
    from torch.utils.cpp_extension import get_default_build_root

    built = built_op()
    if built and not (shutil.which(os.environ.get("CXX", "c++")) and os.access(built.parent, os.W_OK)):
        _load_as_it_is(built)
        return
    folder = Path(os.environ.get(_ENV) or get_default_build_root())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gemmule.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in folder.glob("**/lock"):
            stale.unlink()
        from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder  # type: ignore[import-not-found, unused-ignore]

        ShareMemCommBuilder().load(verbose=False)


def _own_folder() -> Path:
    return Path(sys.prefix) / "torch_extensions"


def _load_as_it_is(built: Path) -> None:
    """Not by torch's loader: that asks a compiler for its version, writes, and builds anew since headers are gone."""
    from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder

    loader = ExtensionFileLoader(_OP, str(built))
    module = module_from_spec(ModuleSpec(_OP, loader, origin=str(built)))
    loader.exec_module(module)
    ShareMemCommBuilder._loaded_ops[_OP] = module  # where DeepSpeed looks first
