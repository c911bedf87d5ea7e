"""Wire events: one struct per topic, the single source of schemas, validation and documents.

Unknown fields are kept by producers and ignored here; a new schema version accepts the old.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Id = Annotated[str, Meta(min_length=1, max_length=128, description="Opaque identifier, 1 to 128 characters.")]
SubjectId = Annotated[
    str, Meta(min_length=1, max_length=130, description="A user id, or s: and a session id.")
]
Name = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", description="Lower-case name, 1 to 64 characters.")
]
Text = Annotated[str, Meta(max_length=1024)]
EARLIEST_MS, LATEST_MS = 946_684_800_000, 4_102_444_800_000
EpochMs = Annotated[int, Meta(ge=EARLIEST_MS, le=LATEST_MS, description="Milliseconds since 1970.")]
Token = Annotated[str, Meta(min_length=1, max_length=512, description="Decision token of an answer.")]
Position = Annotated[int, Meta(ge=0, le=999)]
Whole = Annotated[int, Meta(ge=0, le=2**53, description="A number of things, or of a version.")]
SchemaVersion = Annotated[int, Meta(ge=1, le=1)]
Value = Annotated[float, Meta(ge=-1e9, le=1e9)]
AttributeList = Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=64)]
AttributeText = Annotated[str, Meta(max_length=2048)]
Attribute = bool | Value | AttributeText | AttributeList | None
Attributes = Annotated[dict[Annotated[str, Meta(max_length=64)], Attribute], Meta(max_length=64)]
Vector = Annotated[list[Value], Meta(min_length=2, max_length=1024)]
Packed = Annotated[str, Meta(description="Base64 of little-endian float64 numbers.")]


class Event(Struct, kw_only=True, omit_defaults=True):
    """What every event carries.

    Attributes
    ----------
    event_id
        Unique per event; a repeated id inside the lateness bound is dropped.
    occurred_at
        Event time, milliseconds since 1970.
    schema
        Version of the event's schema.
    producer
        Who published it, for producer health.
    """

    event_id: Id
    occurred_at: EpochMs
    schema: SchemaVersion = 1
    producer: Annotated[str, Meta(max_length=64)] | None = None


class SubjectEvent(Event, kw_only=True, omit_defaults=True):
    """An event of one visitor: of ``user_id`` where known, else of the session."""

    session_id: Id
    user_id: Id | None = None

    @property
    def subject(self) -> str:
        """Key of the event: the user id, else ``s:`` and the session id."""
        return self.user_id or f"s:{self.session_id}"  # as `subject_of`: asked for ten times an event


class ShownItem(Struct, omit_defaults=True):
    """One item of a slate and its 0-based place."""

    item_id: Id
    position: Position


class Impression(SubjectEvent, kw_only=True, omit_defaults=True):
    """What a client showed."""

    surface: Name
    items: Annotated[list[ShownItem], Meta(min_length=1, max_length=200)]
    decision: Token | None = None


class Click(SubjectEvent, kw_only=True, omit_defaults=True):
    """A click on an item, with the decision it belongs to where there was one."""

    item_id: Id
    surface: Name | None = None
    decision: Token | None = None


class Feedback(SubjectEvent, kw_only=True, omit_defaults=True):
    """Anything else a visitor says of an item; ``kind`` is looked up in the feedback registry."""

    item_id: Id
    kind: Name
    value: Value | None = None
    surface: Name | None = None
    decision: Token | None = None


class Item(Event, kw_only=True, omit_defaults=True):
    """Catalogue upsert; a null value under the item's key removes it."""

    item_id: Id
    title: Text = ""
    categories: AttributeList = []
    attributes: Attributes = {}
    available: bool = True
    published_at: EpochMs | None = None
    embedding: Vector | None = None


class User(Event, kw_only=True, omit_defaults=True):
    """Profile upsert, consent, login merge or erasure request of one user.

    ``merge_session`` names an anonymous session that turned out to be this user's; ``carried`` is filled
    in by the engine when that session's record travels to the user's shard, and so is ``proof``, without
    which nobody may erase an anonymous session. ``why`` is kept with an erasure.
    """

    user_id: SubjectId
    attributes: Attributes | None = None
    consent: Literal["full", "none"] | None = None
    merge_session: SubjectId | None = None
    carried: str | None = None
    erase: bool = False
    why: Annotated[str, Meta(max_length=512)] = ""
    proof: Annotated[str, Meta(max_length=64)] | None = None

    @property
    def subject(self) -> str:
        """Key of the event."""
        return self.user_id


