"""What is known of an image: what its bytes show, and where they are."""

from dataclasses import dataclass

from app.catalog.image_file import FileFacts
from app.catalog.image_source import ImageSource
from app.errors import ImageUnreadableError, MimicitError
from app.images.picture import read_size
from app.images.sniff import content_type
from app.images.stored import Form
from app.parquet.pages import Layout, Page
from app.parquet.place import Place
from app.parquet.row_groups import find_row_group
from app.service import Service

_HOW = {
    Layout.AS_IS: "lies in the file as it is",
    Layout.SNAPPY: "Snappy, entered at the 64 KiB that hold it",
    Layout.WHOLE: "the page is decoded whole",
    Layout.DUCKDB: "DuckDB reads the row",
}
_FORMS = {
    Form.RAW: "bytes",
    Form.BASE64: "base64",
    Form.BASE64_LOOSE: "base64, not of the strict form",
    Form.JSON_STRING: "base64 in a JSON string",
    Form.NULL: "null",
    Form.EMPTY: "empty",
    Form.UNDECODABLE: "not base64",
    Form.TOO_LARGE: "larger than max_value_bytes",
}


@dataclass(frozen=True, slots=True)
class Where:
    """Where the bytes of a value are."""

    file: FileFacts
    row_group: int | None
    page: Page
    page_number: int
    how: str
    is_fast: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image is; `problem` says why it can not be shown, and `size_bytes` is decoded.

    `place` is where the catalog says its stored value is, and `where` is None for a null.
    """

    place: Place
    form: str
    content_type: str | None
    size_bytes: int | None
    size: tuple[int, int] | None
    problem: str | None
    where: Where | None


async def load_facts(service: Service, source: ImageSource, place: Place) -> Facts:
    """What is known of the image at the place."""
    kind, size_bytes, size, problem = None, None, None, None
    try:
        data = await service.read_image(source, place)
        kind, size_bytes = content_type(data), len(data)
        max_pixels = service.settings.max_image_pixels
        size = await service.read(lambda: read_size(data, max_pixels=max_pixels))
    except MimicitError as error:
        problem = str(error)
        if not isinstance(error, ImageUnreadableError):
            problem = f"{error} ({error.code})"
    is_somewhere = place.form != Form.NULL
    return Facts(
        place=place,
        form=_FORMS[Form(place.form)],
        content_type=kind,
        size_bytes=size_bytes,
        size=size,
        problem=problem,
        where=await service.read(lambda: _find(source, place)) if is_somewhere else None,
    )


def _find(source: ImageSource, place: Place) -> Where:
    page, _ = source.reader.get_page(place.page)
    file = source.facts.files[page.file]
    row_group = None
    if not file.path.endswith(".json"):
        try:
            opened = source.reader.open(place)
            row_group = find_row_group(opened, file.value_parts, page, place)
        except MimicitError:
            row_group = None  # the file can not be read, which the problem says
    is_fast = page.layout in (Layout.AS_IS, Layout.SNAPPY)
    return Where(file, row_group, page, place.page, _HOW[page.layout], is_fast)
