"""Conversions that are killed, run out of disk or lose their sources: nothing half is ever there,
and the next run goes on."""

import base64
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from convert_files import (
    LIMITS,
    ROOT,
    convert,
    draw_images,
    list_parts,
    read_rows,
    run,
    write_folder,
    write_json,
    write_tar,
)
from packs import draw_jpeg

from app.convert.images import convert_images
from app.convert.options import ImageOptions
from app.convert.plan import make_plan
from app.convert.work import WorkFolder
from app.convert.write import _write
from app.errors import CatalogError, ConvertError
from app.tasks.processes import Processes

PARTITION_BYTES = 4_000_000


def write_source(path: Path, count: int, size: int = 100_000) -> Path:
    random = Random(count)
    images = {f"IMG_{n:04}": draw_jpeg(n) + random.randbytes(size) for n in range(count)}
    return write_json(path, images)


def list_bytes(path: Path) -> dict[str, bytes]:
    return {part.name: part.read_bytes() for part in list_parts(path)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 MB of pictures."""
    return write_source(tmp_path_factory.mktemp("source") / "images.json", 600)


@pytest.fixture(scope="module")
def undisturbed(source: Path) -> dict[str, bytes]:
    """What is written of it, by file."""
    out = source.with_name("out")
    convert(source, out, max_partition_bytes=PARTITION_BYTES)
    return list_bytes(out)


def wait_for(process: "subprocess.Popen[str]", work: Path, parts: int) -> None:
    """Until so many partitions are there, or with 0 until there is a plan; or it has ended."""
    pattern = "plan-*/output/*.parquet" if parts else "plan-*/plan.json"
    end = time.monotonic() + 60
    while process.poll() is None and len(list(work.glob(pattern))) < max(parts, 1):
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["scanning", 0, 1, 7, 15])
def test_a_killed_run_is_gone_on_with(
    when: int | str, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    work = tmp_path / "out.converting"
    words = ["convert", "images", source, out, f"--max-partition-bytes={PARTITION_BYTES}"]
    command = [sys.executable, "-m", "app", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True) as process:
        if when == "scanning":
            while not list(work.glob("units/.tmp-*")):
                time.sleep(0.002)
        else:
            wait_for(process, work, int(when))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not out.exists()
    parts = list(work.glob("plan-*/output/*.parquet"))
    assert len(parts) < len(undisturbed)
    before = {part.name: (part.stat().st_ino, part.stat().st_mtime_ns) for part in parts}
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert ("written by an earlier run" in done.stderr) == bool(before)
    after = {part.name: (part.stat().st_ino, part.stat().st_mtime_ns) for part in list_parts(out)}
    assert before.items() <= after.items()
    assert list_bytes(out) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_processes_write_the_same_bytes(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    options = ImageOptions(LIMITS, max_partition_bytes=PARTITION_BYTES)
    seen: list[str] = []
    convert_images(
        [str(source)],
        tmp_path / "out",
        options,
        lambda _: Processes(2),
        lambda progress: seen.append(progress.doing),
    )
    assert list_bytes(tmp_path / "out") == undisturbed
    assert f"{len(undisturbed)} of {len(undisturbed)} partitions are written" in seen


def test_writing_a_partition_again_does_no_harm(tmp_path: Path) -> None:
    source = write_json(tmp_path / "a.json", draw_images(20))
    out = tmp_path / "o.parquet"
    seen = []

    def write_twice(*arguments: object) -> None:
        for _ in range(2):
            _write(*arguments)  # type: ignore[arg-type]
            seen.append(list_bytes(next((tmp_path / "o.parquet.converting").glob("plan-*/output"))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.convert.write._write", write_twice)
        convert(source, out)
    assert seen[0] == seen[1] == {"part.0.parquet": out.read_bytes()}


def test_other_options_throw_away_what_was_written(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.json", 60)
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkFolder, "put_rejected", fail)
        with pytest.raises(ConvertError, match="Nothing is there"):
            convert(source, out, max_partition_bytes=PARTITION_BYTES)
    kept = convert(source, tmp_path / "out", max_partition_bytes=PARTITION_BYTES, is_sorted=True)
    assert (kept.kept_partitions, kept.thrown_away) == (0, kept.partitions)
    assert kept.partitions > 1


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    source = write_json(tmp_path / "a.json", draw_images(2))
    with (
        WorkFolder(tmp_path / "o.parquet").lock(),
        pytest.raises(CatalogError, match=f"is being built by process {os.getpid()}.*; wait for"),
    ):
        convert(source, tmp_path / "o.parquet")
    convert(source, tmp_path / "o.parquet")


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half(small_disk: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.json", 90)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(16_000_000))
    words = ["convert", "images", source, small_disk / "out", "--max-partition-bytes=3000000"]
    done = run(*words)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "run the same command again" in done.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "out.converting"]
    kept = len(list(small_disk.glob("out.converting/plan-*/output/*.parquet")))
    assert kept > 0
    filler.unlink()
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert f"{kept} of them written by an earlier run" in done.stderr
    images = json.loads(source.read_text())
    assert dict(read_rows(small_disk / "out")) == {
        key: base64.b64decode(value) for key, value in images.items()
    }


@pytest.mark.slow
def test_a_file_that_can_not_grow_leaves_nothing_half(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.json", 60)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    done = run("convert", "images", source, tmp_path / "o.parquet", preexec_fn=limit)
    assert done.returncode == 1
    assert "can not be written: " in done.stderr
    assert not (tmp_path / "o.parquet").exists()
    assert convert(source, tmp_path / "o.parquet").images == 60


@pytest.mark.parametrize("kind", ["json", "folder", "tar"])
def test_a_source_that_changes_between_the_passes_is_refused(kind: str, tmp_path: Path) -> None:
    images = draw_images(10)
    if kind == "json":
        path = changed = write_json(tmp_path / "a.json", images)
    elif kind == "tar":
        members = {f"{key}.jpg": data for key, data in images.items()}
        path = changed = write_tar(tmp_path / "a.tar", members)
    else:
        path = write_folder(tmp_path / "a", images)
        changed = path / f"{next(iter(images))}.jpg"
    out = tmp_path / "o.parquet"

    def plan_and_change(*arguments: object) -> object:
        plan = make_plan(*arguments)  # type: ignore[arg-type]
        data = changed.read_bytes()
        changed.write_bytes(data[:-1] + b" ")
        return plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.convert.images.make_plan", plan_and_change)
        with pytest.raises(ConvertError, match="changed while it was converted"):
            convert(path, out)
    assert not out.exists()
    if kind != "json":
        assert convert(path, out).images == 10


def test_a_folder_that_has_another_file_is_planned_again(tmp_path: Path) -> None:
    images = draw_images(3)
    folder = write_folder(tmp_path / "a", images)
    out = tmp_path / "o.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkFolder, "put_rejected", fail)
        with pytest.raises(ConvertError):
            convert(folder, out)
    write_folder(folder, {"new": draw_jpeg(7)})
    found = convert(folder, out)
    assert (found.images, found.thrown_away) == (4, 1)


def test_the_command_says_what_was_done_and_what_not(tmp_path: Path) -> None:
    source = write_json(tmp_path / "a.json", {"a": draw_jpeg(1), "b": None, "c": None})
    out = tmp_path / "new" / "o.parquet"
    done = run("convert", "images", source, out)
    assert done.returncode == 3, done.stderr
    assert f"{out}: 1 images, {out.stat().st_size:,} bytes, 1 file\n" in done.stderr
    assert f"rejected: null_image 2; {out}.rejected.jsonl names them all" in done.stderr
    assert run("convert", "images", source, out).returncode == 1
    assert run("convert", "images", source).returncode == 2
    assert run("convert", "images", source, out, "--max-partition-bytes=9").returncode == 2


@pytest.mark.slow
def test_a_large_input_takes_little_memory(tmp_path: Path) -> None:
    random = Random(1)
    with (tmp_path / "a.json").open("w") as file:
        for number in range(6000):
            value = base64.b64encode(random.randbytes(75_000)).decode()
            file.write(f'{"," if number else "{"}"IMG_{number:06}": "{value}"')
        file.write("}")
    code = (
        "import sys; from app.cli.main import app\n"
        "try: app(sys.argv[1:])\n"
        "finally:\n"
        "    status = open('/proc/self/status').read()\n"
        "    print(status.split('VmHWM:')[1].split()[0])\n"
    )
    words = ["convert", "images", str(tmp_path / "a.json"), str(tmp_path / "o.parquet"), "--sort"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 300_000
    assert pq.read_metadata(tmp_path / "o.parquet").num_rows == 6000


def test_too_many_keys_for_the_memory_say_which_setting(tmp_path: Path) -> None:
    keys = [f"{number:0200}" for number in range(60_000)]
    source = write_json(tmp_path / "a.json", dict.fromkeys(keys, "AAAA"))
    with pytest.raises(ConvertError, match="raise the setting convert_memory_bytes"):
        convert(source, tmp_path / "o.parquet", replace(LIMITS, duckdb_memory_bytes=3 << 20))
    assert convert(source, tmp_path / "o.parquet").images == 60_000


def test_a_tar_of_other_pictures_is_written_again(tmp_path: Path) -> None:
    first, second = draw_jpeg(1), draw_jpeg(1)[:-1] + b" "
    tar, out = write_tar(tmp_path / "a.tar", {"a.jpg": first}), tmp_path / "o.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkFolder, "put_rejected", fail)
        with pytest.raises(ConvertError):
            convert(tar, out)
    write_tar(tar, {"a.jpg": second})  # of the same names and sizes
    found = convert(tar, out)
    assert (found.kept_partitions, found.thrown_away) == (0, 1)
    assert read_rows(out) == [("a", second)]


def test_what_is_put_at_the_destination_meanwhile_stays(tmp_path: Path) -> None:
    source, out = write_json(tmp_path / "a.json", draw_images(2)), tmp_path / "o.parquet"
    put_rejected = WorkFolder.put_rejected

    def put_and_take_the_name(*arguments: object) -> Path | None:
        out.write_text("mine")
        return put_rejected(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkFolder, "put_rejected", put_and_take_the_name)
        with pytest.raises(ConvertError, match="is there already"):
            convert(source, out)
    assert out.read_text() == "mine"
    out.unlink()
    assert convert(source, out).kept_partitions == 1


@pytest.mark.parametrize("name", ["/", "a.json/o.parquet", "x" * 250], ids=["root", "file", "long"])
def test_a_destination_that_can_not_be_is_said(name: str, tmp_path: Path) -> None:
    source = write_json(tmp_path / "a.json", draw_images(1))
    with pytest.raises(ConvertError, match=r"already|File exists|File name too long"):
        convert(source, tmp_path / name)


def test_a_plan_is_on_disk_before_it_is_said_to_be(tmp_path: Path) -> None:
    synced: list[str] = []

    def note(path: Path) -> None:
        synced.append(path.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.convert.plan.sync", note)
        patch.setattr("app.convert.plan.replace_file", lambda path, _: note(path))
        patch.setattr("app.convert.images.load_part", fail)
        with pytest.raises(ConvertError):
            convert(write_json(tmp_path / "a.json", draw_images(1)), tmp_path / "o.parquet")
    assert synced == ["plan.rejected", "plan.arrow", "plan.json"]
