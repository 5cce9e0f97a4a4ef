# SPDX-License-Identifier: Apache-2.0
"""What becomes of an engine that runs on: it is waited for, or reset, and tried again."""

import logging
import time

from .driver import EngineDriver
from .errors import EngineStuck, EngineTimeout

logger = logging.getLogger(__name__)

SETTLE_S = 0.5  # a pass takes milliseconds on a board
PROBE_S = 1.0  # an empty program takes microseconds
POLL_S = 1e-3


def recover(driver: EngineDriver, hang: EngineTimeout) -> None:
    """Reset the engine after `hang`, and run an empty program.

    A pass needs nothing of what was on chip before but the weights that were kept there, which the caller brings back:
    its program loads rows, tables, the other weights and parameters, and clears the sums it adds to. Raises
    ResetTimeout if the reset does not end, EngineStuck if the empty program does not.
    """
    logger.warning("%s; the engine is reset", hang)
    driver.reset()
    try:
        driver.run(0, 0, 0, 0, 1, timeout_s=PROBE_S)
    except EngineTimeout as error:
        raise EngineStuck(hang) from error


def settle(driver: EngineDriver) -> None:
    """Leave the engine idle: a pass under way may end, what hangs is reset. Raises ResetTimeout if even that fails.

    Its clock runs, or stands after a pass with a latency target: a retune that is interrupted brings the one before
    back (ClockWizardDriver.retune), and whoever loads the overlay next starts it.
    """
    deadline = time.monotonic() + SETTLE_S
    try:
        while not driver.idle and time.monotonic() < deadline:
            time.sleep(POLL_S)
    finally:  # also when a second Ctrl-C ends the wait
        if not driver.idle:
            logger.warning("the engine still runs at the end, and is reset")
            driver.reset()
