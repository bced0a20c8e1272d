"""Figures and findings of a plan document, in words."""

from planner.cascade.document import Cascade
from planner.parts import value_of
from planner.plans import Certificate, Plan, PlanDocument, Range

MEGABIT_BYTES = 1e6 / 8
"""Bytes per second in one Mbps."""

_TAKES = {"latency": "takes", "energy": "draws", "cost": "costs", "throughput": "takes"}


def show_s(seconds: float) -> str:
    """Three digits, in the unit that suits: ``0.13 ms``, ``119 ms``, ``1.24 s``."""
    if seconds >= 0.9995:
        return f"{_digits(seconds)} s"
    if 0 < seconds < 0.9995e-4:
        return f"{_digits(seconds * 1e6)} µs"
    return f"{_digits(seconds * 1e3)} ms"


def show_bytes(nbytes: float) -> str:
    """``12 B``, ``150 kB``, ``3.21 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{_digits(nbytes / size)} {unit}"
    return f"{nbytes:.0f} B"


def show_rate(bps: float) -> str:
    """Bytes per second as megabits: ``5.85 Mbps``."""
    return f"{_digits(bps / MEGABIT_BYTES, 4)} Mbps"


def show_value(value: float, objective: str) -> str:
    """A value of :func:`planner.parts.value_of` with its unit."""
    match objective:
        case "energy":
            return f"{_digits(value)} J"
        case "cost":
            return f"{_digits(value * 1e6)} USD a million"
        case "throughput":
            return f"{show_s(value)} a frame"
        case _:
            return show_s(value)


def show_link(document: PlanDocument) -> str:
    """``LTE (5.85 Mbps up, 50 ms)``; the name alone where it is the figures already."""
    link = document.link
    figures = f"{show_rate(link.up_bps)} up, {show_s(link.rtt_s)}"
    return figures if "bps" in link.name.lower() else f"{link.name} ({figures})"


def shorten(text: str, most: int) -> str:
    """*text* with its middle left out where it is longer than *most* characters."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[-end:]}"


def where(plan: Plan) -> str:
    """``device``, ``cloud``, or how many of the network's ops run on which side."""
    match plan.kind:
        case "edge":
            return "device"
        case "cloud":
            return "cloud"
        case "split":
            return f"{plan.ops_on_device}|{plan.ops - plan.ops_on_device} ops"


def crosses(plan: Plan, most: int | None = None) -> str:
    """What crosses and as which codec, the tensors beyond *most* only counted."""
    told = [f"{each.tensor} ({each.codec})" for each in plan.crossing[:most]]
    more = len(plan.crossing) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def best_range(document: PlanDocument) -> Range:
    """The stretch of bandwidths around the link in which the choice stays the best."""
    up_bps = document.link.up_bps
    low = high = up_bps
    mine = [each for each in document.table if each.plan == document.choice]
    for each in mine:
        if each.from_bps <= high and low <= each.to_bps:
            low, high = min(low, each.from_bps), max(high, each.to_bps)
    return Range(from_bps=low, to_bps=high, plan=document.choice)


def stays_best(document: PlanDocument) -> str:
    """That stretch in words."""
    found = best_range(document)
    if found.from_bps == found.to_bps:
        return f"{document.choice} is the best at this link's bandwidth and on no stretch around it"
    first, last = document.table[0].from_bps, document.table[-1].to_bps
    if found.from_bps <= first and last <= found.to_bps:
        return f"at every bandwidth from {show_rate(first)} to {show_rate(last)}"
    if found.from_bps <= first:
        return f"at every bandwidth below {show_rate(found.to_bps)}"
    if last <= found.to_bps:
        return f"at every bandwidth above {show_rate(found.from_bps)}"
    return f"from {show_rate(found.from_bps)} to {show_rate(found.to_bps)}"


def table_in_words(document: PlanDocument) -> str:
    """What the plan table leaves out; empty where it names every best plan."""
    if not document.table_gap:
        return ""
    share = f"{document.table_gap:.2%}" if document.table_gap >= 1e-4 else "0.01%"
    return (
        f"it names the {len({each.plan for each in document.table})} plans that matter most; no "
        f"other is better at any bandwidth by more than {share}"
    )


def better_side(document: PlanDocument) -> Plan | None:
    """The better of device alone and cloud alone that the choice is measured against."""
    single = [p for p in document.plans if p.kind != "split" and not p.refused]
    return min(single, key=lambda plan: value_of(document, plan), default=None)


def gain_in_words(document: PlanDocument) -> str:
    """The gain over the better single side, or that there is none to be had."""
    side = better_side(document)
    if side is None:
        return "neither the device alone nor the cloud alone is allowed: there is no side to beat"
    if side.id == document.choice:
        return f"{document.choice} is itself the better single side: a split gains nothing here"
    value = show_value(value_of(document, side), document.objective)
    if document.plan(document.choice).kind != "split":
        return f"{side.id} ({value}) is as good"
    return (
        f"{document.gain:.2f}x: the better single side, {side.id}, "
        f"{_TAKES[document.objective]} {value}"
    )


