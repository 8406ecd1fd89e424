"""Takes torch and triton out of a lock: which build is installed is decided in scripts/setup.sh.

xgrammar asks for triton wherever it runs, but uses it on GPUs only; there locks/torch-cuda.txt has the one torch needs.
"""

import re
import sys
from pathlib import Path

for name in sys.argv[1:]:
    path = Path(name)
    entry = r"^(?:torch|triton)==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+"
    path.write_text(re.sub(entry, "", path.read_text(), flags=re.MULTILINE))
