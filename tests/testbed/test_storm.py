"""What a storm calls, how it counts, and whom it kills."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import grpc
import msgspec
import numpy as np
import psutil
import pytest

import isthmus
from protos.timing import Timing
from protos.wire import (
    SERVICE,
    Reply,
    Tensor,
    decode_request,
    encode_reply,
    encode_stream_error,
    encode_stream_reply,
)
from testbed.errors import TestbedError
from testbed.scenarios.storm import callers
from testbed.scenarios.storm.arrivals import arrivals, made_up_counts, read_counts
from testbed.scenarios.storm.callers import Callers
from testbed.scenarios.storm.killer import Killer
from testbed.scenarios.storm.ledger import Ledger, Outcome, general, refusal
from testbed.scenarios.storm.result import (
    FunctionRow,
    Reason,
    StormResult,
    function_row,
    reasons,
    terms,
)
from testbed.scenarios.storm.show import show
from testbed.scenarios.storm.subjects import (
    MODELS,
    VARIANTS,
    Function,
    Subject,
    close,
    functions,
)

RANDOM = Random(0)  # noqa: S311  it draws victims, no secrets
RIGHT = Outcome(kind="right", total_s=0.1, timing=Timing(infer_s=0.1))


def a_trace(path: Path, *rows: list[int]) -> Path:
    lines = ["owner,app,function,trigger", *(f"o,a,f,t,{','.join(map(str, r))}" for r in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


BURSTS, STEADY, SELDOM = [9, 0, 0, 0] * 5, [4, 5] * 10, [30] + [0] * 19


def test_functions_that_are_called_steadily_or_hardly_ever_are_not_drawn(tmp_path: Path) -> None:
    path = a_trace(tmp_path / "calls.csv", STEADY, BURSTS, SELDOM)
    for seed in range(5):
        (row,) = read_counts(path, 1, 20.0, seed)
        assert sorted(row) == sorted(BURSTS)


def test_a_trace_shorter_than_the_storm_repeats(tmp_path: Path) -> None:
    path = a_trace(tmp_path / "calls.csv", BURSTS)
    (row,) = read_counts(path, 1, 40.0, 3)
    assert row.tolist() == [*row[:20], *row[:20]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no trace"),
        ("a,b,c,d,1\no,a,f,t,many\n", "is no trace"),
        ("a,b,c,d,1\no,a,f,t,-1\n", "is no trace"),
        ("a,b,c,d,1\no,a,f,t,1,2\no,a,f,t,1\n", "is no trace"),
        ("a,b,c,d,1\no,a,f,t,1\n", "has 0 functions that are called in bursts"),
    ],
)
def test_a_trace_that_will_not_do_is_refused_in_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "calls.csv"
    path.write_text(text)
    with pytest.raises(TestbedError, match=sentence):
        read_counts(path, 1, 20.0, 0)


def test_what_is_made_up_has_bursts_and_silences_for_each_function() -> None:
    counts = made_up_counts(10, 300.0, 1)
    assert counts.shape == (10, 300)
    for row in counts:
        assert 0 < row.sum() < 300
    np.testing.assert_array_equal(counts, made_up_counts(10, 300.0, 1))
    assert (made_up_counts(50, 2.0, 1).sum(axis=1) > 0).all()


def test_calls_follow_the_pattern_at_the_rates_that_were_asked_for() -> None:
    counts = np.array([[1.0, 0.0, 3.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    found = arrivals(counts, [1000.0, 10.0], seconds=4.0, variants=3, seed=7)
    assert [each.at_s for each in found] == sorted(each.at_s for each in found)
    by_second = [
        [sum(e.function == f and int(e.at_s) == s for e in found) for s in range(4)]
        for f in range(2)
    ]
    assert by_second[0] == pytest.approx([1000, 0, 3000, 0], abs=250)
    assert by_second[1] == pytest.approx([0, 20, 0, 20], abs=20)
    assert [row[i] for row, i in zip(by_second, (1, 0), strict=True)] == [0, 0]
    assert {each.variant for each in found} == {0, 1, 2}
    assert sum(each.streamed for each in found) == pytest.approx(len(found) / 2, abs=250)


def test_nothing_arrives_after_the_storm() -> None:
    found = arrivals(np.ones((1, 3)), [100.0], seconds=2.5, variants=1, seed=0)
    assert 2.0 < max(each.at_s for each in found) < 2.5


def test_a_call_with_no_outcome_is_lost_and_one_with_two_is_doubled() -> None:
    ledger = Ledger()
    for id_, function in (("a", 0), ("b", 0), ("c", 1)):
        ledger.ask(id_, function)
    ledger.settle("a", RIGHT)
    ledger.settle("c", RIGHT)
    ledger.settle("c", RIGHT)
    ledger.settle("nobody", RIGHT)
    assert ledger.waiting == 1
    assert ledger.tally() == {"right": 2, "asked": 3}
    books = ledger.close()
    assert books.outcomes == {0: [RIGHT], 1: [RIGHT]}
    assert (books.lost[0], books.lost[1]) == (1, 0)
    assert (books.doubled[0], books.doubled[1]) == (0, 1)
    assert books.strays == 1


def test_an_id_is_used_once() -> None:
    ledger = Ledger()
    ledger.ask("a", 0)
    with pytest.raises(ValueError, match="used before"):
        ledger.ask("a", 0)


def test_refusals_are_alike_whatever_their_function_and_figures() -> None:
    said = "all 4 places of rapid-orientation-1:12 stayed taken until the deadline: send fewer"
    assert general(said) == "all N places of FUNCTION stayed taken until the deadline"
    assert general("it took 2.5 s") == "it took N s"


@pytest.mark.parametrize(
    ("status", "sentence", "kind"),
    [
        ("INTERNAL", "the instance of m:1 ended while it ran the request: try again", "refused"),
        ("stream", "the server has 64 requests in flight (max_in_flight): later", "refused"),
        ("INTERNAL", "the server failed: its log says why", "unclear"),
        ("UNKNOWN", "Exception calling application", "unclear"),
        ("UNAVAILABLE", "", "unclear"),
    ],
)
def test_a_refusal_that_does_not_say_why_is_unclear(status: str, sentence: str, kind: str) -> None:
    assert refusal(status, sentence, 0.1).kind == kind


def a_book(*outcomes: Outcome, lost: int = 0, doubled: int = 0) -> Any:  # noqa: ANN401
    ledger = Ledger()
    for number, outcome in enumerate(outcomes):
        ledger.ask(str(number), 0)
        ledger.settle(str(number), outcome)
    for number in range(lost):
        ledger.ask(f"lost {number}", 0)
    for number in range(doubled):
        ledger.settle(str(number), RIGHT)
    return ledger.close()


def test_a_row_counts_each_call_once_and_times_the_right_answers() -> None:
    cold = Outcome(kind="right", total_s=0.9, cold=True, timing=Timing(init_s=0.4, load_s=0.2))
    books = a_book(RIGHT, RIGHT, cold, refusal("INTERNAL", "x", 5.0), lost=1, doubled=1)
    assert function_row("f", 0, books) == FunctionRow(
        name="f",
        requests=5,
        right=3,
        wrong=0,
        refused=1,
        unclear=0,
        lost=1,
        doubled=1,
        cold_share=0.3333,
        p50_ms=100.0,
        p95_ms=820.0,
        init_ms=400.0,
        load_ms=200.0,
    )


def test_a_function_without_a_right_answer_has_no_times() -> None:
    row = function_row("f", 0, a_book(refusal("INTERNAL", "x", 5.0)))
    assert (row.p50_ms, row.p95_ms, row.init_ms, row.load_ms, row.cold_share) == (*[None] * 4, 0)


def test_reasons_are_counted_most_frequent_first() -> None:
    wrong = Outcome(kind="wrong", total_s=0.1, reason="another answer")
    lost = refusal("INTERNAL", "the instance of m:1 ended: try again", 0.1)
    assert reasons(a_book(lost, wrong, lost, RIGHT)) == (
        Reason(reason="INTERNAL: the instance of FUNCTION ended", calls=2),
        Reason(reason="WRONG: another answer", calls=1),
    )


def test_the_terms_and_the_network_are_held_against_the_callers_clocks() -> None:
    true = Outcome(kind="right", total_s=0.102, timing=Timing(infer_s=0.1))
    short = Outcome(kind="right", total_s=0.102, timing=Timing(infer_s=0.05))
    found = terms(a_book(true, short, true, true), {0: 0.002})
    assert found is not None
    assert (found.answers, found.within) == (4, 0.75)
    assert (found.measured_ms, found.terms_ms, found.network_ms) == (102.0, 87.5, 2.0)
    assert found.gap == pytest.approx(0.05 / 0.408, abs=1e-4)
    assert terms(a_book(true), {}) is None


def a_result(**changes: Any) -> StormResult:  # noqa: ANN401
    row = function_row("f", 0, a_book(RIGHT, refusal("INTERNAL", "m:1 ended: again", 1.0)))
    fields: dict[str, Any] = {
        "pattern": "in bursts that are made up",
        "seconds": 15.0,
        "nodes": 1,
        "functions": (row,),
        "reasons": (Reason(reason="INTERNAL: FUNCTION ended", calls=1),),
        "strays": 0,
        "kills": 3,
        "kills_of_busy": 2,
        "terms": terms(a_book(RIGHT), {0: 0.0}),
        "recovered": True,
        "tracebacks": 0,
        "left_running": (),
    }
    return StormResult(**fields | changes)


@pytest.mark.parametrize("column", ["lost", "doubled", "wrong", "unclear"])
def test_one_call_without_exactly_one_clear_outcome_makes_the_answer_no(column: str) -> None:
    good = a_result()
    assert good.all_right
    bad = msgspec.structs.replace(good.functions[0], **{column: 1})
    assert not a_result(functions=(good.functions[0], bad)).all_right


@pytest.mark.parametrize(
    "change", [{"strays": 1}, {"recovered": False}, {"left_running": ("7 ray",)}]
)
def test_strays_a_function_that_stays_down_and_leftovers_make_the_answer_no(
    change: dict[str, Any],
) -> None:
    assert not a_result(**change).all_right


def test_the_table_names_what_was_refused_and_what_is_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(a_result(left_running=("7 ray",), recovered=False, strays=2, tracebacks=1))
    out = capsys.readouterr().out
    for text in (
        "3 instances killed, 2 of them at work",
        "     1 INTERNAL: FUNCTION ended",
        "every function did NOT answer rightly",
        "2 outcomes of calls that nobody made",
        "the server's log has 1 tracebacks",
        "7 ray",
        "100.00 of the 100.00 ms that callers measured",
    ):
        assert text in out


X = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture
def gateway() -> Iterator[str]:
    """Answers with what it was sent; a model's name says what is wrong with it."""

    def answer(data: bytes) -> list[bytes]:
        request = decode_request(data)
        if request.model in ("refuses", "no-such-model"):
            return []
        outputs = tuple(
            Tensor.of("y", each.array() + (request.model == "errs")) for each in request.inputs
        )
        id_ = "another" if request.model == "mixes-up" else request.id
        reply = Reply(model=request.model, id=id_, outputs=outputs, timing=Timing(infer_s=0.001))
        return [encode_reply(reply)] * (2 if request.model == "doubles" else 1)

    def unary(data: bytes, context: grpc.ServicerContext) -> bytes:
        if not (found := answer(data)):
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such model: publish it")
        return found[0]

    def stream(requests: Iterable[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for data in requests:
            request = decode_request(data)
            if request.model == "falls-silent":
                return
            yield from map(encode_stream_reply, answer(data))
            if request.model == "refuses":
                yield encode_stream_error(request.id, "not now: later")

    server = grpc.server(ThreadPoolExecutor(8))
    handlers: dict[str, Any] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(unary),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def an_echo(name: str) -> Function:
    real: Any = None
    subject = Subject(real=real, inputs=((Tensor.of("x", X),),), answers=({"y": X},), infer_s=0.001)
    return Function(name=name, subject=subject)


def called(address: str, name: str, *, streamed: bool) -> Any:  # noqa: ANN401
    async def go() -> Ledger:
        ledger = Ledger()
        async with Callers(address, [an_echo(name)], ledger) as calling:
            for _ in range(3):
                calling.call(0, 0, streamed=streamed)
            await calling.settled()
            await calling.hang_up()
        return ledger

    return asyncio.run(go()).close()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("name", "kind"), [("echoes", "right"), ("errs", "wrong"), ("refuses", "refused")]
)
def test_each_call_gets_its_outcome_over_either_way(
    gateway: str, name: str, kind: str, *, streamed: bool
) -> None:
    books = called(gateway, name, streamed=streamed)
    assert [each.kind for each in books.outcomes[0]] == [kind] * 3
    assert (books.lost[0], books.doubled[0], books.strays) == (0, 0, 0)


def test_a_unary_answer_to_another_call_is_wrong(gateway: str) -> None:
    books = called(gateway, "mixes-up", streamed=False)
    assert {each.reason for each in books.outcomes[0]} == {"the answer of mixes-up to another"}


def test_a_second_answer_on_a_stream_is_noticed_even_after_the_last_call(gateway: str) -> None:
    books = called(gateway, "doubles", streamed=True)
    assert (len(books.outcomes[0]), books.doubled[0], books.lost[0]) == (3, 3, 0)


def test_answers_to_calls_that_nobody_made_are_strays(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "PATIENCE_S", 0.3)
    books = called(gateway, "mixes-up", streamed=True)
    assert (books.strays, books.lost[0]) == (3, 3)


def test_what_waits_on_a_stream_that_ends_is_lost(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "PATIENCE_S", 0.3)
    assert called(gateway, "falls-silent", streamed=True).lost[0] == 3


def test_the_way_alone_is_that_of_a_call_that_is_refused_on_sight(gateway: str) -> None:
    async def go() -> float | None:
        async with Callers(gateway, [an_echo("echoes")], Ledger()) as calling:
            return await calling.probe_s(0)

    found = asyncio.run(go())
    assert found is not None
    assert found > 0


def test_there_are_as_many_functions_as_asked_for_and_their_answers_are_told_apart() -> None:
    found = functions(len(MODELS) + 1)
    assert len({each.name for each in found}) == len(found)
    assert found[0].subject is found[-1].subject
    for each in found:
        answers = each.subject.answers
        assert len(answers) == VARIANTS
        assert not all(close(answers[0][name], answers[2][name]) for name in answers[0])
        assert each.subject.infer_s > 0


@pytest.mark.parametrize(
    ("found", "same"),
    [
        (X, True),
        (X * np.float32(1 + 1e-5), True),
        (X * np.float32(1.01), False),
        (X.astype(np.float64), False),
        (X[:, :1], False),
        (X * np.float32("nan"), False),
    ],
)
def test_answers_are_the_same_but_for_rounding(found: Any, same: bool) -> None:  # noqa: ANN401, FBT001
    assert close(found, X) == same


FAMILY = """
import subprocess, sys, time
def named(name):
    code = (
        "import sys, time; open('/proc/self/comm', 'w').write(sys.argv[1]); "
        "print('up', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
for name in sys.argv[1:]:
    named(name)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[Callable[..., tuple[int, list[int]]]]:
    """Start a process with children of these names; gives its number and theirs."""
    started: list[subprocess.Popen[str]] = []

    def start(*names: str) -> tuple[int, list[int]]:
        parent = subprocess.Popen(
            [sys.executable, "-c", FAMILY, *names], stdout=subprocess.PIPE, text=True
        )
        started.append(parent)
        assert parent.stdout is not None
        return parent.pid, [int(parent.stdout.readline()) for _ in names]

    yield start
    for parent in started:
        assert parent.stdout is not None
        for child in psutil.Process(parent.pid).children():
            child.kill()
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_only_instances_of_this_very_server_are_killed(
    family: Callable[..., tuple[int, list[int]]],
) -> None:
    _, (other,) = family("isthmus-inst")
    server, (instance, neighbour) = family("isthmus-inst", "raylet")
    killed = Killer(server, RANDOM).kill()
    assert killed is not None
    assert killed.pid == instance
    deadline_s = time.monotonic() + 10
    while psutil.Process(instance).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s
    for alive in (other, server, neighbour):
        assert psutil.Process(alive).status() != psutil.STATUS_ZOMBIE


def test_hosts_and_spares_are_no_instances(
    family: Callable[..., tuple[int, list[int]]],
) -> None:
    server, (_, _, instance) = family("ray::Host", "isthmus-spare", "isthmus-inst")
    killer = Killer(server, RANDOM)
    (found,) = killer.instances()
    assert found.pid == instance
    found.kill()
    deadline_s = time.monotonic() + 10
    while killer.instances():
        assert time.monotonic() < deadline_s
    assert killer.kill() is None


def test_where_nothing_runs_nothing_is_killed(
    family: Callable[..., tuple[int, list[int]]],
) -> None:
    server, _ = family("raylet")
    assert Killer(server, RANDOM).kill() is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--duration", "0"], "--duration is 0: give 1 to 86400 seconds"),
        (["--functions", "0"], "--functions is 0: give 1 to 100"),
        (["--kill-every", "0"], "--kill-every is 0: give 0.1 s or more"),
        (["--trace", "nowhere.csv"], "trace nowhere.csv cannot be read: No such file or directory"),
        (["--nodes", "0"], "--nodes is 0: give 1 to 8"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isthmus.main(["testbed", "run", "storm", *words]) == 2
    assert capsys.readouterr().err == f"isthmus: {sentence}\n"
