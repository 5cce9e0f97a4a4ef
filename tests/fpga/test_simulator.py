# SPDX-License-Identifier: Apache-2.0
"""Threads of the native build: any number gives the same array, in a fork too; what is no number is refused."""

import os
import subprocess
import sys

import numpy as np
import pytest
from units import Units, pointer
from zynqbert.fpga.simulator import ROOT, Simulator
from zynqbert.quant import golden


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
@pytest.mark.parametrize("columns", [128, 192])
def test_array_on_threads(columns, threads):
    """Around the steps from which threads share a tile, and those that are summed together."""
    units = Units("native", columns, threads)
    rng = np.random.default_rng(threads)
    for k in (511, 512, 513, 1023, 1024, 1025, 2400):
        a, w = rng.integers(-127, 128, (32, k)), rng.integers(-7, 8, (columns, k))
        np.testing.assert_array_equal(units.array(a, w, w8=False), golden.linear_ref(w, a), err_msg=str(k))


def test_tiles_follow_each_other_at_once():
    """Workers that are late for one job must not take part in it once the next is there."""
    units = Units("native", 128, 4)
    rng = np.random.default_rng(0)
    a, w = rng.integers(-127, 128, (32, 512)), rng.integers(-7, 8, (128, 512))
    units.array(a, w, w8=False)
    fields = np.array([0, 0, 0, 0, 0, 0, 512, 128, 0, 0], dtype=np.int64)
    out = np.empty((128, 32), dtype=np.int64)
    expected = golden.linear_ref(w, a).T
    for _ in range(500):
        assert units.lib.zq_array(units.engine, pointer(fields), pointer(out)) == 0
        np.testing.assert_array_equal(out, expected)


def test_a_slow_worker_is_waited_for(tmp_path):
    """The caller's part ends once the worker has begun its own, which then takes long."""
    source = """
#include <chrono>
#include "worker_pool.hpp"
int main() {
  zq::worker_pool pool(2);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> begun{0}, ended{0};
  pool.run(2, [&](int) {
    if (std::this_thread::get_id() == caller) {
      while (begun == 0) std::this_thread::yield();
    } else {
      ++begun;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    ++ended;
  });
  const bool all = ended == 2;
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  return all ? 0 : 1;
}
"""
    program = tmp_path / "program"
    command = ["g++", "-std=c++17", "-O1", "-pthread", "-I", str(ROOT / "sim"), "-x", "c++", "-", "-o", str(program)]
    subprocess.run(command, input=source, text=True, check=True)
    subprocess.run([program], check=True, timeout=60)


@pytest.mark.parametrize(("build", "threads"), [("native", 2), ("checked", 1), ("csim", 1)])
def test_only_the_native_build_has_threads(build, threads):
    assert Simulator(build, 128, threads=2).threads == threads


def test_threads_from_the_environment(monkeypatch):
    monkeypatch.delenv("ZYNQBERT_THREADS", raising=False)
    assert Simulator().threads == 1
    monkeypatch.setenv("ZYNQBERT_THREADS", "3")
    assert Simulator().threads == 3 and Simulator(threads=2).threads == 2


@pytest.mark.parametrize("threads", [0, 65, -1, "two", 1.5])
def test_no_number_of_threads(monkeypatch, threads):
    with pytest.raises(ValueError, match=f"threads is '{threads}'; remedy: a number of threads from 1 to 64"):
        Simulator(threads=threads)
    monkeypatch.setenv("ZYNQBERT_THREADS", str(threads))
    with pytest.raises(ValueError, match=f"ZYNQBERT_THREADS is '{threads}'; remedy"):
        Simulator()


def test_a_fork_goes_on_alone():
    """A forked process has the engine without its threads: it computes the same, and ends."""
    script = """
import os, sys, numpy as np
from units import Units
units = Units("native", 128, 3)
a, w = np.ones((32, 600), np.int64), np.ones((128, 600), np.int64)
assert (units.array(a, w, w8=False) == 600).all()
child = os.fork()
good = (units.array(a, w, w8=False) == 600).all()
del units.sim, units
if child == 0:
    os._exit(0 if good else 1)
sys.exit(not good or os.waitpid(child, 0)[1])
"""
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)
