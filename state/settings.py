"""Every setting, read from ``HEADWATER_*`` environment variables; a bad one is refused at start."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from state.rules import HeadRule, SurfaceKey, SurfaceRules

PREFIX = "HEADWATER_"
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0.0, le=1e10)]
_NODE = r"[^\s,/?#@]+:\d+"
_STORE = rf"^((redis|rediss|unix)://|rediss?\+cluster://([^\s/?#@]*@)?{_NODE}(,{_NODE})*(/0?)?(\?\S*)?$)"


class FeedbackKind(Struct, frozen=True, forbid_unknown_fields=True):
    """What one kind of feedback means.

    Attributes
    ----------
    reward
        Worth of it for the decision it belongs to, 0 to 1.
    sign
        1 an interaction the visitor liked, -1 one that removes the item for this visitor, 0 neutral.
    interest
        How strongly it moves taste and trends, 0 to 1.
    value_scale
        Where set, interest is multiplied by value / value_scale, clipped to 0..1.
    """

    reward: Share = 0.0
    sign: Annotated[int, Meta(ge=-1, le=1)] = 1
    interest: Share = 1.0
    value_scale: Annotated[float, Meta(gt=0.0)] | None = None


DEFAULT_FEEDBACK = {
    "like": FeedbackKind(reward=1.0),
    "dislike": FeedbackKind(sign=-1, interest=0.0),
    "hide": FeedbackKind(sign=-1, interest=0.0),
    "dwell": FeedbackKind(interest=0.5, value_scale=60.0),
    "add_to_cart": FeedbackKind(reward=1.0),
    "purchase": FeedbackKind(reward=1.0),
    "rating": FeedbackKind(value_scale=5.0),
}


HeadName = Literal["dwell", "purchase"]
DEFAULT_HEADS: dict[HeadName, HeadRule] = {
    "dwell": HeadRule(kinds=("dwell",), at_least=30.0),
    "purchase": HeadRule(kinds=("purchase",)),
}


SECRETS = ("token_secret", "erasure_secret", "pseudonym_secret", "kafka_sasl_password")
"""Settings that are never shown; any of them, and ``redis``, may stand in a file that ``..._FILE`` names."""


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it, its value and what is wished."""


