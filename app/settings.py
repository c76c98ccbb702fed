"""Every setting, read once: from the command line, the environment (MIMICIT_…) and a YAML file."""

import os
from pathlib import Path
from typing import Annotated, Any

from platformdirs import user_cache_path
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from app.errors import MimicitError
from app.storage import ObjectLimits

_MIB = 1 << 20


def _count_cores() -> int:
    """The processors this process may use: by affinity, and by the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores or 1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return cores or 1


_CORES = _count_cores()

Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=0)]


class SettingsError(MimicitError):
    """A setting has a value that it can not have."""

    code = "settings"


class Settings(BaseSettings):
    """What the service may do and take; sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="MIMICIT_", extra="forbid")

    data_yaml: Path | None = Field(None, description="The data YAML to serve.")
    catalog_dir: Path = Field(
        default_factory=lambda: user_cache_path("mimicit"),
        description="Where catalogs are kept. Never beside the data, which may be read-only.",
    )

    host: str = Field("127.0.0.1", description="The address to listen on: by default this machine.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on.")
    workers: Count = Field(_CORES, description="Server processes: one a core, since each has one.")
    keep_alive_seconds: Count = Field(
        30, description="How long an idle connection stays: longer than a step of training."
    )
    shutdown_seconds: Count = Field(
        30, description="How long what is in flight may take to finish when the service stops."
    )

    task_processes: Count = Field(
        _CORES, description="Processes that index, convert or check files side by side."
    )
    build_wait_seconds: Bytes = Field(
        3600, description="How long to wait for another process that is building the catalog."
    )
    duckdb_memory_bytes: Count = Field(
        700 * _MIB,
        description="DuckDB's memory, in each process. A row of a pandas file takes it 400 MB "
        "(two pages of 100 MB, as stored and decoded), and an indexing process stays under 1 GB.",
    )
    max_value_bytes: Count = Field(
        64 * _MIB,
        description="The largest stored image. Larger ones are problems, and never served: an "
        "answer is held in memory whole.",
    )
    max_page_bytes: Count = Field(
        256 * _MIB,
        description="The largest Parquet page of a codec that has to be decoded whole (all but "
        "Snappy). pyarrow's pages of pictures are some 100 MB.",
    )

    page_cache_bytes: Bytes = Field(
        256 * _MIB,
        description="Decoded pages kept in each worker, for those codecs: two pages of 100 MB.",
    )
    max_open_files: Count = Field(
        512, description="Source files each worker keeps open, half of the usual limit of 1,024."
    )
    read_threads: Count = Field(
        8, description="Reads of a worker that wait for a disk at the same time."
    )
    resize_threads: Count = Field(
        1,
        description="Pictures a worker resizes at the same time: each takes a core, and there is a "
        "worker for each core.",
    )
    max_waiting: Count = Field(
        256,
        description="Reads, resizings, or batches, of a worker that wait for a thread. More are "
        "answered 503 `overloaded` at once: 256 reads of 10 ms in 8 threads wait 0.3 s, 256 "
        "batches of 20 ms some 3 s.",
    )

    object_timeout_seconds: Count = Field(
        10,
        description="How long one request to an object store may take: 8 MiB at 1 MB/s. Then it is "
        "made again.",
    )
    object_retries: Bytes = Field(
        5,
        description="How often a request that failed is made again, after 0.1 s and then twice as "
        "long each time: 3 s of pauses, in which a store's 503 has mostly passed.",
    )
    object_read_bytes: int = Field(
        8 * _MIB,
        ge=64 << 10,
        le=256 * _MIB,
        description="The most bytes of one request: at 100 MB/s a round trip of 20 ms is a fifth "
        "of its time.",
    )
    object_read_ahead: Count = Field(
        4,
        description="Such requests under way while an object is indexed: with the three blocks "
        "that are held, 56 MiB in each process.",
    )
    object_compare_bytes: Bytes = Field(
        512 * _MIB,
        description="The most bytes of an object that are fetched again, to compare rows with "
        "DuckDB's reading of them; four pages of a pandas file are 400 MB. 0 compares none.",
    )
    object_requests: Count = Field(
        32,
        description="Reads of a worker that wait for an object store at the same time: at 20 ms "
        "each, 1,600 images a second.",
    )
    object_check_seconds: Bytes = Field(
        10,
        description="How long an object is believed to be unchanged, for ranges of it that are "
        "kept on disk. A range that is fetched is asked for by the ETag that was indexed.",
    )
    range_cache_bytes: Bytes = Field(
        4 << 30,
        description="Ranges of objects kept on disk, in `catalog_dir`/ranges, by all workers of "
        "all servers that share it: 40,000 images of 75 KB. 0 keeps none.",
    )

    max_batch_samples: Count = Field(
        10_000,
        description="Samples of one batch or shard, and instructions of one sample's context. "
        "Finding that many takes 0.1 s, on one thread.",
    )
    max_batch_bytes: int = Field(
        1 << 30,
        ge=1,
        le=2**31 - 1,
        description="Stored bytes of one batch or shard; an Arrow column holds less than 2 GiB.",
    )
    max_frames: Count = Field(1000, description="The largest `frames`.")
    batch_threads: Count = Field(
        2,
        description="Batches a worker makes at the same time: one may wait for a disk meanwhile.",
    )
    batch_part_bytes: int = Field(
        64 * _MIB,
        ge=1,
        le=1 << 30,
        description="Stored bytes of the part of a batch that is made and sent at a time. A batch "
        "of 256 pictures of up to 240 KB is one part, whose length and substitutions are known "
        "before it leaves.",
    )
    batch_memory_bytes: Count = Field(
        512 * _MIB,
        description="Bytes of the batches in flight in a worker, two parts for each of them: ten "
        "batches of 256 pictures of 75 KB.",
    )
    batch_wait_seconds: Count = Field(
        10,
        description="How long a batch waits for memory that others hold; then it is answered 503 "
        "`overloaded`.",
    )
    stall_seconds: int = Field(
        60,
        ge=1,
        le=86_400,
        description="How long a client may take no byte of its answer; then the connection is cut "
        "(on Linux).",
    )

    default_page_items: Count = Field(100, description="Items of a page, if `limit` is not given.")
    max_page_items: Count = Field(1000, description="The largest `limit`: about 1 MB of JSON.")
    max_lookup_keys: Count = Field(1000, description="Keys of one images:lookup.")
    max_answer_bytes: Count = Field(
        64 * _MIB, description="Stored bytes of the images in one answer, which is held in memory."
    )
    max_body_bytes: Count = Field(
        2 * _MIB, description="The largest request body: 1,000 keys of 1,000 bytes, escaped."
    )
    max_image_pixels: Count = Field(
        64_000_000, description="The largest picture to resize: 8,000 by 8,000, 200 MB decoded."
    )
    max_resize_side: Count = Field(4096, description="The largest `width` or `height` asked for.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line goes before the environment, and that before the file."""
        return init_settings, env_settings


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


def load_settings(config: Path | None = None, **given: Any) -> Settings:
    """The settings: those given, else the environment's, else the YAML file's, else the defaults.

    The file is `config`, or what MIMICIT_CONFIG names. Raises SettingsError, with every mistake.
    """
    path = config or (Path(name) if (name := os.environ.get("MIMICIT_CONFIG")) else None)
    if path is not None and not path.is_file():
        raise SettingsError(f"{path}: there is no such settings file")

    class FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *args: Any, **sources: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            found = super().settings_customise_sources(settings_cls, *args, **sources)
            if path is None:
                return found
            return *found, YamlConfigSettingsSource(settings_cls, yaml_file=path)

    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings.model_construct(**FileSettings(**chosen).model_dump())
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, mistake['loc'])) or 'settings'}: {mistake['msg']}"
            for mistake in error.errors()
        ]
        raise SettingsError("\n".join(["settings that can not be used:", *lines])) from error
