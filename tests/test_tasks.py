"""Work item by item: what every runner keeps to, and what processes do when one is killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_server import environment

from app.errors import MimicitError, WorkerDiedError
from app.tasks.here import Here
from app.tasks.job import Advance, Runner
from app.tasks.processes import Processes, choose_runner

MIB = 1 << 20


class Squares:
    """Squares numbers, each worth ten bytes; it notes where it was opened and closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def open(self) -> Iterator[Callable[[int, Advance], tuple[int, int]]]:
        (self.folder / f"opened-{os.getpid()}").touch()
        yield self.square
        (self.folder / f"closed-{os.getpid()}").touch()

    def square(self, number: int, advance: Advance) -> tuple[int, int]:
        if number < 0:
            raise MimicitError("below zero")
        advance(4)
        advance(6)
        return os.getpid(), number * number


class Deaths:
    """Ends its own process."""

    @contextmanager
    def open(self) -> Iterator[Callable[[int, Advance], None]]:
        yield lambda _number, _advance: os._exit(9)


@pytest.fixture(params=["here", "processes"])
def runner(request: pytest.FixtureRequest) -> Runner:
    return Here() if request.param == "here" else Processes(2)


def test_every_item_is_done_once(runner: Runner, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = list(runner.run(Squares(tmp_path), range(20), lambda *done: seen.append(done)))
    assert sorted(square for _, square in found) == [number * number for number in range(20)]
    assert seen == sorted(seen)
    assert seen[-1] == (20, 200)
    pids = {pid for pid, _ in found}
    assert pids <= {int(path.name.removeprefix("opened-")) for path in tmp_path.glob("opened-*")}
    assert (os.getpid() in pids) == isinstance(runner, Here)


def test_nothing_to_do_is_done(runner: Runner, tmp_path: Path) -> None:
    assert list(runner.run(Squares(tmp_path), [], lambda *_: None)) == []


def test_what_a_job_raises_ends_it(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(MimicitError, match="below zero"):
        list(runner.run(Squares(tmp_path), [1, -1, 2], lambda *_: None))


def test_here_opens_once_and_closes(tmp_path: Path) -> None:
    list(Here().run(Squares(tmp_path), [1, 2], lambda *_: None))
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["closed", "opened"]


def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(WorkerDiedError, match="task_processes"):
        list(Processes(2).run(Deaths(), [1, 2, 3], lambda *_: None))


@pytest.mark.parametrize(
    ("processes", "sizes", "is_parallel"),
    [
        (2, [300 * MIB, 300 * MIB], True),
        (2, [900 * MIB, 200 * MIB], False),
        (1, [300 * MIB, 300 * MIB], False),
        (2, [900 * MIB], False),
        (2, [], False),
    ],
)
def test_processes_are_started_where_they_pay(
    processes: int, sizes: list[int], is_parallel: bool
) -> None:
    assert isinstance(choose_runner(processes, sizes), Processes) == is_parallel


def test_processes_do_not_outlive_one_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from app.tasks.processes import Processes\n"
        "from test_tasks import Squares\n"
        "if __name__ == '__main__':\n"
        "    found = Processes(1).run(Squares(Path(sys.argv[1])), [1, 2], lambda *_: None)\n"
        "    print(next(found)[0], flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=str(Path(__file__).parent)),
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists() or _is_zombie(worker)


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
