"""Takes torch out of a lock: which build is installed is decided in scripts/setup.sh."""

import re
import sys
from pathlib import Path

for name in sys.argv[1:]:
    path = Path(name)
    path.write_text(re.sub(r"^torch==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", "", path.read_text(), flags=re.MULTILINE))
