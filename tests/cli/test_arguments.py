"""What can be asked on the command line, and what is refused before anything is loaded."""

from __future__ import annotations

import subprocess
import sys


def test_the_module_runs_and_help_needs_no_torch():
    code = "import sys, lightbagel_core.cli.arguments as a; a.make_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "lightbagel_core", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("lightbagel 0.")
