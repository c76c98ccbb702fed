"""The check: an open catalog is asked everything, and what it says becomes a report."""

from dataclasses import dataclass

from app.catalog.catalog import Catalog
from app.catalog.questions import Questions
from app.check.decode import DecodePictures, decode_pictures
from app.check.describe import describe_datasets, describe_sources
from app.check.findings import find_problems, join_findings
from app.check.report import FORMAT_VERSION, Report
from app.check.suggest import KeyRulesOf, suggest_rules
from app.progress import Report as Tell
from app.tasks.job import ChooseRunner


@dataclass(frozen=True, slots=True)
class Options:
    """What to do beside the questions: decode every picture, propose key rules."""

    examples: int  # of each kind, at most
    decode: DecodePictures | None = None
    suggest: KeyRulesOf | None = None  # the key rules that each dataset has


def check_catalog(
    catalog: Catalog,
    data_yaml: str,
    questions: Questions,
    options: Options,
    choose: ChooseRunner,
    tell: Tell,
) -> Report:
    """Check the catalog of that data YAML; `tell` hears how far it is.

    Raises SourceChangedError if a source is no longer what was indexed.
    """
    findings = list(find_problems(catalog, questions, options.examples, tell))
    decoded = {}
    if options.decode is not None:
        decoded = decode_pictures(catalog, options.decode, choose, tell)
        for pictures in decoded.values():
            findings += pictures.list_findings(options.examples)
    problems = join_findings(findings, options.examples)
    suggestions = None
    if options.suggest is not None:
        suggestions = suggest_rules(catalog, questions, options.suggest, tell)
    return Report(
        format=FORMAT_VERSION,
        data_yaml=data_yaml,
        revision=catalog.revision,
        datasets=describe_datasets(catalog, questions, problems, tell),
        sources=describe_sources(catalog, questions, decoded, tell),
        problems=problems,
        decoded=sum(one.pictures for one in decoded.values()) if options.decode else None,
        suggestions=suggestions,
    )
