"""Run a command beside Apache Kafka: ``python -m tests.kafka.broker --version 4.x -- pytest -m integration``.

The command finds the brokers in HEADWATER_TEST_KAFKA and their version in TEST_KAFKA_VERSION.
"""

import argparse
import os
import subprocess
import sys

from tests.kafka.cluster import KafkaCluster


def main(argv: list[str]) -> int:
    """Start the brokers, run the command, stop the brokers and return the command's exit code."""
    options = _parse(argv)
    with KafkaCluster(options.version, options.brokers) as cluster:
        names = {"HEADWATER_TEST_KAFKA": cluster.bootstrap, "TEST_KAFKA_VERSION": options.version}
        return subprocess.run(options.command, env=os.environ | names, check=False).returncode


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.broker", description=main.__doc__)
    parser.add_argument("--version", default="4.x", help="4.x, 3.9.x or an exact version (default 4.x)")
    parser.add_argument("--brokers", type=int, default=1, help="size of the cluster (default 1)")
    parser.add_argument("command", nargs="+", help="what to run, after --")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
