# SPDX-License-Identifier: Apache-2.0
"""From the units' IPs to a bitstream: block design, implementation, the gate on timing, the manifest.

In the build's folder:

    vivado/settings.tcl                 the table of block_design.py, for both scripts
    vivado/design.log, implement.log    what Vivado said
    vivado/*.stamp                      what each of the two steps was made of and made (stamps.py)
    vivado/project/                     Vivado's project; its runs go on where they were cut
    vivado/results/                     reports, .bit and .hwh
    zynqbert.bit, .hwh, manifest.json   the result; nothing of it while timing is not met
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..block_design import NAME, UNITS, BlockDesign, block_design, settings_tcl
from ..boards import Board
from ..capabilities import CAPABILITIES
from ..instructions import LANES, PROGRAM_VERSION
from ..manifest import BIT, HWH, UNKNOWN_COMMIT, Manifest, Timing, UnitReport, Utilization, save_manifest, sha256
from ..manifest import NAME as MANIFEST
from ..simulator import ROOT
from . import stamps
from .predictor import PredictorProject
from .run import ToolFailed, run_tool
from .tools import Tool
from .vivado_reports import read_timing, read_utilization

CHECKOUT = ROOT.parent
SCRIPTS = Path(__file__).resolve().parent / "tcl"
CONSTRAINTS = SCRIPTS / "crossings.xdc"
TIMING_NOT_MET = 3  # exit code of implement.tcl
JOBS = 4  # runs of Vivado at a time, some GB each
REASON = "zynqbert: "  # what a script's own reason begins with in the log

Log = Callable[[str], None]


class VivadoFailed(ValueError):
    """Vivado could not make what was asked for; one line with the reason, the log and what to do."""


class TimingNotMet(VivadoFailed):
    """The design is too slow for its clock; `timing` has the figures."""

    def __init__(self, message: str, timing: Timing) -> None:
        super().__init__(message)
        self.timing = timing


def build_bitstream(
    board: Board,
    clock_mhz: float,
    ip_folders: Mapping[str, Path],
    folder: Path,
    vivado: Tool,
    log: Log,
    *,
    force: bool = False,
    predictor: PredictorProject | None = None,
) -> Path:
    """Make zynqbert.bit, zynqbert.hwh and manifest.json in `folder`; the path of the manifest.

    ip_folders: by unit (engine_fetch, ..), where its component.xml lies. `folder` holds csynth.json of the csynth step.
    predictor: the network that the vector unit's IP was made with, for the manifest.
    What is made already of the same inputs is kept, unless `force`. Raises VivadoFailed, TimingNotMet, ToolFailed,
    ValueError for a clock out of reach or a report without its figures, OSError.
    """
    design = block_design(board, clock_mhz)
    units = _unit_reports(folder / "csynth.json")
    for unit in UNITS.values():
        if unit not in ip_folders or not (ip_folders[unit] / "component.xml").is_file():
            raise VivadoFailed(
                f"bitstream: no IP of {unit} (component.xml in {ip_folders.get(unit)}); "
                "remedy: zynqbert build --step ip --force"
            )
    work = folder / "vivado"
    work.mkdir(parents=True, exist_ok=True)
    settings = settings_tcl(
        design,
        project=work / "project",
        results=work / "results",
        ip_folders=[ip_folders[unit] for unit in UNITS.values()],
        rtl=_rtl(),
        constraints=CONSTRAINTS,
        jobs=JOBS,
    )
    if force:
        for stamp in work.glob("*.stamp"):
            stamp.unlink()
    made = _make_design(settings, ip_folders, work, vivado, log)
    timing, utilization = _implement(design, made, folder, work, vivado, log)
    manifest = _manifest(design, timing, utilization, units, work / "results", vivado, predictor)
    return _publish(manifest, folder, work / "results", log)


def _rtl() -> list[Path]:
    """What Vivado gets of fpga/rtl: not sim/, whose model stands for a primitive that Vivado has."""
    return sorted(path for kind in ("*.v", "*.vh", "*.sv") for path in (ROOT / "rtl").glob(kind))


# --- the two steps ---------------------------------------------------------------------------------------------------


def _make_design(settings: str, ip_folders: Mapping[str, Path], work: Path, vivado: Tool, log: Log) -> stamps.Inputs:
    """Project and block design; what they were made of."""
    inputs = {"tool": f"vivado {vivado.version}", "settings": stamps.text_digest(settings)}
    for path in (SCRIPTS / "common.tcl", SCRIPTS / "design.tcl", CONSTRAINTS, *_rtl()):
        inputs[f"source {path.name}"] = stamps.file_digest(path)
    for unit, ip in sorted(ip_folders.items()):
        for path in sorted(path for path in ip.rglob("*") if path.is_file()):
            inputs[f"{unit} {path.relative_to(ip)}"] = stamps.file_digest(path)
    stamp = work / "design.stamp"
    handoff = work / "project" / f"{NAME}.gen" / "sources_1" / "bd" / NAME / "hw_handoff" / HWH
    if stamps.is_current(stamp, inputs, work) and (work / "project" / f"{NAME}.xpr").is_file():
        log("block design: up to date")
        return inputs
    log("block design: Vivado makes it")
    stamp.unlink(missing_ok=True)
    (work / "implement.stamp").unlink(missing_ok=True)
    (work / "settings.tcl").write_text(settings, encoding="utf-8")
    try:
        _run("design", work, vivado)
    except ToolFailed as error:
        raise _explained("block design", error) from None
    if not handoff.is_file():
        raise VivadoFailed(f"block design: Vivado ended well, but wrote no {handoff}; its log: {work / 'design.log'}")
    stamps.write_stamp(stamp, inputs, work, [handoff])
    return inputs


def _implement(
    design: BlockDesign, made: stamps.Inputs, folder: Path, work: Path, vivado: Tool, log: Log
) -> tuple[Timing, Utilization]:
    """Synthesis to bitstream of a block design `made` of those inputs; its reports."""
    inputs = dict(made)
    for path in (SCRIPTS / "common.tcl", SCRIPTS / "implement.tcl"):
        inputs[f"source {path.name}"] = stamps.file_digest(path)
    stamp, results = work / "implement.stamp", work / "results"
    reports = results / "reports"
    if stamps.is_current(stamp, inputs, work):
        log("implementation: up to date")
    else:
        log("implementation: Vivado synthesizes, places and routes; this takes hours")
        stamp.unlink(missing_ok=True)
        shutil.rmtree(results, ignore_errors=True)
        for name in (MANIFEST, BIT, HWH):
            (folder / name).unlink(missing_ok=True)
        results.mkdir()
        try:
            _run("implement", work, vivado)
        except ToolFailed as error:
            if error.code != TIMING_NOT_MET:
                raise _explained("implementation", error) from None
            _pass_gate(design, read_timing(reports / "timing_summary.rpt"), reports)
            raise _explained("implementation", error) from None
        _pass_gate(design, read_timing(reports / "timing_summary.rpt"), reports)
        for name in (BIT, HWH):
            if not (results / name).is_file():
                told = work / "implement.log"
                raise VivadoFailed(f"implementation: Vivado ended well, but wrote no {results / name}; its log: {told}")
        stamps.write_stamp(stamp, inputs, work, [path for path in results.rglob("*") if path.is_file()])
    return read_timing(reports / "timing_summary.rpt"), read_utilization(reports / "utilization.rpt")


def _run(script: str, work: Path, vivado: Tool) -> None:
    options = ("-mode", "batch", "-notrace", "-nolog", "-nojournal")
    command = [str(vivado.path), *options, "-source", str(SCRIPTS / f"{script}.tcl"), "-tclargs", "settings.tcl"]
    run_tool(command, work, work / f"{script}.log")


def _explained(step: str, error: ToolFailed) -> ValueError:
    """The script's own reason in one line, if it gave one."""
    lines = error.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    reason = next((line.removeprefix(REASON) for line in reversed(lines) if line.startswith(REASON)), None)
    return error if reason is None else VivadoFailed(f"{step}: {reason.strip()}; its log: {error.log_file}")


