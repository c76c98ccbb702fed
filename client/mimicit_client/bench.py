"""How many samples a second a service gives to this machine."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from mimicit_client import calls
from mimicit_client.ahead import Ahead, Wait
from mimicit_client.batch import Batch
from mimicit_client.calls import BatchOptions
from mimicit_client.client import Client
from mimicit_client.errors import MimicitError
from mimicit_client.retries import Retries

_BAR_WIDTH = 30
_SHOWN_EVERY_SECONDS = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the process' exit code."""
    said = _parse(arguments)
    options: BatchOptions = {}
    if said.size is not None:
        options["size"] = said.size
    if said.pixels:
        options["pixels"] = True
    try:
        # Somebody waits for it: a service that is not there is said soon.
        with Client(said.url, said.token, retries=Retries(total_seconds=5)) as client:
            sys.stdout.write(_measure(client, said, options) + "\n")
    except (MimicitError, ValueError) as error:
        sys.stderr.write(f"mimicit_client: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mimicit_client", description="A client of a mimicit service."
    )
    bench = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "bench", help="pull batches for some seconds and say how fast they come"
    )
    bench.add_argument("url", nargs="+", help="the service's URL, or those of its replicas")
    bench.add_argument("--seconds", type=float, default=10.0, help="how long (default: 10)")
    bench.add_argument("--batch-size", type=int, default=256, help="samples (default: 256)")
    bench.add_argument("--group", help="only this group (default: all, mixed)")
    bench.add_argument("--threads", type=int, default=2, help="requests in flight (default: 2)")
    bench.add_argument("--size", type=int, help="have images resized to this side in pixels")
    bench.add_argument("--pixels", action="store_true", help="have images as pixels")
    bench.add_argument("--token", help="the bearer token")
    said = parser.parse_args(arguments)
    if said.seconds <= 0 or said.threads < 1:
        parser.error("--seconds and --threads have to be more than 0")
    return said


def _measure(client: Client, said: argparse.Namespace, options: BatchOptions) -> str:
    plan = client.plan(batch_size=said.batch_size, group=said.group)
    if not plan.steps:
        raise ValueError(
            f"the epoch has {plan.left_over} samples, too few for a batch: lower --batch-size"
        )

    def fetch(number: int, wait: Wait) -> Batch:
        epoch, step = divmod(number, plan.steps)
        flow = calls.batch(
            client,
            step,
            batch_size=said.batch_size,
            group=said.group,
            epoch=epoch,
            revision=plan.revision,
            **options,
        )
        return client.run(flow, wait)

    # More batches than any service gives in that time.
    batches = Ahead(fetch, range(sys.maxsize), said.threads, "mimicit-bench")
    samples = size = count = 0
    started = shown = time.perf_counter()
    seconds = 0.0
    with closing(batches):
        for batch in batches:
            samples, size, count = samples + len(batch), size + batch.body.size, count + 1
            now = time.perf_counter()
            seconds = now - started
            if now - shown > _SHOWN_EVERY_SECONDS or seconds >= said.seconds:
                shown = now
                _show(min(1.0, seconds / said.seconds), samples / seconds, size / seconds)
            if seconds >= said.seconds:
                break
    _clear()
    return (
        f"{samples / seconds:,.0f} samples/s, {size / seconds / 1e6:,.1f} MB/s: {count:,} batches, "
        f"{samples:,} samples and {size / 1e6:,.1f} MB in {seconds:.1f} s, {said.threads} in flight"
    )


def _show(part: float, samples: float, size: float) -> None:
    if sys.stderr.isatty():
        done = round(part * _BAR_WIDTH)
        bar = "█" * done + "░" * (_BAR_WIDTH - done)
        text = f"\r{bar} {part:4.0%}  {samples:,.0f} samples/s  {size / 1e6:,.1f} MB/s\x1b[K"
        sys.stderr.write(text)
        sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
