"""Addresses of pages and of what they show."""

from urllib.parse import quote, urlencode

# What a card shows of a picture: 320 points across at the most, and a little for dense screens.
_THUMB_SIDE = 400
# Browsers take these for steps in a path, also where they are percent-encoded.
_STEPS = frozenset({".", ".."})


def dataset_page(dataset: str, **query: object) -> str:
    """The gallery of a dataset."""
    return _with_query(f"/datasets/{_quote(dataset)}", query)


def instruction_page(dataset: str, id: str) -> str:
    """The page of an instruction."""
    return _one(f"/datasets/{_quote(dataset)}/instructions/", "id", id)


def image_page(dataset: str, key: str) -> str:
    """The page of an image."""
    return _one(f"/datasets/{_quote(dataset)}/images/", "key", key)


def batch_page(**query: object) -> str:
    """What a rank sees at a step."""
    return _with_query("/batches", query)


def problems_page(**query: object) -> str:
    """The problems of a kind, or all kinds."""
    return _with_query("/problems", query)


def instruction_data(dataset: str, id: str) -> str:
    """The instruction as the API gives it."""
    return f"/v1/datasets/{_quote(dataset)}/instructions/{_quote(id)}"


def image_data(dataset: str, key: str) -> str | None:
    """The image as the API gives it; None for a key that no browser can ask for."""
    if is_step(key):
        return None
    return f"/v1/datasets/{_quote(dataset)}/images/{_quote(key)}"


def thumb(dataset: str, key: str) -> str | None:
    """The image made small."""
    address = image_data(dataset, key)
    return address and f"{address}?width={_THUMB_SIDE}&height={_THUMB_SIDE}"


def is_step(name: str) -> bool:
    """Whether a browser would take the name for a step in a path."""
    return name in _STEPS


def _one(start: str, name: str, key: str) -> str:
    return start + (f"?{name}={key}" if is_step(key) else _quote(key))


def _quote(text: str) -> str:
    return quote(text, safe="")


def _with_query(path: str, query: dict[str, object]) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(given)}" if given else path
