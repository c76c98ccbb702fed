"""Histograms of a dataset: its answers, pictures per sample, and its pictures' bytes and pixels."""

import time
from typing import NamedTuple

import numpy as np
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from app.catalog.dataset import Dataset
from app.catalog.image_source import ImageSource
from app.catalog.questions import Questions
from app.charts import draw_histogram
from app.errors import MimicitError
from app.explorer.known import KnownThings
from app.explorer.pages import render
from app.histogram import Histogram, make_histogram
from app.images.picture import read_size
from app.images.stored import decode
from app.routes.revision import CatalogService

# Pictures whose pixels are looked at: 10 ms if they are in memory, 2 s of a disk that seeks.
_SAMPLED = 200
_MAX_SECONDS = 2.0  # a file that only DuckDB reads takes up to 2.5 s for each


class Chart(NamedTuple):
    """A histogram as it is shown; `note` says what it is of, where that is not everything."""

    title: str
    svg: Markup
    histogram: Histogram
    unit: str
    note: str | None = None


def create_router() -> APIRouter:
    """The route of a dataset's statistics."""
    router = APIRouter()

    @router.get("/datasets/{dataset}/statistics")
    async def get_statistics(
        service: CatalogService, known: KnownThings, dataset: str
    ) -> HTMLResponse:
        found = service.catalog.get_dataset(dataset)
        max_pixels = service.settings.max_image_pixels
        charts = await known.get(
            ("statistics", dataset), lambda: _draw_charts(known.questions, found, max_pixels)
        )
        return render("statistics.html", dataset=found, charts=charts)

    return router


def _draw_charts(questions: Questions, dataset: Dataset, max_pixels: int) -> list[Chart]:
    answers = make_histogram(*questions.count_answer_chars(dataset.instructions))
    charts = [_draw("Answer length", answers, "characters")]
    if dataset.images is None:
        return charts
    pictures = make_histogram(*questions.count_images_per_sample(dataset.instructions))
    stored = make_histogram(*questions.count_image_bytes(dataset.images))
    charts.append(_draw("Pictures per sample", pictures, "pictures"))
    charts.append(_draw("Stored size of a picture", stored, "bytes"))
    widths, heights = _sample_sizes(dataset.images, max_pixels)
    total = dataset.images.facts.readable
    note = f"of {len(widths):,} of {total:,} readable pictures, spread evenly over their keys"
    for title, sides in (("Picture width", widths), ("Picture height", heights)):
        charts.append(_draw(title, _count(sides), "pixels", note))
    return charts


def _draw(title: str, histogram: Histogram, unit: str, note: str | None = None) -> Chart:
    svg = draw_histogram(title, histogram.edges, histogram.counts, unit)
    return Chart(title, Markup(svg), histogram, unit, note)


def _count(values: list[int]) -> Histogram:
    numbers, counts = np.unique(np.array(values, np.int64), return_counts=True)
    return make_histogram(numbers, counts)


def _sample_sizes(source: ImageSource, max_pixels: int) -> tuple[list[int], list[int]]:
    """Widths and heights of some pictures; what can not be read is left out."""
    widths: list[int] = []
    heights: list[int] = []
    until = time.monotonic() + _MAX_SECONDS
    for key in source.sample_keys(_SAMPLED):
        place = source.get_place(key)
        if not place.is_readable or time.monotonic() > until:
            continue
        try:
            data = decode(source.read(place, wait=True), place.form)
            width, height = read_size(data, max_pixels=max_pixels)
        except MimicitError:
            continue
        widths.append(width)
        heights.append(height)
    return widths, heights
