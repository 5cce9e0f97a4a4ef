# SPDX-License-Identifier: Apache-2.0
"""What the stub vivado does: run the build's own Tcl over stubs of Vivado's commands. Standard library alone.

Environment: ZQ_FAKE_LOG, a file that takes {"argv", "cwd"} of every call as a line of JSON; ZQ_FAKE_VIVADO, JSON:
  trouble: a way to fail that tcl/vivado_stubs.tcl knows     figures: replace those of the sample reports
"""

import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vivado_stub import run_script

OPTIONS = ["-mode", "batch", "-notrace", "-nolog", "-nojournal", "-source"]


def vivado(argv):
    if argv[1:] == ["-version"]:
        number = Path(argv[0]).parent / "VERSION"
        version = number.read_text().strip() if number.is_file() else "2024.2"
        print(
            f"vivado v{version} (64-bit)\nTool Version Limit: 2024.11\nSW Build 5239630 on Fri Nov 08 22:34:34 MST 2024"
        )
        return 0
    if "ZQ_FAKE_LOG" in os.environ:
        with open(os.environ["ZQ_FAKE_LOG"], "a", encoding="utf-8") as log:
            log.write(json.dumps({"argv": [Path(argv[0]).name, *argv[1:]], "cwd": os.getcwd()}) + "\n")
    if argv[1:7] != OPTIONS or argv[8:9] != ["-tclargs"] or len(argv) != 10:
        print(f"ERROR: [Stub 1-2] unknown command line {argv}")
        return 1
    script, settings = Path(argv[7]), Path(argv[9])
    weights = re.search(r"\[list weights \S+ \S+ \d+ (\d+) ", settings.read_text())  # nine bits a pair of columns
    how = json.loads(os.environ.get("ZQ_FAKE_VIVADO", "{}"))
    run = run_script(script, settings, int(weights[1]) * 2 // 9, Path("record.txt").resolve(), **how)
    print(run.stdout, end="")
    return run.returncode
