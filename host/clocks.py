# SPDX-License-Identifier: Apache-2.0
"""The clocks an engine can run on: which of the wizard's outputs gives a frequency, and when the wizard is retuned."""

from dataclasses import dataclass

from ..fpga import clocking, registers
from ..fpga.clock_settings import find_settings
from .driver import ClockWizardDriver, EngineDriver
from .errors import ClockError


@dataclass(frozen=True)
class ClockChange:
    """What `ClockTree.set_mhz` did: the frequency the engine has now, from which output of the wizard.

    kind: "none", "select" (another output) or "retune" (other outputs); modelled_s: how long the engine stood still,
    modelled (fpga/clocking.py).
    """

    mhz: float
    output: int
    kind: str
    modelled_s: float


class ClockTree:
    """The engine's clock, up to `limit_mhz`: the clock that the bitstream's timing was met for."""

    def __init__(self, engine: EngineDriver, wizard: ClockWizardDriver, limit_mhz: float):
        self.engine, self.wizard, self.limit_mhz = engine, wizard, limit_mhz
        self._may_stand = False  # known here, so that a pass of a running engine needs no look at a register

    def available(self) -> tuple[float, ...]:
        """What the wizard's outputs give now, in MHz: clocks that a mere selection reaches, if within the limit."""
        return self.wizard.outputs_mhz()

    def stop(self) -> None:
        """Stop the engine's clock until `start`, or a change of it; what is on chip stays. Raises ClockError."""
        self._may_stand = True  # also where the change is interrupted
        self.engine.stop_clock()

    def start(self) -> None:
        """Start the engine's clock where `stop` stopped it. Raises ClockError."""
        if self._may_stand:
            self.engine.start_clock()
            self._may_stand = False

    def set_mhz(self, mhz: float) -> ClockChange:
        """Clock the engine, which must be idle, with `mhz` or the nearest below; what is on chip stays.

        An output that gives just `mhz` is selected; else output 0 is retuned to it, the others staying near what the
        bitstream gave them. Raises ClockError: a clock above the limit, a busy engine, a change that failed;
        ValueError for a clock out of the wizard's reach.
        """
        if not mhz <= self.limit_mhz:
            raise ClockError(
                f"clock of {mhz:g} MHz is above {self.limit_mhz:g} MHz, the highest that the bitstream's timing was "
                "met for"
            )
        outputs = self.available()
        if mhz not in outputs:
            near = [min(given, self.limit_mhz) for given in registers.WIZARD_OUTPUTS_MHZ[1:]]
            wanted = (mhz, *near)
            if outputs != find_settings(wanted).mhz():
                return self._retune(wanted)
            mhz = outputs[0]
        return self._select(mhz, outputs)

    def set_outputs(self, mhz: tuple[float, ...]) -> ClockChange:
        """Retune all outputs to `mhz`, or the nearest below, and clock the engine, which must be idle, from output 0.

        Raises as `set_mhz`.
        """
        if not max(mhz) <= self.limit_mhz:
            raise ClockError(
                f"clock of {max(mhz):g} MHz is above {self.limit_mhz:g} MHz, the highest that the bitstream's timing "
                "was met for"
            )
        return self._retune(mhz)

    def _select(self, mhz: float, outputs: tuple[float, ...]) -> ClockChange:
        current = self.engine.clock_output
        if outputs[current] == mhz and not self.engine.clock_stopped:
            return ClockChange(mhz, current, "none", 0.0)
        if not self.wizard.locked:
            raise ClockError("clocking wizard: no lock, STATUS bit 0 is 0; remedy: load the overlay again")
        output = outputs.index(mhz)
        self.engine.select_clock(output)
        return ClockChange(mhz, output, "select", clocking.select_seconds())

    def _retune(self, wanted: tuple[float, ...]) -> ClockChange:
        outputs = self.wizard.retune(wanted, self.engine)
        change = self._select(outputs[0], outputs)
        return ClockChange(change.mhz, change.output, "retune", clocking.retune_seconds() + change.modelled_s)
