"""Clients of the broker and the store, from settings alone."""

import ssl
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from state.cluster import ClusterClient, cluster_client, is_cluster
from state.packed_connection import packed
from state.settings import Settings


def kafka_security(settings: Settings) -> dict[str, Any]:
    """Return the security options every aiokafka client takes; empty for a plain-text broker."""
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return {}
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    if protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password,
        }
    return options


def redis_client(settings: Settings, *, timeout_s: float | None = None) -> aioredis.Redis | ClusterClient:
    """Return a client of the store, a single one or a cluster.

    Parameters
    ----------
    settings
        Where the store is.
    timeout_s
        Of one answer; None waits for ever, as a reader of a change feed does.
    """
    if is_cluster(settings.redis):
        return cluster_client(settings.redis, timeout_s)
    client = aioredis.Redis.from_url(
        settings.redis,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s or 2.0,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
    )
    pool = client.connection_pool
    pool.connection_class = packed(pool.connection_class)
    return client
