"""Numbers as people read them."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def format_count(number: int) -> str:
    """12,345."""
    return f"{number:,}"


def format_bytes(size_bytes: float) -> str:
    """As 75.3 kB, in thousands."""
    unit = 0
    while size_bytes >= 999.5 and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes / 1000, unit + 1
    digits = 0 if unit == 0 or size_bytes >= 99.95 else 1
    return f"{size_bytes:,.{digits}f} {_UNITS[unit]}"


def format_share(share: float) -> str:
    """As 12.3 %."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def format_many(number: int, noun: str) -> str:
    """As 1 picture, 2 pictures."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shorten(text: str, chars: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"
