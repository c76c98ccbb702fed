"""The datasets and image sources of a report: counts, histograms, readers and lookups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.catalog.catalog import Catalog
from app.catalog.dataset import Dataset
from app.catalog.image_source import ImageSource
from app.catalog.questions import Questions
from app.check.decode import Decoded, make_sides
from app.check.lookups import measure_lookups
from app.check.report import DatasetReport, FileReport, Problem, SourceReport
from app.check.subjects import Subject, find_path, list_files, list_sources
from app.histogram import Histogram, make_histogram
from app.progress import Progress
from app.progress import Report as Tell

Histograms = tuple[Histogram, Histogram]


def describe_datasets(
    catalog: Catalog, questions: Questions, problems: Sequence[Problem], tell: Tell
) -> list[DatasetReport]:
    """Every dataset, in the order of the data YAML."""
    histograms: dict[Path, Histograms] = {}
    tell(Progress("counting images and characters"))
    for file, _ in list_files(catalog):
        histograms[file.folder] = (
            make_histogram(*questions.count_images_per_sample(file)),
            make_histogram(*questions.count_answer_chars(file)),
        )
    return [
        _describe_dataset(dataset, problems, *histograms[dataset.instructions.folder])
        for dataset in catalog.datasets.values()
    ]


def _describe_dataset(
    dataset: Dataset,
    problems: Sequence[Problem],
    images_per_sample: Histogram,
    answer_chars: Histogram,
) -> DatasetReport:
    counts: Counter[str] = Counter()
    for problem in problems:
        for share in problem.where:
            if dataset.name in share.datasets and share.path is not None:
                counts[problem.kind] += share.count
    return DatasetReport(
        name=dataset.name,
        group=dataset.group,
        path=dataset.instructions.facts.path,
        images_path=None if dataset.images is None else find_path(dataset.images),
        instructions=dataset.instructions.facts.instructions,
        usable=dataset.facts.usable,
        num_samples=dataset.num_samples,
        draws=dataset.draws,
        problems=dict(counts),
        images_per_sample=images_per_sample,
        answer_chars=answer_chars,
    )


def describe_sources(
    catalog: Catalog, questions: Questions, decoded: Mapping[Path, Decoded], tell: Tell
) -> list[SourceReport]:
    """Every image source once; `decoded` are the pictures of those that were."""
    tell(Progress("measuring lookups"))
    reports = []
    for source, subject, _ in list_sources(catalog):
        units = catalog.list_file_units(source)
        pictures = decoded.get(subject.folder)
        reports.append(_describe_source(questions, source, subject, units, pictures))
    return reports


def _describe_source(
    questions: Questions,
    source: ImageSource,
    subject: Subject,
    units: list[Path],
    pictures: Decoded | None,
) -> SourceReport:
    facts, lookups = source.facts, measure_lookups(source, units)
    files = [
        FileReport(
            path=file.path,
            size_bytes=file.size_bytes,
            rows=file.rows,
            reader=file.reader,
            reason=file.reason,
            is_compared=file.is_compared,
            lookup_us=lookups.get(number),
        )
        for number, file in enumerate(facts.files)
    ]
    return SourceReport(
        path=find_path(source),
        datasets=subject.datasets,
        images=facts.images,
        readable=facts.readable,
        stored_bytes=facts.stored_bytes,
        readers=dict(Counter(file.reader for file in facts.files)),
        files=files,
        image_bytes=make_histogram(*questions.count_image_bytes(source)),
        widths=make_sides(pictures.sizes.widths) if pictures else None,
        heights=make_sides(pictures.sizes.heights) if pictures else None,
    )