class Slot(Struct, omit_defaults=True):
    """One place of a decided slate.

    ``propensity`` is conditional on the slate's prefix; ``flag`` names slots kept out of policy learning;
    ``new`` says that the surface owed the item impressions.
    """

    item_id: Id
    propensity: Annotated[float, Meta(gt=0.0, le=1.0)]
    eligible: Whole
    explored: bool = False
    source: str = ""
    flag: Literal["", "pinned", "fallback", "holdout"] = ""
    new: bool = False


class Aimed(Struct, omit_defaults=True):
    """The law of exploration where new items are owed impressions: ``uniform`` of it goes to everybody alike.

    ``places`` of candidates that are, and how many impressions they are ``owed``: they share the rest by that
    number times sigmoid of their scores. Without it exploration is uniform.
    """

    places: list[int]
    owed: list[int]
    uniform: float = 0.1


class Candidates(Struct, omit_defaults=True):
    """All candidates of a decision: ids, float64 scores, one source letter each, cut reasons by letter.

    ``uncut`` says how many more retrieved items were cut than are listed.
    """

    item_ids: list[str]
    scores: Packed
    sources: str
    cuts: str
    uncut: Whole = 0


class Placing(Struct, omit_defaults=True):
    """What a slate was put together by besides scores: K candidates' codes, packed.

    Attributes
    ----------
    slots
        Wanted.
    category_cap, categories
        Slots of one category at most (0 for no cap), and each candidate's, -1 for none: little-endian int16.
    diversity, signatures
        What full likeness to an item placed before took off a score, and what likeness is told by:
        little-endian uint64 whose differing bits stand for the angle between two items' vectors.
    """

    slots: int
    category_cap: int = 0
    categories: Packed = ""
    diversity: float = 0.0
    signatures: Packed = ""


class Weights(Struct, omit_defaults=True):
    """The linear part of the click model a slate was ranked by.

    ``base`` and the weight of each feature are packed as ``features`` (1 + f,); ``products`` (c,) are the
    weights of products of two feature columns, the pairs in ``crosses``. ``whole`` says that there is no
    other part, such as hashed crosses, latent factors or further heads.
    """

    features: Packed
    crosses: list[tuple[int, int]] = []
    products: Packed = ""
    whole: bool = True


class Versions(Struct, omit_defaults=True):
    """Which versions of things a decision was made under."""

    policy: str
    model: Whole
    exploration: Whole
    features: str
    ranking: Whole = 0
    rules: Whole = 0


class Decision(SubjectEvent, kw_only=True, omit_defaults=True):
    """One decided slate, logged by the server; ``event_id`` is the decision id.

    ``context`` (dc,) and ``features`` (slots, f) are packed float64, ``logits`` (slots,) the click model's
    and ``arms`` (slots, di) the policy's item features, as used for the draw. ``exploration`` is the law of
    the draw itself, that of the ``segment`` which the visit fits: by ``new_user`` and by ``facets``, what the
    request's context said. ``held_back`` says that a budget made its rate lower than its document says.
    ``aimed`` and ``placing`` are there where scores and law do not say all. ``shadows`` says how much
    likelier each shadow policy (name, @, version) was to draw the slate down to each slot, (slots,).
    ``weights`` are the click model's, ``policy`` and ``lifts`` what the policy's mean and boosts put on the
    logits, (slots,): so that a score can be taken apart long after. They are missing where no model ranked.
    ``before`` says how many items earlier pages had shown, ``rules`` names those that may have hidden items.
    """

    surface: Name
    rung: str
    slots: list[Slot]
    candidates: Candidates
    context: Packed
    features: Packed
    arms: Packed
    logits: Packed
    exploration: dict[str, float | str]
    versions: Versions
    seed: int
    staleness_ms: int = 0
    new_user: bool = False
    facets: dict[str, str] = {}
    segment: str = ""
    held_back: bool = False
    aimed: Aimed | None = None
    placing: Placing | None = None
    shadows: dict[str, Packed] = {}
    weights: Weights | None = None
    policy: Packed = ""
    lifts: Packed = ""
    before: Whole = 0
    rules: list[str] = []


