"""The simulation of docs/scaling.md: right where the answer is known, and what the page shows."""

from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.report import markdown_table
from benchmarks.scaling import Cluster, Simulation, check, repairman, simulate

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


@pytest.mark.parametrize("seed", [1, 2])
def test_it_agrees_with_the_machine_repairman(seed: int) -> None:
    for what, known, found in check(seed):
        assert found == pytest.approx(known, rel=0.02), what


def test_the_machine_repairman_is_right_where_it_is_simple() -> None:
    # One rank: it computes and is served in turn, and never waits for another.
    assert repairman(1, 3, 0.5, 0.1) == pytest.approx(1 / 0.6)
    # As many processes as ranks: none waits.
    assert repairman(7, 7, 0.5, 0.1) == pytest.approx(7 / 0.6)
    # Far too many ranks: every process works all the time.
    assert repairman(1000, 4, 0.5, 0.1) == pytest.approx(40)


def test_ranks_that_ask_ahead_never_wait_for_replicas_that_are_fast_enough() -> None:
    found = Simulation(Cluster(ranks=50, replicas=1), 40).run()
    assert found.training == pytest.approx(1)
    assert found.wait(1) == 0
    # 50 batches of 32 for each step of half a second, of 8 processes and of the link.
    assert found.batches_per_second == pytest.approx(100, rel=0.02)
    assert found.serving == pytest.approx(3200 / scaling.SAMPLES_PER_SECOND / 8, rel=0.05)
    assert found.sending == pytest.approx(3200 * 75_000 / (25e9 / 8), rel=0.05)


def test_what_is_full_says_how_fast_it_goes() -> None:
    linked = Simulation(Cluster(ranks=400, replicas=1, link_bytes=5e8), 40).run()
    assert linked.batches_per_second * 32 * 75_000 == pytest.approx(5e8, rel=0.05)
    assert linked.sending == pytest.approx(1, rel=0.05)
    worked = Simulation(Cluster(ranks=400, replicas=2, processes=1, link_bytes=0), 40).run()
    most = 2 * scaling.SAMPLES_PER_SECOND / 32
    assert worked.batches_per_second == pytest.approx(most, rel=0.05)
    assert worked.training == pytest.approx(most / 800, rel=0.05)


def test_asking_when_it_is_wanted_waits_for_every_batch() -> None:
    alone = Cluster(ranks=1, replicas=1, ahead=0, link_bytes=0)
    found = Simulation(alone, 200).run()
    assert found.training == pytest.approx(0.5 / (0.5 + alone.batch_seconds), rel=0.01)


def test_the_page_shows_what_it_prints() -> None:
    result = simulate(60)
    assert all(goal.is_met for goal in result.goals)
    assert "\n".join(markdown_table(result.columns, result.rows)) in PAGE.read_text()
