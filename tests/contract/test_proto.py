"""The generated code is what the proto says."""

import filecmp
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_generating_again_gives_the_same_files(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "generate_proto.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=60)
    committed = ROOT / "serving" / "rpc" / "gen"
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py*") if path.is_file()]
    same, different, missing = filecmp.cmpfiles(tmp_path, committed, names, shallow=False)
    assert (different, missing) == ([], [])
    assert len(same) == 6
