"""Which nodes there are, and which of them the next instance goes to."""

import threading
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.functions.nodes import Node, Nodes, Resources, alive, choose

LIMIT_S = 20.0
OWN = "own"

some_nodes = st.lists(
    st.builds(
        Node,
        id=st.sampled_from((OWN, *"abcdef")),
        address=st.just("127.0.0.1"),
        cpus=st.sampled_from([0.0, 0.5, 1.0, 2.0, 64.0]),
        gpus=st.sampled_from([0.0, 0.5, 1.0]),
    ),
    unique_by=lambda node: node.id,
)
some_counts = st.dictionaries(st.sampled_from((OWN, *"abcdef")), st.integers(0, 200))
some_needs = st.builds(
    Resources, cpus=st.sampled_from([0.0, 0.1, 1.0]), gpus=st.sampled_from([0.0, 0.5])
)


def a_node(name: str, cpus: float = 1.0, gpus: float = 0.0) -> Node:
    return Node(id=name, address="127.0.0.1", cpus=cpus, gpus=gpus)


def ids(nodes: tuple[Node, ...]) -> list[str]:
    return [node.id for node in nodes]


@given(some_nodes, some_counts, some_needs, st.sets(st.sampled_from((OWN, *"abcdef"))))
def test_each_node_that_can_have_a_host_is_tried_once_the_least_loaded_first(
    nodes: list[Node], counts: dict[str, int], needs: Resources, avoid: set[str]
) -> None:
    order = choose(nodes, counts, own=OWN, needs=needs, avoid=avoid)
    able = {node.id for node in nodes if node.cpus >= needs.cpus and node.gpus >= needs.gpus}
    assert sorted(ids(order)) == sorted(able)
    loads = [
        (node.id in avoid, counts.get(node.id, 0) / max(1.0, node.cpus), node.id != OWN)
        for node in order
    ]
    assert loads == sorted(loads)


@given(some_nodes, some_counts, st.randoms(use_true_random=False))
def test_the_order_is_the_same_however_the_nodes_are_listed(
    nodes: list[Node], counts: dict[str, int], random: "object"
) -> None:
    shuffled = list(nodes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(nodes, counts, own=OWN) == choose(shuffled, counts, own=OWN)


@given(st.integers(1, 60))
def test_instances_spread_in_proportion_to_what_nodes_have(count: int) -> None:
    nodes = [a_node(OWN, cpus=1.0), a_node("big", cpus=4.0)]
    counts = {OWN: 0, "big": 0}
    for _ in range(count):
        counts[choose(nodes, counts, own=OWN)[0].id] += 1
    assert abs(counts["big"] - 4 * counts[OWN]) <= 4


def test_of_equals_the_gateways_own_node_comes_first() -> None:
    assert ids(choose([a_node("a"), a_node(OWN)], {}, own=OWN)) == [OWN, "a"]


def test_a_node_that_just_failed_comes_last_and_is_not_left_out() -> None:
    nodes = [a_node(OWN), a_node("a")]
    assert ids(choose(nodes, {"a": 9}, own=OWN, avoid={OWN})) == ["a", OWN]


def test_of_rays_table_those_count_that_are_alive() -> None:
    row = {"NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 2.0, "GPU": 1.0}}
    table = [
        {"NodeID": "b", "Alive": True, **row},
        {"NodeID": "c", "Alive": False, **row, "Resources": {}},
        {"NodeID": "a", "Alive": True, **row, "Resources": {"memory": 1.0}},
    ]
    assert alive(table) == (
        Node(id="a", address="10.0.0.1", cpus=0.0, gpus=0.0),
        Node(id="b", address="10.0.0.1", cpus=2.0, gpus=1.0),
    )


def test_a_node_that_is_gone_is_told_of_once_and_one_that_joins_is_there() -> None:
    answers = [[a_node(OWN), a_node("a")], [a_node(OWN)], [a_node(OWN), a_node("b")]]
    lost: SimpleQueue[str] = SimpleQueue()
    seen = threading.Semaphore(0)

    def read() -> tuple[Node, ...]:
        seen.release()
        return tuple(answers.pop(0) if len(answers) > 1 else answers[0])

    nodes = Nodes(read, lost=lambda node: lost.put(node.id), every_s=0.001)
    assert ids(nodes.now()) == [OWN, "a"]
    nodes.start()
    assert lost.get(timeout=LIMIT_S) == "a"
    for _ in range(5):
        assert seen.acquire(timeout=LIMIT_S)
    nodes.stop()
    assert ids(nodes.now()) == [OWN, "b"]
    assert lost.empty()


def test_nodes_that_cannot_be_asked_for_stay_as_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ray's head may be away for a while, and the nodes run on."""
    again = threading.Semaphore(0)
    first = True

    def read() -> tuple[Node, ...]:
        nonlocal first
        if first:
            first = False
            return (a_node(OWN),)
        again.release()
        raise RuntimeError("no head\nanswers")

    nodes = Nodes(read, every_s=60.0)
    nodes.start()
    for _ in range(2):
        nodes.look()
        assert again.acquire(timeout=LIMIT_S)
    nodes.stop()
    assert ids(nodes.now()) == [OWN]
    assert caplog.text.count("nodes unknown: error=no head answers") == 1  # not at each look