def _pass_gate(design: BlockDesign, timing: Timing, reports: Path) -> None:
    """Raise TimingNotMet unless setup, hold and pulse width hold everywhere, and every register has a clock."""
    if timing.met:
        return
    clock = design.wizard.mhz()[0]
    failed = [
        f"{name} {slack:.3f} ns ({count} endpoints)"
        for name, slack, count in (
            ("WNS", timing.wns_ns, timing.setup_failing),
            ("WHS", timing.whs_ns, timing.hold_failing),
            ("WPWS", timing.wpws_ns, timing.pulse_failing),
        )
        if slack < 0 or count
    ]
    if timing.no_clock:
        failed.append(f"{timing.no_clock} register pins without a clock")
    if timing.no_clock or timing.whs_ns < 0:
        remedy = "no slower clock mends this: see"
    else:
        reached = 1000 / (1000 / clock - min(timing.wns_ns, timing.wpws_ns))
        slower = [mhz for mhz in design.board.clocks if mhz < clock]
        wanted = max((mhz for mhz in slower if mhz <= reached), default=min(slower, default=None))
        told = f"--clock-mhz {wanted}" if wanted else "a slower clock by --clock-mhz"
        remedy = f"remedy: {told} (the slack stands for {int(reached)} MHz); the paths:"
    raise TimingNotMet(
        f"timing is not met at {clock:g} MHz: {', '.join(failed)}; no bitstream was made; "
        f"{remedy} {reports / 'timing_summary.rpt'}",
        timing,
    )


