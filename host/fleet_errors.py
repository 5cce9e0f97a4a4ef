# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a fleet as a whole, each with a message of one line that says the remedy."""

from .errors import HostError


class FleetError(HostError):
    """A fleet that cannot be had, or whose workers do not fit together."""


class NoWorkers(FleetError):
    """Nobody is left to answer; `answered` sentences of the stream are, the first ones."""

    def __init__(self, fault: str, remedy: str, answered: int = 0):
        self.answered = answered
        super().__init__(f"{fault}; remedy: {remedy}")


class DeadlySentence(FleetError):
    """A sentence that ended every worker that was to answer it, alone; `number` from 1, `answered` as above."""

    def __init__(self, number: int, given: object, deaths: int, answered: int):
        self.number, self.answered = number, answered
        super().__init__(
            f"sentence {number}, {str(given)[:60]!r}, ended all {deaths} workers that were to answer it, alone; "
            f"the {answered} before it are answered; remedy: leave it out, and look at what the workers log: is there "
            "enough memory?"
        )


class Killed(FleetError):
    """A chunk's workers died, `deaths` of them; which of its sentences did it is not known, if one did."""

    def __init__(self, deaths: int):
        self.deaths = deaths
        super().__init__(f"{deaths} workers died over it")
