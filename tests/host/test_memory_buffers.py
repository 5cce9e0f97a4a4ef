# SPDX-License-Identifier: Apache-2.0
"""The memory plan of a backbone against the buffers that the host really allocates, and the bytes that it moves."""

import pytest
from split_tasks import make_tasks
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import engine as engines
from zynqbert.host.memory_plan import BACKBONE, BUFFER, IO, PROGRAM, memory_plan

NAMES = ("first", "second")
POINT = {"threshold": 500, "foretold": {"threshold": 500, "table": [1] * 256}}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
@pytest.mark.parametrize("early_exit", [None, "1"])
def test_buffers(tmp_path, board, early_exit):
    options = dict(layers=2, family="albert", density=0.5, word_density=0.4)
    if early_exit:
        options |= dict(exits=True, points={early_exit: POINT})
    folder = make_tasks(tmp_path / "trunk", NAMES, **options)
    with engines.open(board=board, artifact=folder, device="emulated", early_exit=early_exit) as engine:
        ways = {name: [way.plan for way in task.ways()] for name, task in engine._tasks.items()}
        found = memory_plan(ways)
        sizes = sorted(buffer.nbytes for buffer in engine._buffers._buffers)
        moved = {name: engine.use(name).bytes for name in reversed(NAMES)}
    assert len(ways[NAMES[0]]) == (2 if early_exit else 1)
    image = found[BACKBONE].bytes + found[BUFFER].bytes
    assert sizes == sorted([image, found[IO].bytes, *(row.bytes for row in found[PROGRAM].rows)])
    assert sum(sizes) == found.ddr_bytes
    assert moved == {use.name: use.moved for use in found.tasks}
