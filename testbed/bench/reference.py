"""Slow and simple answers to the cut's question, to hold the fast one to."""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace

import networkx as nx

from planner.graph import Graph, Op, TensorInfo
from planner.rates import Rates
from planner.solve import tiers
from planner.solve.mincut import Prices, cost_of
from planner.solve.overlap import AHEAD_BYTES
from planner.solve.problem import Chosen, Problem
from planner.solve.way import Way


def by_brute_force(graph: Graph, prices: Prices) -> float:
    """The least cost over all subsets of ops; those that are no ideal cost infinitely much."""
    everything = range(len(graph.ops))
    heads = itertools.chain.from_iterable(
        itertools.combinations(everything, k) for k in range(len(graph.ops) + 1)
    )
    return min(cost_of(graph, prices, frozenset(head)) for head in heads)


def by_networkx(graph: Graph, prices: Prices, *, unit_s: float = 1e-3) -> float:
    """The same as an ordinary minimum cut in networkx, in whole numbers of *unit_s*.

    It knows no ``stay``. Whole numbers, because with floats networkx can return a partition that
    is not minimal.
    """
    flow: nx.DiGraph[object] = nx.DiGraph()

    def arc(start: object, end: object, price: float) -> None:
        old = flow.get_edge_data(start, end, {"capacity": 0}).get("capacity", math.inf)
        if math.isinf(old + price):
            flow.add_edge(start, end)  # no capacity is infinite capacity
        else:
            flow.add_edge(start, end, capacity=old + round(price / unit_s))

    flow.add_nodes_from(["source", "sink"])
    arc("source", "trip", prices.round_trip)
    for i, op in enumerate(graph.ops):
        arc(i, "sink", prices.device[i])
        back = [prices.answer[name] for name in op.outputs if name in graph.answers]
        arc("source", i, prices.cloud[i] + sum(back))
        arc("trip", i, math.inf)
        for name in op.inputs:
            arc(("tensor", name), i, math.inf)
            if name in graph.producer:
                arc(i, graph.producer[name], math.inf)
    for name in graph.consumers:
        arc(graph.producer.get(name, "source"), ("tensor", name), prices.crossing[name])
    value, _ = nx.minimum_cut(flow, "source", "sink")
    return float(value) * unit_s


def random_case(rng: random.Random, most_ops: int) -> tuple[Graph, Prices]:
    """A random DAG with tensors of several readers and ops that may be faster on the device."""
    count = rng.randint(1, most_ops)
    ops = []
    for i in range(count):
        before = ["x", *(f"t{j}" for j in range(i))]
        inputs = tuple(rng.sample(before, rng.randint(1, min(3, len(before)))))
        ops.append(Op(name=f"op{i}", kind="Op", inputs=inputs, outputs=(f"t{i}",)))
    names = ["x", *(f"t{i}" for i in range(count))]
    read = {name for op in ops for name in op.inputs}
    answers = tuple(name for name in names[1:] if name not in read or rng.random() < 0.1)
    graph = Graph(
        ops=tuple(ops),
        tensors={n: TensorInfo(name=n, datatype="FP32", shape=(1,)) for n in names},
        sources=("x",),
        answers=answers,
    )
    return graph, random_prices(rng, graph)


def random_prices(rng: random.Random, graph: Graph) -> Prices:
    """Whole milliseconds, now and then an infinite one."""

    def seconds() -> float:
        return rng.randint(0, 1000) / 1000

    return Prices(
        device=tuple(seconds() for _ in graph.ops),
        cloud=tuple(seconds() for _ in graph.ops),
        crossing={n: math.inf if rng.random() < 0.05 else seconds() for n in graph.consumers},
        answer={name: seconds() for name in graph.answers},
        round_trip=seconds(),
        stay=rng.choice((0.0, seconds())),
    )


