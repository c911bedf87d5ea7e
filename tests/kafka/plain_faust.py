"""The smallest Faust worker, run as a process by the tests: it prints each number it reads.

Arguments: bootstrap address, topic.
"""

import os
import sys
import tempfile

import faust


def main(bootstrap: str, topic: str) -> None:
    """Run the worker until it is stopped."""
    app = faust.App(
        f"{topic}-readers",
        broker=f"kafka://{bootstrap}",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        store="memory://",
        datadir=tempfile.gettempdir(),
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
    )

    @app.agent(app.topic(topic))
    async def read(numbers: faust.StreamT[bytes]) -> None:
        async for number in numbers:
            # Not by print, which Faust turns into log lines; and on a line of its own: when the first record
            # comes, the worker may have written "starting" there without an end of line.
            os.write(1, b"\nread %d\n" % int(number))

    sys.argv = [sys.argv[0], "worker", "--loglevel", "warn"]
    app.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
