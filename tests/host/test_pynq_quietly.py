# SPDX-License-Identifier: Apache-2.0
"""A numpy that pynq's buffers do not work with is told in one line, before pynq fails for want of an attribute."""

import subprocess
import sys

import pytest
from zynqbert.host.errors import TargetError
from zynqbert.host.pynq_quietly import check_numpy

FAKED = """
import sys, numpy
numpy.__version__ = "2.1.3"
from zynqbert.host import cli
sys.exit(cli.call(["run", "A gem.", "--device", "emulated"]))
"""


@pytest.mark.parametrize("version", ["1.26.0", "1.26.4"])
def test_numpy_1(version):
    check_numpy(version)


@pytest.mark.parametrize("version", ["2.0.0", "2.1.3", "2.0.0rc1", "10.0"])
def test_numpy_2(version):
    with pytest.raises(TargetError, match=f"^numpy {version} is installed, .*; remedy: pip install 'numpy<2'$"):
        check_numpy(version)


def test_command_line_with_numpy_2():
    run = subprocess.run([sys.executable, "-c", FAKED], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("zynqbert: numpy 2.1.3 is installed, ") and run.stderr.count("\n") == 1
