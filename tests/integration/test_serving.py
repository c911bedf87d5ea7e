"""What clients and growth teams see over HTTP, on one running engine: one worker, two servers."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from math import sqrt
from typing import Any

import msgspec
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from bandits.slates import draw_slate, slate_propensities
from headwater.embedded import EmbeddedRuntime
from serving.metrics import ServerMetrics
from serving.relaw import law_of, problem_of, slots_of
from serving.requests import RecommendationAnswer
from state.events import Decision, Item
from tests.integration.rig import (
    Processes,
    Rig,
    click_on,
    engine_settings,
    genres_of,
    make_items,
    now_ms,
    stamp,
    until,
)

GENRES = ("drama", "comedy", "crime", "romance", "jazz")
EACH = 20
SECOND_MS = 1000
SIGMAS = 4.5


@pytest.fixture(scope="module")
def engine(runtime: EmbeddedRuntime) -> Iterator[Processes]:
    """One worker and two servers for all tests of this file."""
    settings = engine_settings(runtime.kafka, runtime.redis, f"t{uuid.uuid4().hex[:12]}")
    with Processes(settings) as processes:
        yield processes


@pytest.fixture
async def shared(engine: Processes) -> AsyncIterator[Rig]:
    """The engine of this file, started by whoever comes first."""
    async with Rig(engine) as rig:
        if not engine.children:
            await rig.start(servers=2)
            await rig.catalogue(make_items(GENRES, EACH))
            await _background(rig)
        yield rig


async def _background(rig: Rig) -> None:
    """Sessions of many visitors: most love drama, some comedy, a few each of the other genres."""
    lovers = {"drama": 12, "comedy": 8, "crime": 4, "romance": 4, "jazz": 4}
    events = [
        click_on(f"{genre}-lover-{number}", f"{genre}-{(number + step) % EACH}")
        for step in range(5)
        for genre, count in lovers.items()
        for number in range(count)
    ]
    await rig.publish(*events)
    await rig.counts(clicks=len(events))


# -- what a click does


async def test_a_click_on_an_item_of_a_new_genre_changes_the_visitors_next_slate(shared: Rig) -> None:
    rig = shared
    await _put(rig, rig.api, "quiet", {"scheme": "greedy"})
    for number in range(3):
        last = await _click(rig, "fan", f"drama-{number}")
    before = await rig.ask("fan", surface="quiet", after=last, wait_ms=1000)
    assert (before.stale, before.rung) == (False, "personal")
    assert genres_of(before).most_common(1)[0][0] == "drama"

    other = rig.processes.apis[1]
    last = await _click(rig, "fan", "jazz-2", api=other)
    after = await rig.ask("fan", surface="quiet", after=last, wait_ms=1000)
    assert (after.stale, after.rung) == (False, "personal")
    new = {item.item_id for item in after.items} - {item.item_id for item in before.items}
    assert any(item_id.startswith("jazz-") for item_id in new), f"{before.items} then {after.items}"
    assert genres_of(after)["jazz"] > genres_of(before)["jazz"]
    assert "jazz-2" not in {item.item_id for item in after.items}


async def _click(rig: Rig, user: str, item_id: str, api: str | None = None) -> str:
    """Click through the gateway; returns the freshness token."""
    event = {**stamp(), "session_id": f"{user}-session", "user_id": user, "item_id": item_id}
    (verdict,) = await rig.gateway(("clicks", event), api=api)
    assert verdict["accepted"], verdict
    return str(verdict["event_id"])


# -- the catalogue


async def test_a_new_item_is_retrievable_within_a_second_of_its_catalogue_event(shared: Rig) -> None:
    rig = shared
    await _click(rig, "listener", "jazz-1")
    for number in range(5):
        item = Item(
            **stamp(),
            item_id=f"fresh-{number}",
            title="jazz number fresh",
            categories=["jazz"],
            attributes={"genre": "jazz"},
            published_at=now_ms(),
        )
        took = await _until_shown(rig, item)
        assert took < 1.0, f"shown {took:.2f} s after it was published"


async def _until_shown(rig: Rig, item: Item) -> float:
    """Publish an item and ask both servers for its category until it is in their slates."""
    published = time.monotonic()
    await rig.publish(item)
    waiting = set(rig.processes.apis)

    async def is_shown() -> bool:
        for api in sorted(waiting):
            wishes = {"surface": "shelf", "categories": ["jazz"], "k": 50}
            answer = await rig.ask("listener", api=api, **wishes)
            if item.item_id in {shown.item_id for shown in answer.items}:
                waiting.discard(api)
        return not waiting

    await until(is_shown, f"{item.item_id} is shown on every server")
    return time.monotonic() - published


async def test_a_removed_item_never_appears_again(shared: Rig) -> None:
    rig = shared
    doomed = "comedy-0"
    fans = [f"mourner-{number}" for number in range(12)]
    await rig.publish(*(click_on(fan, "comedy-1") for fan in fans))
    await rig.publish(*(click_on(fan, doomed) for fan in fans[:6]))
    shown = [await rig.ask(fan, surface="grave", k=50) for fan in fans[6:]]
    assert any(doomed in _ids(answer) for answer in shown)

    await rig.send("items", None, doomed.encode(), 0)
    removed_at = time.monotonic()
    before = (await rig.folded()).items.get("removed_items", 0)

    async def is_removed() -> bool:
        return (await rig.folded()).items.get("removed_items", 0) >= max(1, before)

    await until(is_removed, "the removal is folded")
    await asyncio.sleep(max(0.0, removed_at + 1.0 - time.monotonic()))
    # It stays what most visitors like, and what servers started later find in trends and sessions.
    await rig.publish(*(click_on(f"{fan}-again", doomed) for fan in fans))
    last = click_on("mourner-0", "comedy-2")
    await rig.publish(last)
    late = rig.processes.server()
    try:
        await rig.ready(late, items=1)
        assert not (await rig.ask("mourner-0", after=last.event_id, wait_ms=1000)).stale
        for api in rig.processes.apis:
            for fan in [*fans, "stranger"]:
                answer = await rig.ask(fan, api=api, surface="grave", k=50)
                assert answer.items
                assert doomed not in _ids(answer), f"{answer.rung} of {api}"
            everything = [i.item_id for i in make_items(GENRES, EACH) if i.item_id != doomed]
            assert doomed not in _ids(await rig.ask("stranger", api=api, surface="grave", exclude=everything))
    finally:
        rig.processes.children[-1].terminate()
        rig.processes.apis.remove(late)


def _ids(answer: RecommendationAnswer) -> set[str]:
    return {item.item_id for item in answer.items}


# -- exploration


async def test_a_changed_exploration_rate_is_in_force_on_every_server_within_a_second(shared: Rig) -> None:
    rig = shared
    asking = asyncio.Event()
    answers: dict[str, tuple[str, RecommendationAnswer]] = {}

    async def ask_on(api: str) -> None:
        number = 0
        while not asking.is_set():
            number += 1
            answer = await rig.ask(f"grower-{number % 11}", api=api, surface="home")
            answers[answer.decision_id] = (api, answer)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for api in rig.processes.apis:
            group.create_task(ask_on(api))
        first = await _put(rig, rig.api, "home", {"rate": 0.4, "why": "a test", "forced": True})
        put_at = await _in_force_since(rig, first["version"])
        await _everywhere(answers, first["version"], 40)
        printed = await rig.command("explore", "--surface", "home", "--rate", "0.2")
        second = first["version"] + 1
        assert f"version {second}" in printed
        told_at = await _in_force_since(rig, second)
        await _everywhere(answers, second, 120)
        asking.set()

    logged = [d for d in await rig.events("decisions", len(answers)) if d.event_id in answers]
    assert len(logged) == len(answers)
    for decision in logged:
        after_put = put_at + SECOND_MS < decision.occurred_at < told_at
        after_told = decision.occurred_at > told_at + SECOND_MS
        if after_put or after_told:
            wished = second if after_told else first["version"]
            assert decision.versions.exploration == wished, f"{decision.occurred_at - told_at} ms later"
        assert decision.versions.exploration == answers[decision.event_id][1].exploration_version
        _assert_replays(decision)
    for version, rate in ((first["version"], 0.4), (second, 0.2)):
        _assert_share([d for d in logged if d.versions.exploration == version], rate)


async def test_a_changed_ranking_is_in_force_on_the_next_slate(shared: Rig) -> None:
    rig = shared
    address = f"{rig.api}/v1/ranking/varied"
    async with rig.http.put(address, json={"category_cap": 1, "diversity": 0.5}) as changed:
        assert (changed.status, changed.headers["ETag"]) == (200, '"1"')
    answer = await rig.ask("varied-visitor", surface="varied", k=len(GENRES))
    assert set(genres_of(answer).values()) == {1}
    assert len(answer.items) == len(GENRES)
    printed = await rig.command("ranking", "--surface", "varied", "--no-repeat", "3600", "--why", "a test")
    assert "version 2, 1 of a category, diversity 0.5, no freshness boost, no repeats for 1 h" in printed
    async with rig.http.put(address, json={"diversity": 1.0}, headers={"If-Match": '"1"'}) as stale:
        assert stale.status == 412
    async with rig.http.put(address, json={"category_cap": 99}) as wrong:
        assert (wrong.status, "category_cap" in await wrong.text()) == (400, True)


async def _in_force_since(rig: Rig, version: int) -> int:
    """Return when the control event that made this version of the home surface was published, ms."""

    def home(records: list[Any]) -> list[Any]:
        return [record for record in records if record.key == b"exploration/home"]

    records = await rig.read("control", lambda found: len(home(found)) >= version)
    return int(home(records)[version - 1].timestamp)


async def _everywhere(answers: dict[str, tuple[str, RecommendationAnswer]], version: int, each: int) -> None:
    """Wait until every server has given so many answers under a version, for more than a second."""
    started = time.monotonic()

    async def is_everywhere() -> bool:
        apis = [api for api, answer in answers.values() if answer.exploration_version == version]
        enough = all(apis.count(api) >= each for api in {api for api, _ in answers.values()})
        return enough and time.monotonic() > started + 1.5

    await until(is_everywhere, f"answers of every server under version {version}")


def _assert_replays(decision: Decision) -> None:
    """The logged decision alone gives the same slate, and every propensity to 1e-12."""
    problem, law, indices = problem_of(decision), law_of(decision), slots_of(decision)
    propensities = np.array([slot.propensity for slot in decision.slots])
    assert np.abs(slate_propensities(problem, indices, law) - propensities).max() <= 1e-12
    drawn = draw_slate(problem, law, decision.seed)
    assert drawn.indices.tolist() == indices.tolist()
    assert drawn.explored.tolist() == [slot.explored for slot in decision.slots]


def _assert_share(decisions: list[Decision], rate: float) -> None:
    """The share of explored slots is what a coin of that rate gives."""
    explored = [slot.explored for decision in decisions for slot in decision.slots]
    bound = SIGMAS * sqrt(rate * (1 - rate) / len(explored))
    assert len(explored) >= 400
    assert abs(np.mean(explored) - rate) < bound, f"{np.mean(explored):.3f} of {len(explored)} slots"


async def _put(rig: Rig, api: str, surface: str, change: dict[str, Any]) -> dict[str, Any]:
    async with rig.http.put(f"{api}/v1/exploration/{surface}", json=change) as answer:
        assert answer.status == 200, await answer.text()
        document: dict[str, Any] = await answer.json()
        return document


# -- the gateway and the edges of HTTP


async def test_the_gateway_gives_each_event_its_verdict(shared: Rig) -> None:
    rig = shared
    visitor = {"session_id": "v-session", "user_id": "v"}
    last = {**stamp(), **visitor, "item_id": "drama-1", "kind": "like"}
    listed = [{"item_id": "a", "position": 0}]
    good = [
        ("clicks", {**stamp(), **visitor, "item_id": "drama-1"}),
        (
            "impressions",
            {**stamp(), **visitor, "surface": "home", "items": listed},
        ),
        ("users", {**stamp(), "user_id": "v", "attributes": {"age": 30}}),
        ("items", {**stamp(), "item_id": "posted-1", "categories": ["crime"]}),
        ("feedback", {**last, "a field of tomorrow": 1}),
    ]
    bad: list[tuple[str, dict[str, Any], str, str]] = [
        ("clicks", {**stamp(), "user_id": "v", "item_id": "a"}, "missing_field", "session_id"),
        ("clicks", {**stamp(), **visitor, "item_id": 5}, "wrong_type", "item_id"),
        ("clicks", {**stamp(), **visitor, "item_id": "a", "occurred_at": 3}, "out_of_bounds", "occurred_at"),
        (
            "clicks",
            {**stamp(), **visitor, "item_id": "a", "occurred_at": now_ms() + 3_600_000},
            "clock_skew",
            "occurred_at",
        ),
        ("clicks", {**stamp(), **visitor, "user_id": "s:v", "item_id": "a"}, "reserved_id", "user_id"),
        ("feedback", {**stamp(), **visitor, "item_id": "a", "kind": "LOUD"}, "out_of_bounds", "kind"),
        ("users", {**stamp(), "user_id": "s:v"}, "reserved_id", "user_id"),
        ("users", {**stamp(), "user_id": "v", "consent": "perhaps"}, "unknown_value", "consent"),
        (
            "impressions",
            {**stamp(), **visitor, "surface": "home", "items": [{"item_id": "a", "position": -1}]},
            "out_of_bounds",
            "items[0].position",
        ),
        ("items", {**stamp(), "item_id": "x" * 200}, "out_of_bounds", "item_id"),
        ("items", {**stamp(), "item_id": "a", "title": "x" * 40_000}, "too_large", "value"),
    ]
    mixed = [pair for two in zip(good, [one[:2] for one in bad], strict=False) for pair in two]
    mixed += [one[:2] for one in bad[len(good) :]]
    verdicts = await rig.gateway(*mixed)
    assert len(verdicts) == len(mixed)
    expected = {id(event): (reason, field) for _, event, reason, field in bad}
    for (_, event), verdict in zip(mixed, verdicts, strict=True):
        reason, field = expected.get(id(event), ("", ""))
        assert verdict["accepted"] is (not reason), verdict
        assert (verdict.get("reason", ""), verdict.get("field", "")) == (reason, field), verdict
        assert verdict.get("event_id", "") == ("" if reason else event["event_id"])
        assert not reason or field in verdict["detail"], verdict
    assert not (await rig.ask("v", after=last["event_id"], wait_ms=1000)).stale

    async def all_folded() -> bool:
        record = await rig.subject("v")
        return (record.clicks, record.impressions, record.attributes) == (1, 1, {"age": 30})

    await until(all_folded, "every accepted event in the visitor's record")


POST_RECOMMENDATIONS: list[tuple[Any, str]] = [
    ({"user_id": "v"}, "session_id"),
    ({"session_id": ""}, "session_id"),
    ({"session_id": "v", "k": 0}, "k"),
    ({"session_id": "v", "k": 51}, "k"),
    ({"session_id": "v", "k": "ten"}, "k"),
    ({"session_id": "v", "surface": "NOT A NAME"}, "surface"),
    ({"session_id": "v", "exclude": [7]}, "exclude[0]"),
    ({"session_id": "v", "wait_ms": 1001}, "wait_ms"),
    ({"session_id": "v", "kk": 3}, "kk"),
]
OTHERS: list[tuple[str, str, Any, str]] = [
    ("GET", "/v1/recommendations", None, "session_id"),
    ("GET", "/v1/recommendations?session_id=v&k=99", None, "k"),
    ("GET", "/v1/recommendations?session_id=v&k=ten", None, "k"),
    ("PUT", "/v1/exploration/home", {"rate": 0.9}, "rate"),
    ("PUT", "/v1/exploration/home", {"rates": 0.1}, "rates"),
    ("PUT", "/v1/exploration/home", {}, "document"),
    ("PUT", "/v1/exploration/home", {"scheme": "wild"}, "scheme"),
    ("PUT", "/v1/exploration/NOT-A-NAME", {"rate": 0.1}, "surface"),
    ("POST", "/v1/events", {"events": []}, "events"),
    ("POST", "/v1/events", {"events": [{"kind": "decisions", "event": {}}]}, "events[0].kind"),
    ("POST", "/v1/events", {"event": []}, "event"),
]


async def test_bad_requests_are_answered_with_a_problem_that_names_the_field(shared: Rig) -> None:
    rig = shared
    asked = [("POST", "/v1/recommendations", body, field) for body, field in POST_RECOMMENDATIONS] + OTHERS
    for method, path, body, field in asked:
        problem = await _problem(rig, method, path, 400, json=body)
        assert problem.get("field") == field, f"{method} {path} {body}: {problem}"
        assert problem["detail"]
        assert problem["title"]
    for raw in (b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000):
        headers = {"content-type": "application/json"}
        await _problem(rig, "POST", "/v1/recommendations", 400, data=raw, headers=headers)
    await _problem(rig, "GET", "/v1/nowhere", 404)
    await _problem(rig, "DELETE", "/v1/recommendations", 405)
    await _problem(rig, "POST", "/v1/events", 413, data=BytesIO(b" " * 3_000_000))


async def _problem(rig: Rig, method: str, path: str, status: int, **options: Any) -> dict[str, Any]:
    async with rig.http.request(method, rig.api + path, **options) as answer:
        text = await answer.text()
        assert answer.status == status, f"{method} {path} {options}: {answer.status} {text}"[:500]
        assert answer.content_type == "application/problem+json", text
        problem: dict[str, Any] = msgspec.json.decode(text)
        assert problem["status"] == status
        return problem


# -- why


async def test_every_decision_explains_itself_until_its_visitor_is_erased(shared: Rig) -> None:
    rig = shared
    users = [f"asks-why-{number}" for number in range(8)]
    for user in users:
        last = await _click(rig, user, f"crime-{users.index(user)}")
    await rig.ask(users[-1], after=last, wait_ms=1000)
    answers = [await rig.ask(user, surface="why", k=5) for user in users for _ in range(5)]
    for answer in answers:
        told = await _folded(rig, f"/v1/decisions/{answer.decision_id}")
        assert [slot["item_id"] for slot in told["slots"]] == [item.item_id for item in answer.items]
        for slot, item in zip(told["slots"], answer.items, strict=True):
            stages, part = slot["stages"], slot["propensity"]
            assert sum(slot["contributions"].values()) == pytest.approx(stages["click"], abs=1e-9)
            whole = stages["click"] + stages["policy"] + stages["lifts"]
            assert whole == pytest.approx(stages["score"], abs=1e-9)
            drawn = (1 - part["explored"]) * part["law"] + (part["explored"] - part["floor"]) * part["aim"]
            assert drawn + part["floor"] / part["eligible"] == pytest.approx(item.propensity, abs=1e-12)
            assert len(slot["features"]) > 10
    first = answers[0]
    address = f"/v1/decisions/{first.decision_id}/why?item_id="
    everything = {*_everything(), *_ids(first)}  # what other tests have added may be shown, too
    verdicts = {item: (await _folded(rig, address + item))["verdict"] for item in everything}
    assert {name for name, verdict in verdicts.items() if verdict == "shown"} == _ids(first)
    seen = await _folded(rig, f"{address}crime-0")
    assert (seen["verdict"], seen["reason"]) == ("filtered", "seen")
    assert (await _folded(rig, address + "no-such-item"))["verdict"] == "unknown_item"
    for wrong, status in (("nonsense", 400), ("0197b0b0b0b0-ffff-0123456789ab", 404)):
        assert (await _get(rig, f"/v1/decisions/{wrong}"))[0] == status, wrong
    assert (await _get(rig, f"/v1/decisions/0{now_ms():011x}-0000-0123456789ab"))[0] == 404

    async with rig.http.delete(f"{rig.api}/v1/users/{users[0]}?wait_ms=30000") as erased:
        assert erased.status == 200
    assert (await _get(rig, f"/v1/decisions/{first.decision_id}"))[0] == 404
    assert (await _get(rig, address + "crime-1"))[0] == 404
    assert (await _get(rig, f"/v1/decisions/{answers[-1].decision_id}"))[0] == 200


def _everything() -> list[str]:
    return [item.item_id for item in make_items(GENRES, EACH)]


async def _folded(rig: Rig, path: str) -> dict[str, Any]:
    """Return what an address answers once what it names is folded."""

    async def answered() -> dict[str, Any] | None:
        status, text = await _get(rig, path)
        assert status in (200, 404), text
        found: dict[str, Any] = msgspec.json.decode(text)
        return found if status == 200 else None

    found: dict[str, Any] = await until(answered, f"{path} is there", 30.0)
    return found


# -- rules, filters, pages


async def test_rules_filters_and_pages_shape_the_next_slate_on_every_server(shared: Rig) -> None:
    rig, surface = shared, "shopwindow"
    wishes: dict[str, Any] = {"surface": surface, "k": 10, "filter": "genre in ['comedy', 'crime']"}
    answer = await rig.ask("window-shopper", **wishes)
    assert set(genres_of(answer)) <= {"comedy", "crime"}
    assert len(answer.items) == 10

    rules = f"{rig.api}/v1/rules/{surface}"
    pin = {"action": "pin", "item_id": "jazz-9", "position": 2, "changed_by": "ana", "why": "a campaign"}
    assert (await _write(rig, "put", f"{rules}/campaign", pin))["version"] == 1
    hide = {"action": "hide", "where": "genre == 'crime'"}
    made = await _write(rig, "put", f"{rules}/no-crime", hide, {"If-Match": '"1"'})
    assert (made["version"], sorted(made["rules"])) == (2, ["campaign", "no-crime"])
    await _write(rig, "put", f"{rules}/other", hide, {"If-Match": '"1"'}, status=412)
    wrong = {"action": "boost", "where": "genre ==", "factor": 2}
    refused = await _write(rig, "put", f"{rules}/other", wrong, status=400)
    assert (refused["field"], "at character 9" in refused["detail"]) == ("rules.other.where", True)

    for api in rig.processes.apis:

        async def is_everywhere(api: str = api) -> bool:
            slate = await rig.ask("window-shopper", api=api, surface=surface, k=10)
            return slate.items[2].item_id == "jazz-9" and not genres_of(slate)["crime"]

        await until(is_everywhere, f"the rules hold on {api}", 5.0)
    slate = await rig.ask("window-shopper", surface=surface, k=10)
    told = await _folded(rig, f"/v1/decisions/{slate.decision_id}")
    assert [slot["flag"] for slot in told["slots"]] == ["", "", "pinned", *[""] * 7]
    assert told["slots"][2]["propensity"] is None
    assert told["versions"]["rules"] == 2

    pages = [await rig.ask("window-shopper", surface=surface, k=10, page="first")]
    while pages[-1].next_page:
        pages.append(await rig.ask("window-shopper", surface=surface, k=10, page=pages[-1].next_page))
    met = [item.item_id for page in pages for item in page.items]
    assert len(met) == len(set(met)) > 50
    assert [item.position for page in pages for item in page.items] == list(range(len(met)))
    body = {"session_id": "x", "surface": surface, "page": pages[0].next_page}
    assert "page" in (await _write(rig, "post", f"{rig.api}/v1/recommendations", body, status=400))["detail"]
    body = {"session_id": "x", "filter": "genre = 'jazz'"}
    assert (await _write(rig, "post", f"{rig.api}/v1/recommendations", body, status=400))["field"] == "filter"

    async with rig.http.delete(f"{rules}/campaign?changed_by=ana") as removed:
        assert (removed.status, removed.headers["ETag"]) == (200, '"3"')
    async with rig.http.delete(f"{rules}/campaign") as again:
        assert again.status == 404


async def _write(
    rig: Rig, method: str, address: str, body: Any, headers: dict[str, str] | None = None, status: int = 200
) -> dict[str, Any]:
    async with rig.http.request(method, address, json=body, headers=headers) as answer:
        text = await answer.text()
        assert answer.status == status, text
        found: dict[str, Any] = msgspec.json.decode(text)
        return found


async def test_health_readiness_and_metrics_say_how_the_server_is(shared: Rig) -> None:
    rig = shared
    await rig.ask("someone", surface="measured")
    assert (await _get(rig, "/healthz"))[0] == 200
    status, text = await _get(rig, "/readyz")
    ready = msgspec.json.decode(text)
    assert (status, ready["ready"]) == (200, True)
    assert ready["items"] >= len(GENRES) * EACH
    assert ready["staleness_ms"] < 5_000

    async def is_logged() -> bool:
        return (await _samples(rig)).get("headwater_decisions_logged_total", 0) > 0

    await until(is_logged, "the decision is counted as logged")
    samples = await _samples(rig)
    families = {family.name for family in ServerMetrics().registry.collect()}
    _, text = await _get(rig, "/metrics")
    assert families <= {family.name for family in text_string_to_metric_families(text)}
    assert samples["headwater_decisions_lost_total"] == 0
    assert samples["headwater_staleness_seconds"] < 5
    assert any('surface="measured"' in line for line in text.splitlines())


async def _get(rig: Rig, path: str) -> tuple[int, str]:
    async with rig.http.get(rig.api + path) as answer:
        return answer.status, await answer.text()


async def _samples(rig: Rig) -> dict[str, float]:
    _, text = await _get(rig, "/metrics")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


ROUTES = {
    ("/v1/recommendations", "get"),
    ("/v1/recommendations", "post"),
    ("/v1/events", "post"),
    ("/v1/attribution", "get"),
    ("/v1/exploration/{surface}", "get"),
    ("/v1/exploration/{surface}", "put"),
    ("/v1/producers", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
}


async def test_the_openapi_document_is_valid_and_lists_the_routes(shared: Rig) -> None:
    status, text = await _get(shared, "/openapi.json")
    document = msgspec.json.decode(text)
    assert status == 200
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"]
    listed = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert listed >= ROUTES
    for path, method in listed & ROUTES:
        operation = document["paths"][path][method]
        assert operation["responses"]
        named = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert all(f"{{{name}}}" not in path or name in named for name in ("surface",))
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)