class Settings(Struct, frozen=True, kw_only=True):
    """All settings; each is the environment variable ``HEADWATER_`` + its name in upper case.

    Attributes
    ----------
    namespace
        Topic and key prefix; one namespace is one tenant.
    kafka
        Bootstrap servers of the broker, HOST:PORT, separated by commas.
    redis
        URL of the store; user, password and TLS (``rediss://``) are part of it. A Redis Cluster is
        ``redis+cluster://HOST:PORT,HOST:PORT`` (``rediss+cluster://``): nodes of it, one of which answers.
    kafka_security_protocol
        PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
    kafka_sasl_mechanism
        PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    kafka_sasl_username
        User of SASL.
    kafka_sasl_password
        Password of SASL.
    kafka_ssl_cafile
        File of the certificate authority; the system's where empty.
    shards
        Partitions of the subject topics; fixed when a namespace is made.
    item_shards
        Partitions of the items topic; fixed when a namespace is made.
    lanes
        Partitions of the outcomes topic, each with its own click models; fixed when a namespace is made.
    replication
        Replication factor of topics that ``headwater topics create`` makes.
    attribution_window_s
        Event time a reward may still arrive after its impression.
    lateness_s
        How late any event may be.
    decision_wait_s
        How long a decision, or a reward without one, waits for its impression.
    session_idle_s
        Silence after which a subject's next event starts a new session.
    exploration_dwell_s
        Event time between two changes of a surface's exploration that are not forced.
    speed_up
        Divides attribution window, lateness, decision wait (with floors of 2 s, 0.5 s and 2 s), half-lives,
        session idle time and exploration dwell; for replays of data sets.
    max_skew_s
        How far ahead of the broker's clock an event may lie.
    decision_ttl_s
        When the store may collect a decision.
    subject_ttl_s
        When the store may collect a subject nobody touched; never before its decisions.
    raw_retention_s
        How long topics keep raw events, the journal and dead letters.
    decision_retention_s
        How long topics keep decisions and outcomes.
    block_life_s
        Event time after which the policy forgets an item it learns nothing of.
    shared_life_s, item_life_s, user_life_s
        Event time in which what the policy has learnt fades to 1 / e: coefficients all items share, an item's
        own, a visitor's own; 0 for never. Divided by the speed-up. Where one of them is set, blocks carry
        their time; docs/policies.md says when to set them.
    token_secret
        Signs decision tokens; the same on every server and worker, at least 16 characters.
    erasure_secret
        Keys the hashes of the erasure list and signs receipts, at least 16 characters; the token secret where
        empty. Keep it for as long as the list: under another one no entry of it is found.
    rebuild_within_s
        How long after an erasure the weights all visitors share may hold what was learnt of the subject.
    host
        Address the server listens on.
    port
        Port the server listens on.
    servers
        Processes `headwater serve` starts on that port, one a core is best; the kernel spreads connections.
    shared_port
        Whether other processes listen on the port, too; set for each of several servers.
    keys_file
        File of API keys, as ``headwater keys create`` writes it; looked at every second. docs/security.md.
    allow_open
        Whether a server may listen beyond loopback without keys: everybody who reaches it can write then.
    rate_limit, rate_burst
        Requests a second, and at once, that a key without a rate of its own may make of each server process;
        0 for no bound, and for twice the rate at once.
    max_in_flight
        Requests for recommendations a server process works on at once; where it is late, it takes fewer.
    drain_s
        How long a server goes on after SIGTERM, not ready any more, before it takes no new connections.
    tls_certificate, tls_key
        PEM files with which the server speaks TLS; plain HTTP where empty.
    tls_client_ca
        PEM file of the authorities whose certificates clients must show; none need to where empty.
    pseudonym_secret
        Keys the hashes that stand for user ids in all that is stored, at least 16 characters; ids are stored
        as they come where empty. docs/security.md says what producers do. Under another one nobody is found.
    holdout
        Share of subjects per surface that always get the overall trend.
    half_lives_s
        Of the trends, shortest first, JSON list; divided by the speed-up.
    knn
        JSON object of session-kNN settings that differ from the defaults.
    covisits
        JSON object of co-visitation settings that differ from the defaults.
    max_sessions
        Sessions kept for the session index, over all shards.
    metrics_port
        Where a worker serves its metrics; 0 for nowhere. Of several servers on one port, the n-th has an
        address of its own at this port + n, as the shared one answers for any of them.
    hidden_cap
        Items a subject may hide or dislike; one more is refused loudly.
    seen_cap
        Items remembered as seen, for at most 90 days.
    max_batch
        Events a folder takes into one commit.
    fetch_wait_ms
        Long-poll wait of the consumer group.
    session_timeout_s
        Session timeout of the consumer group; Apache Kafka's own minimum is 6 s.
    redis_timeout_ms
        How long a request waits for the store before it takes the next rung.
    feedback
        JSON object: kind -> reward, sign, interest, value_scale; replaces the defaults.
    attribution
        JSON object: surface, or ``*`` for all others -> rewards (``first``, ``max`` or ``sum``, the latter
        with a cap), default_reward, learn_unseen; docs/attribution.md says what they do.
    heads
        JSON object: ``dwell`` and ``purchase`` -> kinds of feedback that count as such, and the value they
        must reach (``at_least``); replaces the defaults. docs/models.md says what they do.
    seed
        Makes the random part of decision ids repeat; only for trying and tests.
    trace_share
        Share of requests and posts of events that begin a trace (OpenTelemetry, extra ``otel``); 0 for none
        at all, else those that arrive with a trace are part of it too. docs/metrics.md.
    log_level
        DEBUG, INFO, WARNING or ERROR.
    """

    namespace: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,31}$")] = "hw"
    kafka: Annotated[str, Meta(pattern=r"^[^\s:]+:\d+(,[^\s:]+:\d+)*$")] = "127.0.0.1:9092"
    redis: Annotated[str, Meta(pattern=_STORE)] = "redis://127.0.0.1:6379/0"
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = None
    kafka_ssl_cafile: str | None = None
    shards: Annotated[int, Meta(ge=1, le=4096)] = 4
    item_shards: Annotated[int, Meta(ge=1, le=256)] = 1
    lanes: Annotated[int, Meta(ge=1, le=64)] = 1
    replication: Positive = 1
    attribution_window_s: Seconds = 600.0
    lateness_s: Seconds = 30.0
    decision_wait_s: Seconds = 600.0
    session_idle_s: Seconds = 1800.0
    exploration_dwell_s: Annotated[float, Meta(ge=0.0, le=1e6)] = 60.0
    speed_up: Annotated[float, Meta(ge=1.0, le=1e6)] = 1.0
    max_skew_s: Seconds = 300.0
    decision_ttl_s: Seconds = 2_592_000.0
    subject_ttl_s: Seconds = 31_536_000.0
    raw_retention_s: Seconds = 7_776_000.0
    decision_retention_s: Seconds = 2_592_000.0
    block_life_s: Seconds = 7_776_000.0
    shared_life_s: Annotated[float, Meta(ge=0.0)] = 0.0
    item_life_s: Annotated[float, Meta(ge=0.0)] = 0.0
    user_life_s: Annotated[float, Meta(ge=0.0)] = 0.0
    token_secret: str = ""
    erasure_secret: str = ""
    rebuild_within_s: Seconds = 604_800.0
    host: str = "127.0.0.1"
    port: Port = 8080
    servers: Annotated[int, Meta(ge=1, le=256)] = 1
    shared_port: bool = False
    keys_file: str = ""
    allow_open: bool = False
    rate_limit: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0
    rate_burst: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0
    max_in_flight: Annotated[int, Meta(ge=1, le=65_536)] = 64
    drain_s: Annotated[float, Meta(ge=0.0, le=600.0)] = 5.0
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    pseudonym_secret: str = ""
    holdout: Share = 0.01
    half_lives_s: Annotated[tuple[Seconds, ...], Meta(min_length=1, max_length=6)] = (
        3_600.0,
        86_400.0,
        1_209_600.0,
    )
    knn: dict[str, float] = field(default_factory=dict)
    covisits: dict[str, float] = field(default_factory=dict)
    max_sessions: Positive = 100_000
    metrics_port: Port = 0
    hidden_cap: Positive = 10_000
    seen_cap: Positive = 2_000
    max_batch: Positive = 500
    fetch_wait_ms: Positive = 20
    session_timeout_s: Annotated[float, Meta(ge=1.0)] = 6.0
    redis_timeout_ms: Positive = 50
    feedback: dict[str, FeedbackKind] = field(default_factory=DEFAULT_FEEDBACK.copy)
    attribution: dict[SurfaceKey, SurfaceRules] = field(default_factory=dict)
    heads: dict[HeadName, HeadRule] = field(default_factory=DEFAULT_HEADS.copy)
    seed: int | None = None
    trace_share: Share = 0.0
    log_level: Annotated[str, Meta(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    @property
    def window_ms(self) -> int:
        """Attribution window in event time, ms."""
        return _scaled(self.attribution_window_s, self.speed_up, floor_ms=2000)

    @property
    def lateness_ms(self) -> int:
        """Lateness bound in event time, ms."""
        return _scaled(self.lateness_s, self.speed_up, floor_ms=500)

    @property
    def decision_wait_ms(self) -> int:
        """How long a decision waits for its impression, ms."""
        return _scaled(self.decision_wait_s, self.speed_up, floor_ms=2000)

    @property
    def trend_half_lives_s(self) -> tuple[float, ...]:
        """Half-lives of the trends in event time, s."""
        return tuple(seconds / self.speed_up for seconds in self.half_lives_s)

    @property
    def policy_lives_ms(self) -> tuple[float | None, ...]:
        """Event time in which shared, items' and visitors' blocks fade to 1 / e, ms; None for never."""
        lives = (self.shared_life_s, self.item_life_s, self.user_life_s)
        return tuple(1000.0 * life / self.speed_up or None for life in lives)

    @property
    def idle_ms(self) -> int:
        """Silence that ends a session, ms."""
        return _scaled(self.session_idle_s, self.speed_up, floor_ms=2000)

    @property
    def dwell_ms(self) -> int:
        """Event time between two changes of a document, ms."""
        return _scaled(self.exploration_dwell_s, self.speed_up, floor_ms=0)

    @property
    def max_skew_ms(self) -> int:
        """Allowed clock skew, ms."""
        return int(self.max_skew_s * 1000)

    def secret(self) -> bytes:
        """Return the token secret.

        Raises
        ------
        SettingsError
            If it is missing or short.
        """
        if len(self.token_secret) < 16:
            raise SettingsError(
                f"setting {PREFIX}TOKEN_SECRET has {len(self.token_secret)} characters; wished: at least 16"
            )
        return self.token_secret.encode()

    def erasure_key(self) -> bytes:
        """Return the secret of the erasure list.

        Raises
        ------
        SettingsError
            If it is short, or neither it nor the token secret is there.
        """
        if not self.erasure_secret:
            return self.secret()
        if len(self.erasure_secret) < 16:
            length = len(self.erasure_secret)
            raise SettingsError(
                f"setting {PREFIX}ERASURE_SECRET has {length} characters; wished: at least 16, or none"
            )
        return self.erasure_secret.encode()

    def pseudonym_key(self) -> bytes:
        """Return the secret of pseudonyms; empty where ids are stored as they come.

        Raises
        ------
        SettingsError
            If it is short.
        """
        if 0 < len(self.pseudonym_secret) < 16:
            length = len(self.pseudonym_secret)
            raise SettingsError(
                f"setting {PREFIX}PSEUDONYM_SECRET has {length} characters; wished: at least 16, or none"
            )
        return self.pseudonym_secret.encode()

    def __repr__(self) -> str:
        """Return the namespace alone: what is printed or logged must not hold a secret."""
        return f"Settings(namespace={self.namespace!r})"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that give these settings, for child processes."""
        given: dict[str, Any] = msgspec.to_builtins(self)
        return {PREFIX + k.upper(): _as_text(v) for k, v in given.items() if v is not None}


def _scaled(seconds: float, speed_up: float, *, floor_ms: int) -> int:
    return max(floor_ms, round(seconds * 1000 / speed_up)) if speed_up > 1 else round(seconds * 1000)


def _as_text(value: Any) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list | tuple) else str(value)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings an environment asks for.

    Raises
    ------
    SettingsError
        If a ``HEADWATER_*`` variable is unknown or its value cannot be used.
    """
    fields = set(Settings.__struct_fields__)
    given: dict[str, Any] = {}
    for variable, text in _with_files(environ).items():
        if not variable.startswith(PREFIX) or variable[len(PREFIX) :] in _NOT_SETTINGS:
            continue
        name = variable[len(PREFIX) :].lower()
        if name not in fields:
            raise SettingsError(f"setting {variable} is unknown; wished: one of {', '.join(sorted(fields))}")
        given[name] = _parsed(variable, name, text)
    return msgspec.convert(given, Settings)


_IN_FILES = (*SECRETS, "redis")
_CREDENTIALS = re.compile(r"//.*@")
_JSON = ("feedback", "attribution", "heads", "half_lives_s", "knn", "covisits")
_NOT_SETTINGS = {"TEST_KAFKA", "DATA", "CACHE"}


def _with_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with those that name a secret's file replaced by what is in it."""
    given = dict(environ)
    for name in _IN_FILES:
        variable = PREFIX + name.upper()
        path = given.pop(f"{variable}_FILE", None)
        if path is not None and variable in given:
            raise SettingsError(f"settings {variable} and {variable}_FILE are set; wished: one of them")
        if path is not None:
            given[variable] = _file_text(f"{variable}_FILE", path)
    return given


def _file_text(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise SettingsError(
            f"setting {variable} has value {path!r}; wished: a readable file ({why})"
        ) from None


def _parsed(variable: str, name: str, text: str) -> Any:
    secret = name in SECRETS
    try:
        value: Any = msgspec.json.decode(text) if name in _JSON else text
        return getattr(msgspec.convert({name: value}, Settings, strict=False), name)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        shown = "***" if secret else repr(_CREDENTIALS.sub("//***@", text))
        raise SettingsError(f"setting {variable} has value {shown}; wished: {error}") from None
