# SPDX-License-Identifier: Apache-2.0
"""Log lines of the package on stderr, for `zynqbert -v`. Modules log by `logging.getLogger(__name__)`; without `setup`
they are as quiet as any library.
"""

import logging
import sys

PACKAGE = __name__.rpartition(".host.")[0]
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


class StderrHandler(logging.StreamHandler):
    """Writes to what sys.stderr is when a line comes: a progress bar puts itself in its place meanwhile."""

    @property
    def stream(self):
        return sys.stderr

    @stream.setter
    def stream(self, value) -> None:
        """StreamHandler sets it once; it is looked up instead."""


def setup(verbosity: int) -> None:
    """Log the package's lines to stderr: warnings for 0, information for 1, everything from 2 on; nobody else's."""
    logger = logging.getLogger(PACKAGE)
    for handler in [h for h in logger.handlers if isinstance(h, StderrHandler)]:
        logger.removeHandler(handler)
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])
