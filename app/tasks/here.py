"""One item after the other, in this process."""

from collections.abc import Iterator, Sequence

from app.tasks.job import Item, Job, Result, Watch


class Here:
    """Does a job in this process."""

    def run(self, job: Job[Item, Result], items: Sequence[Item], watch: Watch) -> Iterator[Result]:
        """As `Runner.run`, in the order of the items."""
        done_bytes = 0
        with job.open() as work:
            for done, item in enumerate(items):

                def advance(count: int, done: int = done) -> None:
                    nonlocal done_bytes
                    done_bytes += count
                    watch(done, done_bytes)

                yield work(item, advance)
        watch(len(items), done_bytes)
