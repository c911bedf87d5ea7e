"""Which cluster a URL names: its nodes, who logs in, and whether TLS is spoken."""

import pytest

from state.cluster import ClusterClient, cluster_client, is_cluster
from state.settings import Settings, load_settings


def nodes_of(client: ClusterClient) -> set[str]:
    return {f"{node.host}:{node.port}" for node in client.startup_nodes}


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://a:7000",
        "redis+cluster://a:7000,b:7001/",
        "rediss+cluster://me:p%40ss@a:7000,b:7001/0?ssl_cert_reqs=none",
    ],
)
def test_a_cluster_is_a_store_as_the_settings_take_it(url: str) -> None:
    assert load_settings({"HEADWATER_REDIS": url}).redis == url
    assert is_cluster(url)
    assert not is_cluster(Settings().redis)


def test_every_named_node_may_be_asked_for_the_others() -> None:
    assert nodes_of(cluster_client("redis+cluster://a:7000,b:7001,c:7002", 1.0)) == {
        "a:7000",
        "b:7001",
        "c:7002",
    }


def test_login_tls_and_options_hold_for_every_node() -> None:
    url = "rediss+cluster://me:p%40ss@a:7000,b:7001/0?client_name=worker-1"
    client = cluster_client(url, 1.0)
    assert nodes_of(client) == {"a:7000", "b:7001"}
    for node in client.startup_nodes:
        options = node.connection_kwargs
        assert (options["username"], options["password"]) == ("me", "p@ss")
        assert options["client_name"] == "worker-1"
        assert "ssl_cert_reqs" in options


def test_a_command_is_never_sent_twice_by_the_client_itself() -> None:
    assert cluster_client("redis+cluster://a:7000", 1.0).retry.get_retries() == 0
