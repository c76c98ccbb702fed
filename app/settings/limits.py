"""The settings that bound the reading of objects."""

from app.settings.settings import Settings
from app.storage import ObjectLimits


def object_limits(settings: Settings) -> ObjectLimits:
    """The settings that bound the reading of objects."""
    return ObjectLimits(
        timeout_seconds=settings.object_timeout_seconds,
        retries=settings.object_retries,
        read_bytes=settings.object_read_bytes,
        read_ahead=settings.object_read_ahead,
        compare_bytes=settings.object_compare_bytes,
        check_seconds=settings.object_check_seconds,
        cache_folder=settings.catalog_dir.expanduser() / "ranges",
        cache_bytes=settings.range_cache_bytes,
    )