# --- the manifest ----------------------------------------------------------------------------------------------------


def _manifest(
    design: BlockDesign,
    timing: Timing,
    utilization: Utilization,
    units: tuple[dict[str, UnitReport], str],
    results: Path,
    vivado: Tool,
    predictor: PredictorProject | None,
) -> Manifest:
    reports, hls_version = units
    commit, modified = git_state(CHECKOUT)
    return Manifest(
        board=design.board.name,
        part=design.board.part,
        program_version=PROGRAM_VERSION,
        columns=design.board.columns,
        lanes=LANES,
        capabilities=CAPABILITIES,
        max_clock_mhz=design.wizard.mhz()[0],
        wizard_outputs_mhz=design.wizard.mhz(),
        commit=commit,
        modified=modified,
        tools={"vivado": vivado.version, "vitis_hls": hls_version},
        sha256={name: sha256(results / name) for name in (BIT, HWH)},
        utilization=utilization,
        timing=timing,
        csynth=reports,
        date=_date(),
        predictor={} if predictor is None else {"name": predictor.folder.name, "sha256": predictor.sha256},
    )


def _unit_reports(path: Path) -> tuple[dict[str, UnitReport], str]:
    """What csynth.json says of each unit, and the version of the tool that wrote it."""
    remedy = "remedy: zynqbert build --step csynth --force"
    try:
        units = json.loads(path.read_text(encoding="utf-8"))["units"]
        reports = {
            unit: UnitReport(
                estimated_ns=float(units[unit]["estimated_ns"]),
                target_ns=float(units[unit]["target_ns"]),
                lut=units[unit]["resources"]["LUT"],
                ff=units[unit]["resources"]["FF"],
                dsp=units[unit]["resources"]["DSP"],
                bram18=units[unit]["resources"]["BRAM_18K"],
                uram=units[unit]["resources"]["URAM"],
            )
            for unit in UNITS.values()
        }
        versions = sorted({units[unit]["tool"] for unit in UNITS.values()})
    except FileNotFoundError:
        raise VivadoFailed(f"bitstream: {path} is missing; {remedy}") from None
    except KeyError as error:
        raise VivadoFailed(f"bitstream: {path} has no {error}; {remedy}") from None
    except (TypeError, ValueError) as error:
        raise VivadoFailed(f"bitstream: {path} is no summary of csynth ({error}); {remedy}") from None
    return reports, ", ".join(versions)


def _publish(manifest: Manifest, folder: Path, results: Path, log: Log) -> Path:
    """The three files into `folder`, the manifest last, so that it never stands beside files that are not its own."""
    path = folder / MANIFEST
    path.unlink(missing_ok=True)
    for name in (BIT, HWH):
        partial = folder / f".{name}.partial"
        shutil.copyfile(results / name, partial)
        partial.replace(folder / name)
    save_manifest(manifest, path)
    kept = record_of(manifest.board, folder, CHECKOUT)
    if kept is not None:
        save_manifest(manifest, kept)
        log(f"manifest kept in {kept}")
    return path


def record_of(board: str, folder: Path, checkout: Path) -> Path | None:
    """Where a checkout keeps the manifest of a build in `folder`: bitstreams/<board>/manifest.json of the checkout that
    zynqbert runs from, if `folder` lies within it; None for a build elsewhere, or by an installed package."""
    bitstreams = checkout / "bitstreams"
    if not (
        (checkout / ".git").exists() and bitstreams.is_dir() and folder.resolve().is_relative_to(checkout.resolve())
    ):
        return None
    return bitstreams / board / MANIFEST


def git_state(checkout: Path) -> tuple[str, bool]:
    """The commit of `checkout`, and whether fpga/, of which a bitstream is made, differs from it; ("unknown", False)
    where `checkout` is not the top folder of a git tree, or there is no git."""
    try:
        top = _git(checkout, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != checkout.resolve():
            return UNKNOWN_COMMIT, False
        return _git(checkout, "rev-parse", "HEAD"), bool(_git(checkout, "status", "--porcelain", "--", "fpga"))
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN_COMMIT, False


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return run.stdout.strip()


def _date() -> str:
    """Now in UTC, or what SOURCE_DATE_EPOCH says."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        moment = datetime.now(timezone.utc)
    else:
        try:
            moment = datetime.fromtimestamp(int(epoch), timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise ValueError(f"SOURCE_DATE_EPOCH is {epoch!r}, must be seconds since 1970") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
