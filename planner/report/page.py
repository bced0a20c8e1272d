"""The report of a plan: one page that holds everything it shows."""

import base64
import hashlib
from collections.abc import Iterable
from datetime import date

from planner import words
from planner.model import Model
from planner.parts import value_of
from planner.plans import PlanDocument
from planner.profiles import Profile
from planner.report import along, bandwidth, bars
from planner.report.markup import Markup, element, joined
from planner.report.script import JS
from planner.report.style import CSS
from planner.report.tables import plans_table, ranges_table
from planner.report.walk import walk_of


def render(
    document: PlanDocument,
    model: Model,
    device: Profile,
    cloud: Profile,
    *,
    made: date | None = None,
) -> str:
    """The whole page as HTML.

    It asks nothing of the network: its policy forbids all but its own stylesheet and script. It
    reads without the script too.

    Args:
        document: the plan that *model*, *device* and *cloud* led to.
        model: the model.
        device: its profile on the device, scaled as it was for the plan.
        cloud: its profile in the cloud.
        made: the day to name on the page, none where it is None.
    """
    style, script = Markup(CSS), Markup(JS)
    name = f"{document.model} over {document.link.name}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{name}: {document.choice}"),
        element("style", style),
    )
    body = element(
        "body",
        element(
            "main",
            *_headline(document),
            *_bandwidth(document),
            *_along(document, model, device, cloud),
            *_bars(document),
            *_tables(document),
            *_notes(document, device, cloud, made),
        ),
        bandwidth.data(document),
        element("script", script),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _policy(style: str, script: str) -> str:
    """Only what is on the page, and of it only what we wrote."""

    def hashed(source: str) -> str:
        return (
            "'sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() + "'"
        )

    return (
        f"default-src 'none'; img-src data:; style-src {hashed(style)}; "
        f"script-src {hashed(script)}; base-uri 'none'; form-action 'none'"
    )


def _headline(document: PlanDocument) -> Iterable[Markup]:
    chosen = document.plan(document.choice)
    first, rest = words.reason_parts(document)
    yield element("p", "Isthmus plan", class_="over")
    yield element(
        "h1",
        document.model,
        element("small", f" over {words.show_link(document)}, for {document.objective}"),
    )
    yield element(
        "div",
        element("p", element("b", f"{document.choice}: "), first, class_="choice"),
        *(element("p", clause) for clause in rest),
        class_=f"answer {chosen.kind}",
    )
    yield element("dl", *_figures(document), class_="figures")


def _figures(document: PlanDocument) -> Iterable[Markup]:
    objective = document.objective
    chosen = document.plan(document.choice)
    mine = value_of(document, chosen)
    if objective == "throughput" and chosen.fps is not None:
        value, note = f"{chosen.fps:.3g} frames/s", f"{words.show_s(mine)} in the slowest stage"
    elif objective == "cost":
        value, note = f"{mine * 1e6:.3g} USD", "a million requests"
    else:
        value, note = words.show_value(mine, objective), "per request, as expected"
    yield _figure("energy" if objective == "energy" else objective, value, note)
    side = words.better_side(document)
    split = chosen.kind == "split" and side is not None
    yield _figure(
        "against the better single side",
        f"{document.gain:.2f}x" if split else "none",
        f"{side.id}: {words.show_value(value_of(document, side), objective)}"
        if split and side is not None
        else words.gain_in_words(document),
    )
    other = document.plan(document.runner_up)
    against = f"{value_of(document, other) / mine:.2f}x" if mine > 0 else "none at all"
    yield _figure(
        "runner-up",
        against if other.id != document.choice else "none",
        f"{other.id}: {words.show_value(value_of(document, other), objective)}"
        if other.id != document.choice
        else "nothing else is allowed",
    )
    open_ = words.gap(document.certificate)
    cut = document.certificate.method == "minimum cut"
    yield _figure(
        "certificate",
        "proven best" if cut or open_ < 0.005 else f"within {open_:.2g} %",
        f"by {document.certificate.method}",
    )


def _figure(name: str, value: str, note: str) -> Markup:
    return element("div", element("dt", name), element("dd", value, element("small", note)))


def _bandwidth(document: PlanDocument) -> Iterable[Markup]:
    yield element("h2", bandwidth.title(document))
    if document.objective == "energy":
        text = (
            "Every plan's latency is a line; which plan draws least energy at a bandwidth is "
            "the band below. "
        )
    else:
        text = "Every plan is a line; the shaded one on top is the best of them at each bandwidth. "
    dashed = "Baselines are dashed; dotted lines in grey are no candidates."
    yield element("p", f"{text}{dashed} The choice stays the best {words.stays_best(document)}.")
    yield element(
        "figure",
        bandwidth.chart(document),
        bandwidth.chart(document, narrow=True),
        element("p", class_="readout", aria_live="polite"),
    )


def _along(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile
) -> Iterable[Markup]:
    walk = walk_of(document, model, device, cloud)
    yield element("h2", "Bytes and time along the graph")
    yield element(
        "p",
        "At each place between two ops: what would cross there, the work on either side of it, "
        "and the latency of cutting there. The choice's own side comes first.",
    )
    yield element(
        "figure",
        along.chart(document, walk),
        along.chart(document, walk, narrow=True),
    )


def _bars(document: PlanDocument) -> Iterable[Markup]:
    yield element("h2", "Where the time goes")
    yield element(
        "p", "The choice, the runner-up and the honest others, one request after another."
    )
    yield bars.keys()
    yield element("figure", bars.chart(document), bars.chart(document, narrow=True))


def _tables(document: PlanDocument) -> Iterable[Markup]:
    yield element("h2", "All plans")
    yield element(
        "p",
        "Milliseconds per request, the best plan first. USD/M: US dollars per million requests; "
        "MB here: memory on the device.",
    )
    yield plans_table(document)
    yield element("h2", "The best plan by bandwidth")
    if text := words.table_in_words(document):
        yield element("p", f"The table leaves some plans out: {text}.")
    yield ranges_table(document)


def _notes(
    document: PlanDocument, device: Profile, cloud: Profile, made: date | None
) -> Iterable[Markup]:
    notes: list[tuple[str, str]] = [
        ("certificate", words.certificate_in_words(document.certificate, document.objective)),
        ("gain", words.gain_in_words(document)),
    ]
    if text := words.sending_in_words(document):
        notes.append(("sent", text))
    if text := words.mixture_in_words(document):
        notes.append(("frames in flight", text))
    if document.cascade is not None:
        notes.append(("cascade", words.cascade_in_words(document.cascade)))
    if document.limits:
        notes.append(("limits", "; ".join(document.limits)))
    if text := words.load_in_words(document):
        notes.append(("the cloud's load", text))
    notes += [
        ("device", _machine(device)),
        ("cloud", _machine(cloud)),
        ("model", joined(f"{document.model}, SHA-256 ", element("code", document.digest))),
    ]
    if made is not None:
        notes.append(("made", made.isoformat()))
    yield element("h2", "Proof and provenance")
    yield element(
        "dl",
        *(joined(element("dt", name), element("dd", text)) for name, text in notes),
        class_="notes",
    )


def _machine(profile: Profile) -> str:
    machine = profile.machine
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    gpu = f" with {machine.accelerator}" if machine.accelerator else ""
    taken = f", profiled {profile.taken}" if profile.taken else ""
    return (
        f"{machine.cpu}{gpu} ({machine.cores} cores, {threads}), ONNX Runtime "
        f"{machine.onnxruntime}{taken}; the whole model takes {words.show_s(profile.whole_s)}"
    )