class OutcomeSlot(Struct, omit_defaults=True):
    """One closed slot: what it was worth and how likely it was shown.

    ``defaulted`` says that nobody earned the reward: it is what the surface gives slots without any.
    ``earned`` names heads (``dwell``, ``purchase``) whose feedback came inside the window.
    """

    item_id: str
    position: int
    reward: float
    propensity: float
    explored: bool = False
    flag: str = ""
    defaulted: bool = False
    earned: list[str] = []


NEW_SOURCE = "f"
"""Source letter of candidates that nothing but their newness brought."""


class Coins(Struct, omit_defaults=True):
    """How a closed decision explored: what previews of another rate are made of.

    Attributes
    ----------
    segment
        Whose exploration it was; empty for that of the surface.
    rate
        Chance of each coin to say explore; 0 where nothing explores.
    tossed, explored
        Coins of the slate, and those of them that said explore.
    single
        Whether one coin decided about the whole slate.
    fresh, fresh_else
        Slots that showed what only newness brought: by exploring, and as the scheme drew them.
    """

    rate: float
    tossed: int
    explored: int = 0
    single: bool = False
    segment: str = ""
    fresh: int = 0
    fresh_else: int = 0


class Outcome(Event, kw_only=True, omit_defaults=True):
    """One closed decision; ``event_id`` is the decision id, ``occurred_at`` when its window closed.

    ``unseen`` says that no impression came: the surface takes its decisions for shown when they were made.
    ``labels`` are the heads whose slots' ``earned`` is known, ``facets`` those of the decision.
    ``coins`` is None where no policy drew the slate, or its slots explored at different rates. ``shadows`` is
    as in the decision.
    """

    subject: str
    surface: str
    lane: int
    shown_at: int
    slots: list[OutcomeSlot]
    features: Packed
    logits: Packed
    versions: Versions
    rung: str = ""
    unseen: bool = False
    labels: list[str] = []
    facets: dict[str, str] = {}
    coins: Coins | None = None
    shadows: dict[str, Packed] = {}


class DeadLetter(Event, kw_only=True, omit_defaults=True):
    """An event that could not be understood, with the reason and its raw bytes (base64).

    ``forwarded`` says that another shard passed it on. ``redrive`` is the first dead letter of an event that
    was re-driven and refused again. ``cut_from`` is the size in bytes of a value too large to be kept whole.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    raw: str
    key: str | None = None
    forwarded: bool = False
    redrive: str = ""
    cut_from: int = 0

    @property
    def origin(self) -> str:
        """The first letter of this event: what its re-drives are counted by."""
        return self.redrive or self.event_id


class Control(Event, kw_only=True, omit_defaults=True):
    """A change of a control document, for example ``exploration/home``.

    ``document`` holds all settings of its kind that shall not be the default. ``expects`` is the version in
    force that the change was made from: under another one it is refused. ``forced`` sets the bounds of steps
    aside and needs a ``why``; ``restores`` names the version whose settings come back. ``principal`` is
    who asked, as the entrance they used knows them.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z]+/[a-z0-9][a-z0-9_.-]{0,63}$")]
    document: dict[str, Any]
    changed_by: Annotated[str, Meta(max_length=128)] = ""
    why: Annotated[str, Meta(max_length=512)] = ""
    expects: Annotated[int, Meta(ge=0)] | None = None
    forced: bool = False
    restores: Annotated[int, Meta(ge=0)] | None = None
    principal: Annotated[str, Meta(max_length=128)] = ""


class Directive(Event, kw_only=True, omit_defaults=True):
    """What control passes on to a model lane: an accepted document of one of the kinds lanes follow.

    ``event_id`` and ``occurred_at`` are those of the change.
    """

    name: str
    document: dict[str, Any]
    version: int
    changed_by: str = ""
    why: str = ""
    forced: bool = False


def subject_of(user_id: str | None, session_id: str) -> str:
    """Return the subject a visitor's events are keyed by."""
    return user_id or f"s:{session_id}"


SUBJECT_KINDS = ("impressions", "clicks", "feedback", "users", "decisions")

EVENT_TYPES: dict[str, type[Event]] = {
    "impressions": Impression,
    "clicks": Click,
    "feedback": Feedback,
    "items": Item,
    "users": User,
    "decisions": Decision,
    "outcomes": Outcome,
    "directives": Directive,
    "deadletters": DeadLetter,
    "control": Control,
}


encode = msgspec.json.Encoder().encode