def certificate_in_words(certificate: Certificate, objective: str) -> str:
    """What was proved, and to which precision."""
    cost, bound = (_exact(v, certificate.unit) for v in (certificate.cost, certificate.bound))
    takes = _TAKES[objective]
    frame = " a frame" if objective == "throughput" else ""
    by = f"the {certificate.method} proves that no plan {takes} less than {bound}{frame}"
    if certificate.method == "minimum cut":
        finest = _exact(certificate.resolution, certificate.unit, digits=1)
        rest = f"all roundings together are below {finest}"
    else:
        left = gap(certificate)
        rest = "the two agree" if left < 0.005 else f"what is left open is {left:.2g} %"
    return f"priced again from the profiles the choice {takes} {cost}{frame}; {by}; {rest}"


def gap(certificate: Certificate) -> float:
    """Percent of the cost between the choice and what is proved that nothing beats."""
    if certificate.cost <= 0:
        return 0.0
    return max(100 * (certificate.cost - certificate.bound) / certificate.cost, 0.0)


def mixture_in_words(document: PlanDocument) -> str:
    """How frames in flight are best shared out among plans; empty for other objectives."""
    mixture = document.mixture
    if mixture is None:
        return ""
    alone = document.plan(document.choice).fps or 0.0
    parts = " + ".join(f"{share.share:.1%} {share.plan}" for share in mixture.shares)
    if len(mixture.shares) == 1:
        return f"{parts}: {mixture.fps:.2f} frames/s, and no mixture passes {mixture.most_fps:.2f}"
    against = f" ({mixture.fps / alone:.2f}x {document.choice} alone)" if alone else ""
    return (
        f"{parts} pass {mixture.fps:.2f} frames/s{against}; no mixture passes more than "
        f"{mixture.most_fps:.2f}"
    )


def sending_in_words(document: PlanDocument) -> str:
    """How the choice is sent while the device still works; empty where that saves nothing."""
    plan, up_bps = document.plan(document.choice), document.link.up_bps
    hidden_s = plan.hidden_s(up_bps)
    if not hidden_s:
        return ""
    first = plan.chunks[0]
    return (
        f"in {len(plan.chunks)} chunks, each as soon as it is ready, the first after "
        f"{show_s(first.device_s + first.encode_s)}: {show_s(hidden_s)} of the way up pass while "
        f"the device still works ({show_s(_at_end_s(document, plan))} if all were sent at the "
        "end)"
    )


def load_in_words(document: PlanDocument) -> str:
    """What the cloud's load adds to every request that goes there; empty where it is idle."""
    load = document.load
    if not load.wait_s:
        return ""
    cold = ""
    if load.cold_chance:
        cold = f", {load.cold_chance:.1%} of the requests wait {show_s(load.cold_s)} for a start"
    return f"{show_s(load.wait_s)} a request: queue {show_s(load.queue_s)}{cold}"


def cascade_in_words(cascade: Cascade) -> str:
    """Who answers when, what that takes on average, and how sure its figures are."""
    return (
        f"{cascade.small} answers on the device where its {cascade.score} is at least "
        f"{cascade.threshold:.3g}, {cascade.share_on_device:.0%} of the requests; the rest follow "
        f"{cascade.plan}: {cascade.expected_latency_s * 1e3:.1f} ms and "
        f"{cascade.expected_upload_bytes / 1e3:.1f} kB on average, {cascade.metric} "
        f"{cascade.accuracy:.1%}, a drop of {cascade.drop:.2%} (at most {cascade.drop_high:.1%} "
        f"with 95 % confidence, on {cascade.samples} samples that did not choose it)"
    )


def reason_parts(document: PlanDocument) -> tuple[str, tuple[str, ...]]:
    """The reason's first clause and the others."""
    first, *rest = document.reason.split("; ")
    return first, tuple(rest)


def _at_end_s(document: PlanDocument, plan: Plan) -> float:
    """Seconds that *plan* takes over the document's link when nothing is sent ahead."""
    link = document.link
    return plan.total_s(link.up_bps, link.rtt_s, link.down_bps) + plan.hidden_s(link.up_bps)


def _digits(value: float, digits: int = 3) -> str:
    """Up to *digits* significant digits, never as a power of ten."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text and value >= 1 else text


def _exact(value: float, unit: str, digits: int = 6) -> str:
    match unit:
        case "s":
            return f"{value * 1e3:.{digits}g} ms"
        case "USD":
            return f"{value * 1e6:.{digits}g} USD a million"
        case _:
            return f"{value:.{digits}g} {unit}"
