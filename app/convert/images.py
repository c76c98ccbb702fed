"""Images of any kind, written as MIMIC-IT Parquet: found, planned, written, and put in place."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import msgspec

from app.catalog.duck import Database
from app.catalog.units import fingerprint
from app.convert.explain import explained
from app.convert.listing import ListFacts
from app.convert.options import ImageOptions
from app.convert.plan import Plan, load_plan, make_plan
from app.convert.scan import ScanItem, ScanSource, name_unit
from app.convert.scratch import scratch_folder
from app.convert.sources import Kind, Source, list_sources
from app.convert.verify import VerifyPartition
from app.convert.work import PlanFolder, WorkFolder
from app.convert.write import Units, WritePartition, load_part
from app.errors import ConvertError
from app.progress import Progress, Report
from app.tasks.job import ChooseRunner, Item, Job, Result

_FORMAT = 1  # raise it when the same sources and options give other files


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written, and what was not."""

    path: Path
    images: int
    size_bytes: int
    partitions: int
    rejected: dict[str, int]  # by reason
    rejected_path: Path | None  # that names them all
    passed_over: dict[str, int]  # files that are no pictures, by suffix
    is_verified: bool  # every image compared with its source
    kept_partitions: int  # that an earlier run had written
    thrown_away: int  # partitions that one had, of other sources or with other options


def convert_images(
    inputs: Sequence[str],
    destination: Path,
    options: ImageOptions,
    choose: ChooseRunner,
    report: Report,
) -> Converted:
    """Write the images of the inputs to `destination`: a file if its name ends in .parquet and one
    partition holds them, else a folder of part.N.parquet.

    Raises MimicitError if it can not be done; what is finished by then is used by the next run.
    """
    destination = Path(os.path.abspath(destination))
    sources = list_sources(inputs, options.kind)
    for source in sources:
        if source.kind == Kind.FOLDER and destination.is_relative_to(source.path):
            raise ConvertError(f"{destination} lies in {source.path}, which is to be converted")
    work = WorkFolder(destination)
    with explained(work), work.lock():
        units = _find(work, sources, options, choose, report)
        name = _name_plan(units, options)
        thrown_away = work.remove_other_plans(name)
        folder = work.plan(name)
        plan = _plan(folder, name, units, options, report)
        missing = [one for one in plan.partitions if not folder.part(one.number).exists()]
        writing = WritePartition(folder, units, options.limits)
        sizes_bytes = [partition.stored_bytes for partition in missing]
        _run(writing, missing, sizes_bytes, "partitions are written", choose, report)
        if options.is_verified:
            verifying = VerifyPartition(folder, units, options.limits)
            sizes_bytes = [partition.stored_bytes for partition in plan.partitions]
            _run(verifying, plan.partitions, sizes_bytes, "partitions are compared", choose, report)
        kept = len(plan.partitions) - len(missing)
        return _publish(work, folder, plan, units, options, kept, thrown_away)


def _find(
    work: WorkFolder,
    sources: list[Source],
    options: ImageOptions,
    choose: ChooseRunner,
    report: Report,
) -> Units:
    """The sources and their units, written unless an earlier run did."""
    run = token_hex(8)
    items = [ScanItem(name_unit(source, options, run), source) for source in sources]
    work.units.remove_all_but({item.name for item in items})
    missing = {item.name: item for item in items if not work.units.has(item.name)}
    largest_first = sorted(missing.values(), key=lambda item: -item.source.size_bytes)
    sizes_bytes = [item.source.size_bytes for item in largest_first]
    scanning = ScanSource(work.units, work.scratch, options)
    _run(scanning, largest_first, sizes_bytes, "sources are looked through", choose, report)
    return [(item.source, work.units.path(item.name)) for item in items]


def _run(
    job: Job[Item, Result],
    items: Sequence[Item],
    sizes_bytes: Sequence[int],
    doing: str,
    choose: ChooseRunner,
    report: Report,
) -> None:
    total_bytes = sum(sizes_bytes)

    def watch(done: int, done_bytes: int) -> None:
        of = f"{done} of {len(items)} {doing}"
        report(Progress(of, min(done_bytes, total_bytes), total_bytes))

    for _ in choose(sizes_bytes).run(job, items, watch) if items else ():
        pass


def _name_plan(units: Units, options: ImageOptions) -> str:
    """A fingerprint of all that decides what is written."""
    made_from = [
        (source.path, source.kind, unit.name if source.kind.is_one_file else _facts(unit).digest)
        for source, unit in units
    ]
    bounds = (options.limits.max_value_bytes, options.max_partition_bytes)
    return fingerprint(_FORMAT, made_from, options.is_sorted, bounds)


def _facts(unit: Path) -> ListFacts:
    return msgspec.json.decode((unit / "unit.json").read_bytes(), type=ListFacts)


def _plan(
    folder: PlanFolder, name: str, units: Units, options: ImageOptions, report: Report
) -> Plan:
    with suppress(FileNotFoundError):
        return load_plan(folder.path)
    report(Progress("putting what was found in order"))
    folder.create()
    limits = options.limits
    with (
        scratch_folder(folder.scratch) as scratch,
        Database(limits.duckdb_memory_bytes, 1, scratch) as database,
    ):
        return make_plan(name, units, options, database, folder.path)


def _publish(
    work: WorkFolder,
    folder: PlanFolder,
    plan: Plan,
    units: Units,
    options: ImageOptions,
    kept: int,
    thrown_away: int,
) -> Converted:
    """Put what was written, and what is said of it, in place."""
    numbers = [partition.number for partition in plan.partitions]
    parts = [load_part(folder, number) for number in numbers]
    listed = [(unit, _facts(unit)) for source, unit in units if not source.kind.is_indexed]
    rejected: Counter[str] = Counter(plan.rejected)
    passed_over: Counter[str] = Counter()
    for part in parts:
        rejected.update(part.rejected)
    for _, facts in listed:
        rejected.update(facts.rejected)
        passed_over.update(facts.passed_over)
    lists = [unit / "rejected.jsonl" for unit, _ in listed]
    lists += [folder.plan_rejected, *map(folder.rejected_of, numbers)]
    images = sum(part.images for part in parts)
    rejected_path = work.put_rejected(lists)
    if not images:
        work.remove()
        see = f"; {rejected_path} says why" if rejected_path else ""
        raise ConvertError(f"no image was found that can be converted{see}")
    is_file = len(parts) == 1 and work.destination.suffix == ".parquet"
    work.publish(folder.part(0) if is_file else folder.output)
    return Converted(
        path=work.destination,
        images=images,
        size_bytes=sum(part.size_bytes for part in parts),
        partitions=len(parts),
        rejected=dict(rejected),
        rejected_path=rejected_path,
        passed_over=dict(sorted(passed_over.items())),
        is_verified=options.is_verified,
        kept_partitions=kept,
        thrown_away=thrown_away,
    )
