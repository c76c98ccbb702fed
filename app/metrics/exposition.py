"""Metrics as Prometheus reads them, in whichever of its text formats is asked for."""

import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.metrics.meter import BOUNDS_SECONDS, Stock, Timing, Way

OUTCOMES = ("none", "running", "swapped", "unchanged", "failed")

_BOUNDS = (*map(str, BOUNDS_SECONDS), "+Inf")


@dataclass(frozen=True, slots=True)
class ReloadState:
    """The last reload: its number, what came of it, and when that became so, in Unix time."""

    number: int
    outcome: str
    since: float


@dataclass(frozen=True, slots=True)
class CatalogState:
    """What there is to say of the catalog that is open; problems by dataset and kind."""

    version: str
    revision: str
    built_seconds: int
    problems: Mapping[str, Mapping[str, int]]


def render(
    stock: Stock, catalog: CatalogState, reload: ReloadState, accept: str
) -> tuple[bytes, str]:
    """The metrics, and their content type out of those that an Accept header takes."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given([*_requests(stock), *_reads(stock), *_catalog(catalog)]))
    registry.register(_Given(_stores(stock)))
    registry.register(_Given(_reload(reload)))
    registry.register(_Given(_processes(stock.pids)))
    return encode(registry), content_type


class _Given(Collector):
    """Metrics that are known already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics


def _requests(stock: Stock) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "mimicit_request_seconds",
        "Requests by route and class of status, and what they took to the last byte.",
        labels=["route", "status"],
    )
    for timing in stock.timings:
        seconds.add_metric([timing.route, timing.status], _buckets(timing), timing.seconds)
    yield seconds
    sent = CounterMetricFamily(
        "mimicit_sent_bytes", "Bytes of answers, without their headers.", labels=["route"]
    )
    for route, sent_bytes in stock.sent_bytes.items():
        if sent_bytes:
            sent.add_metric([route], sent_bytes)
    yield sent
    yield GaugeMetricFamily(
        "mimicit_requests_in_flight", "Requests that are being answered.", stock.in_flight
    )
    refused = CounterMetricFamily(
        "mimicit_refused", "Requests refused for now, by the code of the problem.", labels=["code"]
    )
    for code, count in stock.refused.items():
        refused.add_metric([code], count)
    yield refused
    yield CounterMetricFamily(
        "mimicit_substituted_samples",
        "Samples of batches that took the place of one that can not be read.",
        stock.substituted,
    )


def _buckets(timing: Timing) -> list[tuple[str, float]]:
    return list(zip(_BOUNDS, accumulate(timing.counts), strict=True))


def _reads(stock: Stock) -> Iterator[Metric]:
    reads = CounterMetricFamily(
        "mimicit_image_reads",
        "Stored images read, by the way: in place, out of a whole decoded page, or by DuckDB.",
        labels=["way"],
    )
    hits, misses = stock.reads[Way.CACHED_PAGE], stock.reads[Way.DECODED_PAGE]
    reads.add_metric(["in_place"], stock.reads[Way.IN_PLACE])
    reads.add_metric(["whole_page"], hits + misses)
    reads.add_metric(["duckdb"], stock.reads[Way.DUCKDB])
    yield reads
    pages = CounterMetricFamily(
        "mimicit_page_cache_lookups",
        "Lookups of decoded pages, by whether the page was there.",
        labels=["result"],
    )
    pages.add_metric(["hit"], hits)
    pages.add_metric(["miss"], misses)
    yield pages


def _stores(stock: Stock) -> Iterator[Metric]:
    ranges = CounterMetricFamily(
        "mimicit_range_cache_lookups",
        "Lookups of ranges of objects on this machine's disk, by whether the range was there.",
        labels=["result"],
    )
    ranges.add_metric(["hit"], stock.range_hits)
    ranges.add_metric(["miss"], stock.range_misses)
    yield ranges
    asked = CounterMetricFamily(
        "mimicit_store_requests",
        "Requests to object stores, each attempt for itself, by whether there was an answer.",
        labels=["result"],
    )
    asked.add_metric(["answered"], stock.store_answers)
    asked.add_metric(["failed"], stock.store_failures)
    yield asked
    yield CounterMetricFamily(
        "mimicit_store_received_bytes", "Bytes of objects that stores sent.", stock.store_bytes
    )


def _catalog(catalog: CatalogState) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "mimicit_catalog",
        "The catalog that is served, and the version that serves it.",
        {"revision": catalog.revision, "version": catalog.version},
    )
    yield GaugeMetricFamily(
        "mimicit_catalog_built_timestamp_seconds",
        "When the catalog was built, in Unix time.",
        catalog.built_seconds,
    )
    problems = GaugeMetricFamily(
        "mimicit_problems",
        "Problems of the data, as the catalog counts them; datasets that share a source share its.",
        labels=["dataset", "kind"],
    )
    for dataset, counts in catalog.problems.items():
        for kind, count in counts.items():
            problems.add_metric([dataset, kind], count)
    yield problems


def _reload(reload: ReloadState) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "mimicit_reloads", "Times that the data were to be looked at again.", reload.number
    )
    outcome = GaugeMetricFamily(
        "mimicit_reload_outcome",
        "1 for what came of the last of them: none, running, swapped, unchanged or failed.",
        labels=["outcome"],
    )
    for one in OUTCOMES:
        outcome.add_metric([one], one == reload.outcome)
    yield outcome
    yield GaugeMetricFamily(
        "mimicit_reload_timestamp_seconds",
        "When that became so, in Unix time; 0 if there was none.",
        reload.since,
    )


def _processes(pids: list[int]) -> Iterator[Metric]:
    yield GaugeMetricFamily("mimicit_workers", "Worker processes that are alive.", len(pids))
    memory = GaugeMetricFamily(
        "mimicit_worker_resident_memory_bytes",
        "Memory of a worker, with its share of the page cache that it maps (Linux).",
        labels=["worker"],
    )
    files = GaugeMetricFamily(
        "mimicit_worker_open_fds", "Descriptors that a worker has open (Linux).", labels=["worker"]
    )
    for worker, pid in enumerate(pids):
        process = Path("/proc") / str(pid)
        try:
            pages = int((process / "statm").read_text().split()[1])
            memory.add_metric([str(worker)], pages * resource.getpagesize())
            files.add_metric([str(worker)], len(os.listdir(process / "fd")))
        except OSError:  # no Linux, or it has just ended
            continue
    yield memory
    yield files
