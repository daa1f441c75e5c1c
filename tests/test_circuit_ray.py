"""Jobs on a Ray cluster: the netlist is the local one, bit for bit; clear errors where it cannot be."""

import sys
import threading
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from typer.testing import CliRunner

from tapeout.circuit.exact import ExactLearner
from tapeout.circuit.functions import get
from tapeout.circuit.learn import learn
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.open import open_oracle
from tapeout.circuit.oracle import FunctionOracle, LibraryOracle
from tapeout.circuit.process_oracle import ProcessOracle
from tapeout.circuit.runner import LocalRunner, RayRunner, oracle_source
from tapeout.cli import app
from tapeout.cpu.rv32 import rv32_oracle
from tapeout.errors import UserError

FUNCTION = """
def carry(a, b):
    return a + b

def add(a, b):
    return carry(a, b)
"""


@pytest.fixture(scope="module")
def cluster() -> Generator[None]:
    """Two workers on this machine."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    yield
    ray.shutdown()


def same(a: Netlist, b: Netlist) -> bool:
    return np.array_equal(a.fanins, b.fanins) and np.array_equal(a.outputs, b.outputs)


@pytest.mark.filterwarnings("default")  # of Ray itself
def test_the_netlist_is_the_local_one(cluster: None, tmp_path: Path) -> None:
    library = LibraryOracle(get("alu8").library(tmp_path))
    assert same(learn(library, seed=2, ray=True).netlist, learn(library, seed=2).netlist)
    path = tmp_path / "box.py"
    path.write_text(FUNCTION)
    words = "a:6 b:6 -> s:7"
    function = open_oracle(f"{path}:add", interface=words)
    here = learn(function).netlist
    assert same(learn(function, ray=True).netlist, here)
    with ProcessOracle([sys.executable, "-m", "tapeout.circuit.serve", f"{path}:add", words]) as process:
        assert same(learn(process, ray=True).netlist, here)


@pytest.mark.filterwarnings("default")
def test_jobs_of_the_processor_and_faults_of_the_black_box(cluster: None, tmp_path: Path) -> None:
    source = partial(rv32_oracle, "rv32ia", ports=True)
    spans = [(0, 32), (32, 32), (64, 32), (96, 32), (128, 1), (129, 32), (161, 32)]
    arguments = (spans, list(range(32)), [(0, 0)], 5, 4096)
    runner = RayRunner(source)
    assert runner.workers == 2
    wanted = LocalRunner(source(), 1).run("region_signature", *arguments)
    assert runner.run("region_signature", *arguments) == wanted
    runner.close()
    with pytest.raises(UserError, match="no processor variant 'rv99'"):
        RayRunner(partial(rv32_oracle, "rv99", ports=True))
    lock = threading.Lock()
    with pytest.raises(UserError, match="cannot be sent to other machines"):
        learn(FunctionOracle(lambda a: (lock, a)[1], "a:4 -> y:4"), ray=True)

    def tired(a: np.ndarray) -> np.ndarray:
        if len(a) > 1000:  # not what is asked first
            raise ValueError("out of paper")
        return a

    with pytest.raises(UserError, match="function tired: raised ValueError: out of paper"):
        learn(FunctionOracle(tired, "a:24 -> y:24"), ray=True)


def test_what_cannot_run_on_a_cluster() -> None:
    add = FunctionOracle(lambda a: a, "a:4 -> y:4")
    with pytest.raises(UserError, match="only the exact algorithm"):
        learn(add, algorithm="bsd", ray=True)
    with pytest.raises(UserError, match="cannot be sent"):
        oracle_source(rv32_oracle("rv32ia", ports=True))  # type: ignore[arg-type]


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "box.py"
    path.write_text(FUNCTION)
    for command in (["learn", f"{path}:add", "--interface", "a:6 b:6 -> s:7"], ["design", "rv32ia"]):
        result = CliRunner().invoke(app, [*command, "--ray"])
        assert result.exit_code == 2
        assert result.stderr == "tapeout: --ray: ray is not installed; pip install tapeout[ray]\n"


def test_jobs_run_where_the_runner_says() -> None:
    """The learner asks nothing itself: all its jobs go through the runner."""
    oracle = FunctionOracle(lambda a, b: a & b, "a:8 b:8 -> y:8")
    seen: list[str] = []

    class Counting(LocalRunner):
        def run(self, job: str, *arguments: object) -> object:
            seen.append(job)
            return super().run(job, *arguments)  # type: ignore[arg-type]

    from tapeout.circuit.oracle import to_native

    native = to_native(oracle)
    ExactLearner(native, oracle.interface, runner=Counting(native, 1)).run()
    assert set(seen) == {"learn_region", "check_region", "region_signature"}