def every_plan(problem: Problem) -> Iterator[Chosen]:
    """Every ideal with every way for each of its boundary tensors."""
    everything = range(len(problem.graph.ops))
    for size in range(len(problem.graph.ops) + 1):
        for ops in itertools.combinations(everything, size):
            head = frozenset(ops)
            if not problem.graph.is_ideal(head):
                continue
            names = problem.boundary(head)
            for ways in itertools.product(*(problem.ways[name] for name in names)):
                yield problem.use(head, dict(zip(names, ways, strict=True)))


def by_every_placement(graph: Graph, prices: tiers.TierPrices) -> float:
    """The least cost over every tier for every op."""
    places = itertools.product(range(prices.hops + 1), repeat=len(graph.ops))
    return min(tiers.cost_of(graph, prices, each) for each in places)


def random_problem(rng: random.Random, most_ops: int) -> Problem:
    """A random DAG with up to three codecs a tensor, weights and live bytes."""
    graph, _ = random_case(rng, most_ops)

    def seconds() -> float:
        return rng.randint(0, 100) / 1000

    def way(codec: int) -> Way:
        return Way(
            codec=f"codec{codec}",
            nbytes=rng.randint(1, 1000),
            encode_s=seconds() / 10,
            decode_s=seconds() / 10,
        )

    return Problem(
        graph=graph,
        device_s=tuple(seconds() for _ in graph.ops),
        cloud_s=tuple(seconds() for _ in graph.ops),
        ways={name: tuple(map(way, range(rng.randint(1, 3)))) for name in graph.consumers},
        answer_bytes={name: rng.randint(1, 100) for name in graph.answers},
        weight_bytes=tuple(rng.randint(0, 50) for _ in graph.ops),
        live_bytes=tuple(rng.randint(0, 50) for _ in graph.ops),
    )


def sent_ahead(rng: random.Random, problem: Problem, message_s: float) -> Problem:
    """*problem* with one answer, and with tensors worth sending while the head works.

    Where an answer is made before the cut, the ops that only it needs are in no row of the
    programme (:mod:`planner.solve.makespan`), and its bound is not tight.
    """
    graph = problem.graph
    join = Op(name="join", kind="Concat", inputs=graph.answers, outputs=("all",))
    last = Way(codec="codec0", nbytes=AHEAD_BYTES, encode_s=0.001, decode_s=0.001)

    def large(way: Way) -> Way:
        nbytes = AHEAD_BYTES + 97 * way.nbytes
        return replace(way, nbytes=nbytes, slices=rng.choice([1, 1, 2, 5]))

    ways = {name: tuple(map(large, each)) for name, each in problem.ways.items()}
    return replace(
        problem,
        graph=Graph(
            ops=(*graph.ops, join),
            tensors={**graph.tensors, "all": TensorInfo(name="all", datatype="FP32", shape=(1,))},
            sources=graph.sources,
            answers=("all",),
        ),
        device_s=(*problem.device_s, 0.01),
        cloud_s=(*problem.cloud_s, 0.001),
        ways=dict.fromkeys(graph.answers, (last,)) | ways,
        answer_bytes={"all": 10},
        weight_bytes=(*problem.weight_bytes, 0),
        live_bytes=(*problem.live_bytes, 0),
        message_s=message_s,
    )


def random_latency(rng: random.Random) -> Rates:
    """Seconds, over a link of 10 kB/s."""
    return Rates(
        device=1.0,
        cloud=1.0,
        up=1e-4,
        down=1e-4,
        trip=rng.randint(0, 100) / 1000,
        stay=rng.randint(0, 100) / 1000,
    )


def random_tier_prices(rng: random.Random, graph: Graph, count: int) -> tiers.TierPrices:
    """Whole milliseconds on *count* tiers, now and then an infinite crossing."""

    def seconds() -> float:
        return rng.randint(0, 1000) / 1000

    def crossing() -> float:
        return math.inf if rng.random() < 0.05 else seconds()

    hops = range(count - 1)
    return tiers.TierPrices(
        run=tuple(tuple(seconds() for _ in graph.ops) for _ in range(count)),
        crossing=tuple({name: crossing() for name in graph.consumers} for _ in hops),
        answer=tuple({name: seconds() for name in graph.answers} for _ in hops),
        round_trip=tuple(seconds() for _ in hops),
    )
