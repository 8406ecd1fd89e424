"""Makes the lock accept torch's CPU build and PyPI's build of the same version, and nothing else."""

import re
import sys
from pathlib import Path

HASHES = {
    "2.13.0": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # +cpu, cp311, x86-64
        "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",  # PyPI, cp311, x86-64
    )
}


def pin(text: str) -> str:
    """The lock with torch's entry replaced; KeyError when the version is not known here."""
    found = re.search(r"^torch==([0-9.]+)\S* \\\n(?:    --hash=\S+(?: \\)?\n)+", text, re.MULTILINE)
    if found is None:
        raise SystemExit("no torch in the lock")
    version = found.group(1)
    hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in HASHES[version])
    return text.replace(found.group(0), f"torch=={version} \\\n{hashes}\n")


for name in sys.argv[1:]:
    path = Path(name)
    path.write_text(pin(path.read_text()))
