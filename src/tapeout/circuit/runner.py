"""Where the exact learner's jobs run: in this process, or on the machines of a Ray cluster.

A job is a native function of a black box and plain arguments, and its result depends on nothing else: wherever it
runs, the netlist is the same, bit for bit.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

from tapeout import _native
from tapeout.circuit.evaluate import NetlistOracle
from tapeout.circuit.oracle import LibraryOracle, NativeOracle, Oracle, to_native
from tapeout.circuit.process_oracle import ProcessOracle
from tapeout.errors import UserError

Job = Literal["learn_region", "learn_joined", "check_region", "region_signature"]
_START_S = 120.0
_MANY = 1 << 62
OracleSource = Callable[[], Oracle | _native.Oracle]
"""Makes a black box anew, on any machine: it can be pickled (by cloudpickle), the black box itself often cannot."""


class Runner(Protocol):
    """Runs jobs; ``workers`` of them at once, each called from a thread of its own."""

    workers: int

    def run(self, job: Job, *arguments: Any) -> Any:
        """What the native function ``job`` returns for the black box and ``arguments``."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class LocalRunner:
    """Runs jobs in the thread that asks; one at a time where the black box bears no more.

    After ``seconds``, or so many ``questions``, jobs end with ``BudgetEnded`` of the native core, those that are under
    way too.
    """

    def __init__(
        self, oracle: _native.Oracle, threads: int, seconds: float | None = None, questions: int | None = None
    ) -> None:
        self.workers = threads if oracle.concurrent else 1
        self._oracle = oracle
        if seconds is not None or questions is not None:
            until = math.inf if seconds is None else seconds
            self._oracle = _native.BudgetOracle(oracle, until, _MANY if questions is None else min(questions, _MANY))

    def run(self, job: Job, *arguments: Any) -> Any:
        return getattr(_native, job)(self._oracle, *arguments)

    def close(self) -> None:
        """Nothing to give back."""


def oracle_source(oracle: Oracle) -> OracleSource:
    """How another process makes the black box anew: a library by its path, an executable by its command line, a
    netlist and a Python function by itself.

    UserError for a black box of the native core, which has no description; whoever made it knows one.
    """
    if isinstance(oracle, LibraryOracle):
        return partial(LibraryOracle, oracle.where)
    if isinstance(oracle, ProcessOracle):
        return partial(ProcessOracle, oracle.command, oracle.timeout_s)
    if isinstance(oracle, NetlistOracle):
        return partial(NetlistOracle, oracle.netlist, oracle.where)
    if isinstance(oracle, NativeOracle | _native.Oracle):
        raise UserError("the black box cannot be sent to other machines", oracle_name(oracle), "give its source")
    return partial(_itself, oracle)


def oracle_name(oracle: object) -> str:
    """What messages call a black box."""
    return str(getattr(oracle, "where", "oracle"))


def _itself(oracle: Oracle) -> Oracle:
    return oracle


class RayRunner:
    """Runs jobs on a Ray cluster: one process for each of its CPUs, which holds a black box of its own.

    The cluster is the one that ``RAY_ADDRESS`` names, or that runs on this machine; else one is started here and
    ends with `close`.
    """

    def __init__(self, source: OracleSource, where: str = "oracle") -> None:
        """UserError without ray, for a black box that cannot be sent, and where the machines run another version."""
        ray = _ray()
        self._ours = not ray.is_initialized()
        if self._ours:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        self._ray = ray
        self._actors: list[Any] = []
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
            remote: Any = ray.remote(num_cpus=1, max_restarts=4, max_task_retries=4)(_Worker)
            try:
                for _ in range(self.workers):
                    self._actors.append(remote.remote(source))
            except (TypeError, AttributeError, ValueError) as error:  # what pickle raises
                what = f"cannot be sent to other machines: {_first_line(error)}"
                raise UserError(what, where, "use no open files or connections in it, or leave --ray out") from None
            try:
                versions = ray.get([actor.version.remote() for actor in self._actors], timeout=_START_S)
            except ray.exceptions.RayError as error:
                what = f"{self.workers} workers did not start: {_first_line(error)}"
                raise UserError(what, "ray", "see whether the CPUs of the cluster are free") from error
            for version in versions:
                self._checked(version, where)
        except BaseException:
            self.close()
            raise
        for actor in self._actors:
            self._free.put(actor)

    def run(self, job: Job, *arguments: Any) -> Any:
        """As `Runner.run`; UserError for faults of the black box, whichever machine they show on."""
        actor = self._free.get()
        try:
            found = self._ray.get(actor.run.remote(job, arguments))
        except self._ray.exceptions.RayError as error:
            what = f"a job was lost: {_first_line(error)}"
            raise UserError(what, "ray", "see whether the cluster runs, then go on from the checkpoint") from error
        finally:
            self._free.put(actor)
        return _result(found)

    def close(self) -> None:
        """Ends the processes, and the cluster if it was started for this."""
        for actor in self._actors:  # else they would keep the CPUs from whoever comes next
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()

    def _checked(self, found: Any, where: str) -> None:
        if (version := _result(found)) != _native.version():
            what = f"a machine of the cluster runs Tapeout {version}, this one {_native.version()}"
            raise UserError(what, where, "install the same version on all of them")


class _Worker:
    """Runs in a process of the cluster. Faults of the black box are returned: Ray would wrap what is raised."""

    def __init__(self, source: OracleSource) -> None:
        self._source = source
        self._oracle: _native.Oracle | None = None

    def version(self) -> tuple[str, Any]:
        return self._told(lambda: (self._native(), _native.version())[1])

    def run(self, job: Job, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        return self._told(lambda: getattr(_native, job)(self._native(), *arguments))

    def _native(self) -> _native.Oracle:
        if self._oracle is None:
            made = self._source()
            self._oracle = made if isinstance(made, _native.Oracle) else to_native(made)
        return self._oracle

    def _told(self, work: Callable[[], Any]) -> tuple[str, Any]:
        try:
            return "done", work()
        except UserError as error:
            return "failed", (error.what, error.where, error.action)


def _result(found: tuple[str, Any]) -> Any:
    state, value = found
    if state == "failed":
        raise UserError(*value)
    return value


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("ray is not installed", "--ray", "pip install tapeout[ray]") from None
    return ray


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
