"""Every setting, with its default and the reason for it."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_cache_path
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

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


class Settings(BaseSettings):
    """What the service may do and take; sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="MIMICIT_", extra="forbid")

    data_yaml: Path | None = Field(None, description="The data YAML to serve.")
    catalog: str | None = Field(
        None,
        description="The address of a published catalog to serve, in place of a data YAML.",
    )
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

    tokens_file: Path | None = Field(
        None,
        description="A file of bearer tokens, a line `name: token` for each; looked at once a "
        "second. With tokens, every request but /healthz and /readyz needs one.",
    )
    tokens: SecretStr | None = Field(
        None, description="More of the same lines, with commas between them: for the environment."
    )
    insecure: bool = Field(
        False,
        description="Listen on other addresses than this machine's without tokens, too: where "
        "something in front asks people who they are.",
    )
    metrics_need_token: bool = Field(
        True, description="Whether /metrics needs a token as well; Prometheus can send one."
    )
    session_key: SecretStr | None = Field(
        None,
        description="What signs browsers' cookies; the same for replicas that share browsers. By "
        "default a new one at each start, which signs everybody out.",
    )
    session_seconds: Count = Field(
        43_200, description="How long a browser stays signed in: a working day."
    )
    tls_cert: Path | None = Field(
        None, description="The certificate to answer https with, and those that vouch for it (PEM)."
    )
    tls_key: Path | None = Field(None, description="Its private key (PEM), if not in tls_cert.")
    max_in_flight: Count = Field(
        1024,
        description="Requests a worker answers at a time, slow clients included; more are answered "
        "503 `overloaded` at once. Each takes some 50 KB beside what is bounded elsewhere.",
    )
    max_connections: Count = Field(
        10_000,
        description="Connections of a worker, idle ones too; at most what its descriptors allow.",
    )
    max_head_bytes: Count = Field(
        65_536,
        description="A request's line and headers: a key of 1,000 bytes takes 3,000, "
        "percent-encoded, and proxies send up to 32 KB.",
    )
    head_seconds: Count = Field(
        10, description="How long a request's head may take to come, from its first byte on."
    )
    body_seconds: Count = Field(
        60, description="How long a request's body may take to come: 2 MB at 35 KB a second."
    )
    requests_per_second: Bytes = Field(
        0,
        description="Requests a second of each token, else of each address, in each worker; more "
        "are answered 429. 0 is no bound: what is in flight is bounded anyway.",
    )

    log_format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="Of the log, on standard error: `json`, a line each; `text`, for people; "
        "`auto`: text on a terminal, else JSON.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="What is logged: `info` has a line for each request (10 to 15 % of a warm "
        "image), `warning` only those that failed, `debug` also those of probes.",
    )
    traces: bool = Field(
        False, description="Send a span of each request, as OpenTelemetry's OTEL_* variables say."
    )

    task_processes: Count = Field(
        _CORES, description="Processes that index, convert or check files side by side."
    )
    build_wait_seconds: Bytes = Field(
        3600, description="How long to wait for another process that is building the catalog."
    )
    watch_seconds: Bytes = Field(
        0,
        description="How often to look whether the data YAML or a file it names has changed; 0 is "
        "never. A look takes 2 µs a file, on a local disk.",
    )
    reload_max_seconds: Count = Field(
        86_400,
        description="How long indexing may take beside a service that runs: 50 TB at 600 MB/s.",
    )
    duckdb_memory_bytes: Count = Field(
        700 * _MIB,
        description="DuckDB's memory, in each process. A row of a pandas file takes it 400 MB "
        "(two pages of 100 MB, as stored and decoded), and an indexing process stays under 1 GB.",
    )
    convert_memory_bytes: Count = Field(
        64 * _MIB,
        description="DuckDB's memory in a process that converts, which so stays under 300 MB. "
        "More may be needed to sort over five million keys, and by a Parquet file that can not be "
        "read in place.",
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
        512,
        description="Source files each worker keeps open; at most a quarter of its descriptors.",
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

    @model_validator(mode="after")
    def _serve_one(self) -> Self:
        if self.data_yaml is not None and self.catalog is not None:
            raise ValueError("a data YAML and a published catalog are given: give one of them")
        return self

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
