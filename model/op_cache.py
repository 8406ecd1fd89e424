"""DeepSpeed's compiled operation: built once, under a lock that dies with its holder.

torch guards such builds by a file that stays behind when a build is killed, and every later start then waits for ever.
Here one process at a time loads the operation, under a lock of the kernel's; whoever holds that may remove the file.
"""

import fcntl
import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

_ENV: Final = "TORCH_EXTENSIONS_DIR"


def prepare_environment() -> None:
    """Where the build lives and which ninja makes it; before DeepSpeed is imported.

    The folder is the environment's own where that can be written. ninja must be always the same: another version
    throws the log of the first away and builds everything anew.
    """
    if _ENV not in os.environ and os.access(sys.prefix, os.W_OK):
        os.environ[_ENV] = str(Path(sys.prefix) / "torch_extensions")
    scripts = sysconfig.get_path("scripts")
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])


def load_op() -> None:
    """Load the shared-memory all-reduce, building it if need be (about 50 s once). DeepSpeed finds it loaded."""
    from torch.utils.cpp_extension import get_default_build_root

    folder = Path(os.environ.get(_ENV) or get_default_build_root())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gemmule.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in folder.glob("**/lock"):
            stale.unlink()
        from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder  # type: ignore[import-not-found, unused-ignore]

        ShareMemCommBuilder().load(verbose=False)
