"""Policies played over traces: the scores by hand, the published landmarks, and no look ahead."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cloud_fn import cli
from cloud_fn.functions.backtest import TraceError, compare, read_trace
from cloud_fn.functions.backtest.compare import OURS, against
from cloud_fn.functions.backtest.online import Replay, back_tested, chosen_windows, logs_before
from cloud_fn.functions.backtest.page import render
from cloud_fn.functions.backtest.replay import (
    fixed,
    greedy_dual,
    windows_of,
    without_prewarming,
)
from cloud_fn.functions.backtest.score import Windows, outcome, score
from cloud_fn.functions.backtest.trace import Trace, own_log, trace_of
from cloud_fn.functions.logbook import Logbook
from cloud_fn.functions.scaling import BackTestedPolicy, FixedPolicy, HistogramPolicy, choose
from protos.errors import IsthmusError

AZURE = Path(__file__).resolve().parents[4] / "shared" / "data" / "azure2019"
HEAD = "HashOwner,HashApp,HashFunction,Trigger,1,2,3"
azure = pytest.mark.skipif(not AZURE.is_dir(), reason="the Azure trace lies beside the project")


def a_trace(*minutes: Sequence[int], span: int = 60, sizes: Sequence[float] = ()) -> Trace:
    counts = np.zeros((len(minutes), span), dtype=np.int64)
    for at, each in enumerate(minutes):
        counts[at, list(each)] = 1
    return trace_of("made up", counts, sizes or [100.0] * len(minutes))


def timers() -> Trace:
    """Twelve functions, each asked at its own even pace."""
    paces = (3, 5, 7, 11, 13, 17, 20, 25, 30, 40, 60, 90)
    return a_trace(*[range(0, 480, pace) for pace in paces], span=480, sizes=[1e8] * len(paces))


def test_a_fixed_keep_alive_is_scored_as_by_hand() -> None:
    trace = a_trace([0, 5, 30], [10], sizes=[100.0, 1.0])
    found = fixed(trace, 600.0)
    assert found.cold == 3
    assert found.idle_byte_s == (5 + 10 + 10) * 60 * 100 + 10 * 60
    assert found.p75_cold_share == pytest.approx(np.percentile([2 / 3, 1], 75))


def test_a_window_that_begins_too_late_is_cold_and_takes_nothing() -> None:
    trace = a_trace([0, 10])
    moments = np.array([600.1, 600.0])
    cold, used = score(trace, Windows(begin_s=moments, end_s=moments + 60))
    assert (cold.tolist(), used) == ([True, True], 60 * 100.0)


def test_a_policy_sees_nothing_of_an_idle_time_before_it_is_over() -> None:
    """The same past, another future: the windows up to there are the same."""
    one, other = a_trace([0, 5, 10, 40]), a_trace([0, 5, 10, 59])
    policy = HistogramPolicy(least_seen=1)
    first, second = windows_of(one, policy), windows_of(other, policy)
    assert first.end_s[:3].tolist() == second.end_s[:3].tolist()
    assert windows_of(one, FixedPolicy()).end_s.tolist() == [600.0] * 4


def test_greedy_dual_keeps_all_where_there_is_room_and_little_where_there_is_none() -> None:
    trace = a_trace([0, 2, 4], [1, 3, 5], span=10)
    roomy, narrow = greedy_dual(trace, 200.0, ""), greedy_dual(trace, 100.0, "")
    assert (roomy.cold, narrow.cold) == (2, 6)
    assert roomy.idle_byte_s == (10 + 9) * 60 * 100
    assert narrow.idle_byte_s == 10 * 60 * 100


def test_the_best_without_prewarming_spans_the_shortest_idle_times() -> None:
    trace = a_trace([0, 5, 30, 31])
    assert without_prewarming(trace, 6 * 60 * 100.0).cold == 2
    assert without_prewarming(trace, 5 * 60 * 100.0).cold == 3


def test_what_is_known_before_a_moment_ends_with_it() -> None:
    logs = logs_before(a_trace([0, 5, 30], [40]), 600.0)
    assert [(log.idles_s, log.open_s) for log in logs] == [((300.0,), 300.0)]


def test_the_future_changes_nothing_that_was_chosen_before_it() -> None:
    """The second half of one trace is silent: its first half has gone just the same."""
    whole = timers()
    half, kept = whole.before(240 * 60), whole.at_s < 240 * 60
    cut, full = (
        chosen_windows(Replay.of(each), [0.5], every_s=1800.0)[0] for each in (half, whole)
    )
    assert cut.begin_s.tolist() == full.begin_s[kept].tolist()
    assert cut.end_s.tolist() == full.end_s[kept].tolist()


def test_the_fast_way_does_as_the_policy_says() -> None:
    trace = timers()
    replay = Replay.of(trace)
    fast = back_tested(replay, [0.5], every_s=trace.span_s)[0]
    policy = BackTestedPolicy(size_bytes=100_000_000)
    slow = outcome("", "", trace, windows_of(trace, policy))
    assert fast.cold == slow.cold
    assert fast.idle_byte_s == pytest.approx(slow.idle_byte_s)


def test_chosen_from_a_log_it_does_as_the_policy_that_learned_from_it() -> None:
    trace, now_s = timers(), 240 * 60.0
    base = fixed(trace, 600.0).idle_byte_s
    logs = logs_before(trace, now_s)
    learned = choose(logs, span_s=now_s, budget_bytes=base / trace.span_s)
    slow = windows_of(trace, BackTestedPolicy(learned=learned, size_bytes=100_000_000))
    cold, _ = score(trace, slow)
    late = trace.at_s > now_s
    assert cold[late].sum() < cold[~late].sum()


def test_on_timers_the_back_tested_choice_beats_ten_minutes_in_cold_starts_and_memory() -> None:
    result = compare(timers(), budgets=(0.3, 0.6))
    ours = [each for each in result.outcomes if each.policy == OURS]
    ten = next(each for each in result.outcomes if each.setting == "10 min")
    assert ten.memory == 1
    assert all(each.cold < ten.cold and each.memory < ten.memory for each in ours)
    beside = next(each for each in against(result) if each.setting == "10 min")
    assert beside.cold_ratio is not None
    assert beside.cold_ratio < 0.2


@azure
def test_the_published_landmarks_are_found_again() -> None:
    """Function by function, minutes as recorded, all instances alike: data/README.md."""
    trace = read_trace(AZURE).all_alike()
    assert (trace.functions, int(trace.invocations.sum())) == (500, 3_037_902)
    base = fixed(trace, 600.0)
    hour = fixed(trace, 3600.0)
    assert (base.cold, hour.cold) == (2488, 637)
    assert hour.idle_byte_s / base.idle_byte_s == pytest.approx(1.36, abs=0.005)
    for trusted, cold, memory in ((1, 935, 0.87), (10, 665, 1.17)):
        found = outcome("", "", trace, windows_of(trace, HistogramPolicy(least_seen=trusted)))
        assert found.cold == cold
        assert found.idle_byte_s / base.idle_byte_s == pytest.approx(memory, abs=0.005)
    best = without_prewarming(trace, base.idle_byte_s)
    assert best.cold == pytest.approx(1151, rel=0.01)


def test_spread_within_minutes_every_invocation_stays_in_its_minute() -> None:
    counts = np.zeros((2, 9), dtype=np.int64)
    counts[0, [1, 4]], counts[1, 7] = (1, 5), 2
    spread = trace_of("made up", counts, [1.0, 1.0]).spread(1)
    assert (spread.at_s // 60).tolist() == [1, 4, 4, 7, 7]
    assert spread.of.tolist() == [0, 0, 0, 1, 1]
    assert spread.counts.tolist() == [1, 1, 4, 1, 1]
    assert (spread.lasted_s >= 0).all()
    assert spread.invocations.tolist() == [6, 2]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "no column HashOwner"),
        ("HashOwner,HashApp,HashFunction\na,b,c\n", "no column for a minute"),
        (HEAD + "\n", "holds no function"),
        (HEAD + "\na,b,c,http,0,0,0\n", "holds no invocation"),
        (HEAD + "\na,b,c,http,1,2\n", "line 2 has 6 fields where its first line has 7"),
        (HEAD + "\na,b,c,http,1,-2,0\n", "line 2 minute 2 says '-2'"),
        (HEAD + "\na,b,c,http,1,x,0\n", "line 2 minute 2 says 'x'"),
        (HEAD + "\na,b,c,http,1,1,0\na,b,c,http,1,1,0\n", "same function as line 2"),
        (HEAD + '\na,b,c,"http,1,1,0\n', "is not a CSV file"),
    ],
)
def test_a_malformed_trace_is_told_in_one_sentence(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(TraceError, match=wrong) as told:
        read_trace(write(tmp_path / "invocations.csv", text))
    assert "\n" not in str(told.value)


def test_a_trace_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"invocations\.csv does not exist"):
        read_trace(tmp_path)


def test_a_folder_says_what_instances_take(tmp_path: Path) -> None:
    write(tmp_path / "invocations.csv", f"{HEAD}\na,b,c,http,1,0,2\na,b,d,http,1,0,0\n")
    memory = tmp_path / "memory.csv"
    write(memory, "HashOwner,HashApp,HashFunction,AverageAllocatedMb\na,b,c,50\n")
    trace = read_trace(tmp_path)
    assert trace.sizes_bytes.tolist() == [50e6, 50e6]
    assert trace.at_s.tolist() == [0.0, 120.0, 0.0]
    write(memory, "HashOwner,HashApp,HashFunction,AverageAllocatedMb\na,b,c,none\n")
    with pytest.raises(TraceError, match="line 2 has no number of MB"):
        read_trace(tmp_path)


def test_the_gateways_own_log_is_a_trace_too(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="serve requests for a while, or give --trace"):
        own_log(tmp_path)
    minute = 28_000_000
    times = iter([minute, minute, minute, minute + 7, minute + 9, minute + 9, minute + 9])
    book = Logbook(tmp_path, wall=lambda: next(times) * 60.0)
    for name in ("a", "b", "a", "b"):
        book.asked(name)
    book.save({"a": 7_000_000})
    trace = own_log(tmp_path)
    assert trace.sizes_bytes.tolist()[0] == 7_000_000
    assert trace.at_s.tolist() == [0.0, 420.0, 0.0, 540.0]
    assert trace.span_s == 600.0


def run(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    cli.mount(parser.add_subparsers(required=True))
    args = parser.parse_args(["functions", "backtest", *map(str, argv)])
    return int(args.run(args))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    head = "HashOwner,HashApp,HashFunction,Trigger," + ",".join(map(str, range(200)))
    lines = [
        f"a,b,f{pace},timer," + ",".join("1" if at % pace == 0 else "0" for at in range(200))
        for pace in (3, 7, 15, 40)
    ]
    return write(tmp_path / "invocations.csv", "\n".join([head, *lines, ""]))


def test_the_command_prints_one_document_and_writes_a_page(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run("--trace", small, "--budget", 0.5, "--json", "--html", page) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "isthmus.backtest/1"
    assert [o["setting"] for o in told["result"]["outcomes"] if o["policy"] == OURS] == [
        "budget 0.50"
    ]
    text = page.read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert all(name in text for name in ("back-tested", "hybrid histogram", "<svg"))


def test_the_command_draws_the_frontier(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--trace", small, "--budget", 0.5) == 0
    out, err = capsys.readouterr()
    assert "B back-tested" in out
    assert "back-tested beside each baseline" in out
    assert "greedy-dual" in err


def test_names_from_a_trace_cannot_break_the_page(small: Path) -> None:
    trace = read_trace(small)
    odd = trace_of("<b>&", np.ones((1, 30), dtype=np.int64), trace.sizes_bytes[:1].tolist())
    assert "<b>&" not in render(compare(odd, budgets=(0.5,)))


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        (("--budget", "0"), "--budget must be more than 0"),
        (("--budget", "nan"), "--budget must be more than 0"),
        (("--root", "/nonexistent"), "there is no log"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(argv: tuple[str, ...], wrong: str) -> None:
    with pytest.raises(IsthmusError, match=wrong) as told:
        run(*argv)
    assert told.value.exit_code == 2
