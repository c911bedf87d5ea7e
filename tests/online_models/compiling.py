"""What numba compiles after a warm-up, seen in a process of its own, where nothing was compiled before."""

import subprocess
import sys

_PROGRAM = """
import sys
from online_models.{module} import warm_up
warm_up()
def compiled():
    loops = {{}}
    for name, module in list(sys.modules.items()):
        if name.startswith("online_models"):
            for value in vars(module).values():
                if hasattr(value, "nopython_signatures"):
                    loops[f"{{value.__module__}}.{{value.__name__}}"] = len(value.nopython_signatures)
    return loops
before = compiled()
assert sum(before.values()) > 3, before
{work}
print(*sorted(name for name, count in compiled().items() if count > before.get(name, 0)))
"""


def compiled_after_warm_up(module: str, work: str) -> str:
    """Return the names of the loops that work (statements) compiles after a module's warm-up."""
    program = _PROGRAM.format(module=module, work=work)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
