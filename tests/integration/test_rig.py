"""What a test has started ends with it, however the test ends."""

import subprocess
import sys

from state.settings import Settings
from tests.integration.rig import Processes, is_alive


def test_whatever_a_test_leaves_running_is_ended_and_its_output_closed() -> None:
    with Processes(Settings(token_secret="of the tests only")) as processes:
        for word in ("print('said', flush=True)", "import time; time.sleep(60)"):
            command = [sys.executable, "-c", word]
            processes.children.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    for child in processes.children:
        assert not is_alive(child)
        assert child.stdout is not None
        assert child.stdout.closed
