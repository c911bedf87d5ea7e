"""Client of a Redis Cluster that behaves as folders and servers expect of a store."""

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError

SCHEME_MARK = "+cluster"
# Each follower of a change feed holds a connection of its own to its unit's node.
MAX_CONNECTIONS = 10_000
# Looking at the topology takes longer than a request may wait for its record.
LEAST_TIMEOUT_S = 1.0


class _KnownKeys(AsyncCommandsParser):
    """Where a command's keys stand, without asking: the list of all commands takes 0.1 s to parse."""

    async def initialize(self, node: ClusterNode | None = None) -> None:
        """Learn nothing."""

    async def get_keys(self, *args: Any) -> tuple[str, ...]:
        """Return the first key; all keys of a command of ours belong to one unit, and so to one slot."""
        return tuple(args[args.index(b"STREAMS") + 1 :][:1] if args[0] == "XREAD" else args[1:2])


class ClusterClient(RedisCluster):
    """redis-py's cluster client without the surprises.

    It never sends a command twice by itself (a commit must not happen twice unseen), looks at the topology
    in the background however short a caller's patience is, and raises one family of errors when nodes are
    away.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands_parser = _KnownKeys()
        self._looking: asyncio.Task[Any] | None = None

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> "ClusterClient":
        """Look at the topology if it is not known; a caller that gives up does not end the look."""
        if not self._initialize:
            return self
        if self._looking is None or self._looking.done():
            looking = super().initialize(additional_startup_nodes_info, last_failed_node_name)
            self._looking = asyncio.create_task(looking)
            self._looking.add_done_callback(_heed)
        await asyncio.shield(self._looking)
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command on the node that holds its key.

        Raises
        ------
        redis.exceptions.RedisError
            If the store refuses it or cannot be reached; it may have been executed.
        """
        try:
            await self.initialize()
            return await super().execute_command(*args, **kwargs)
        except asyncio.CancelledError:
            self._initialize = True  # the node that did not answer may be gone
            raise
        except (RedisError, OSError, TimeoutError):
            raise
        except Exception as error:  # routing that finds no node raises whatever it stumbles upon
            self._initialize = True
            why = f"{type(error).__name__}: {error}"
            raise StoreConnectionError(f"no node of the cluster for {args[0]} ({why})") from error

    async def aclose(self) -> None:
        """Close all connections, also when the topology is to be looked at anew."""
        if self._looking is not None and not self._looking.done():
            await asyncio.wait([self._looking])
        self._initialize = False
        await super().aclose()


def _heed(looking: "asyncio.Task[Any]") -> None:
    """Take notice of a failed look even where all who waited for it have given up."""
    if not looking.cancelled():
        looking.exception()


def is_cluster(url: str) -> bool:
    """Return whether a store's URL names a Redis Cluster."""
    return urlsplit(url).scheme.endswith(SCHEME_MARK)


def cluster_client(url: str, timeout_s: float | None) -> ClusterClient:
    """Return a client of the cluster whose nodes a URL names; one that answers is enough.

    Parameters
    ----------
    url
        ``redis+cluster://[[user]:password@]HOST:PORT[,HOST:PORT...]``, ``rediss+cluster://`` for TLS.
    timeout_s
        Of one answer; None waits for ever.
    """
    parts = urlsplit(url)
    login, _, nodes = parts.netloc.rpartition("@")
    first, *others = nodes.split(",")
    scheme = parts.scheme.removesuffix(SCHEME_MARK)
    netloc = f"{login}@{first}" if login else first
    options: dict[str, Any] = dict(parse_url(urlunsplit((scheme, netloc, "", parts.query, ""))))
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return ClusterClient(
        **options,
        startup_nodes=[ClusterNode(*_address(node)) for node in others],
        socket_timeout=None if timeout_s is None else max(timeout_s, LEAST_TIMEOUT_S),
        socket_connect_timeout=max(timeout_s or 2.0, LEAST_TIMEOUT_S),
        max_connections=MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
    )


def _address(node: str) -> tuple[str, int]:
    host, _, port = node.rpartition(":")
    return host.strip("[]"), int(port)
