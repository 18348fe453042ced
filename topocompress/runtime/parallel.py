"""Work spread over processes, threads or a cluster by joblib."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from topocompress.errors import DataError

Run = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]
"""``run(function, arguments)`` yields the results in order, as they come."""

_PATIENCE = "10s"
"""How long a Dask scheduler may take to answer."""


@contextlib.contextmanager
def workers(count: int, *, cluster: str | None = None, threads: bool = False) -> Iterator[Run]:
    """Processes (or threads, or a Dask cluster) that stand ready; none are left behind, whatever happens inside.

    Every task runs on one thread, so that results do not depend on how many there are.

    Args:
        count: How many; with 1 the tasks run in this process.
        cluster: Address of a Dask scheduler that takes the tasks instead.
        threads: Threads of this process instead of processes.

    Raises:
        DataError: The cluster cannot be reached, or its client is not installed.
    """
    with contextlib.ExitStack() as stack:
        if cluster is not None:
            yield stack.enter_context(_on_cluster(cluster))
        elif count == 1:
            yield _here
        elif threads:
            stack.enter_context(threadpool_limits(1, "blas"))  # the process has one: threads would undo each other's
            parallel = joblib.Parallel(n_jobs=count, backend="threading", batch_size=1, return_as="generator")
            yield _run(parallel, stack, _in_thread)
        else:
            stack.callback(_stop_processes)
            options = {"batch_size": 1, "max_nbytes": None, "return_as": "generator"}
            yield _run(joblib.Parallel(n_jobs=count, backend="loky", **options), stack)


def _here(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    for each in arguments:
        yield _single_threaded(function, *each)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*(argument.array if isinstance(argument, _Packed) else argument for argument in arguments))


def _single_threaded(function: Callable[..., Any], *arguments: Any) -> Any:
    with threadpool_limits(1):
        return _call(function, *arguments)


def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    with threadpool_limits(1, "openmp"):  # every thread has its own
        return _call(function, *arguments)


def _run(parallel: joblib.Parallel, stack: contextlib.ExitStack, call: Callable[..., Any] = _single_threaded) -> Run:
    def results(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Generator[Any, None, None]:
        found = parallel(joblib.delayed(call)(function, *each) for each in arguments)
        try:
            for result in found:  # noqa: UP028 - "yield from" would close found where its warning is heard
                yield result
        finally:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*tasks (which|have)")  # some are cancelled, as they should
                found.close()

    def run(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        return stack.enter_context(contextlib.closing(results(function, arguments)))  # whoever else still holds it

    return run


def _stop_processes() -> None:
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


class _Packed(NamedTuple):
    """An array that travels inside its task, so that the scheduler can give the task to another worker.

    joblib places bare arrays on one worker beforehand; they would be lost with it.
    """

    array: NDArray[Any]


@contextlib.contextmanager
def _on_cluster(address: str) -> Iterator[Run]:
    try:
        import distributed
    except ImportError as error:
        raise DataError("a cluster needs Dask", hint="pip install 'topocompress[dask]'") from error
    try:
        connect: Any = distributed.Client
        client = connect(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise DataError(
            f"no Dask scheduler answers at {address}: {error}", hint="Start one with: dask scheduler"
        ) from error
    with client, joblib.parallel_config(backend="dask", client=client), contextlib.ExitStack() as stack:
        run = _run(joblib.Parallel(n_jobs=-1, batch_size=1, return_as="generator"), stack)

        def packed(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sending large graph")  # that is what the tasks are made of
                try:
                    yield from run(function, (tuple(map(_pack, each)) for each in arguments))
                except ModuleNotFoundError as error:
                    raise DataError(
                        f"a worker of the cluster at {address} cannot import {error.name}",
                        hint="Install the same topocompress on every worker.",
                    ) from error

        yield packed


def _pack(argument: Any) -> Any:
    return _Packed(np.array(argument)) if isinstance(argument, np.ndarray) else argument
