"""DM Mathematics, made anew by the generator that The Pile's component came from (package `mathematics-dataset`).

A document is `QUESTIONS` questions of one module: a line, its answer on the next, then an empty line. They are made
in a process of their own, for the generator draws from global random states and from sets of texts, whose order hangs
on PYTHONHASHSEED. Trap: its release of 2018 expects a NumPy and a SymPy that are gone; `_mend` gives it back what it
misses. Left out are questions composed of others: their parts lie in sets in the order of memory, so the same seed
makes others each time. Source: Saxton et al. 2019, Analysing mathematical reasoning abilities of neural models.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator

QUESTIONS = 20  # of a document
UNSTEADY = ("polynomials__add", "polynomials__compose")  # composed, too


def documents(n: int, seed: int) -> Iterator[dict]:
    """`n` documents, rows of id and text; the same for the same seed, and the first of more are those of fewer."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(n), str(seed)]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment) as process:
        try:
            yield from map(json.loads, process.stdout)
        except GeneratorExit:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"mathematics-dataset ended with {process.returncode} after what it says above")


def _write(n: int, seed: int) -> None:
    """Print `n` documents, one a line, the modules in turn."""
    _mend()
    import numpy as np
    from sympy.core.random import seed as seed_sympy

    modules = _modules()
    for number in range(n):
        state = random.Random(f"{seed} {number}").getrandbits(32)
        random.seed(state)
        np.random.seed(state)
        seed_sympy(state)
        name, module = modules[number % len(modules)]
        problems = (module() for _ in range(QUESTIONS))
        text = "\n\n".join(f"{problem.question}\n{problem.answer}" for problem in problems)
        print(json.dumps({"id": f"{name}-{seed}-{number}", "text": text}), flush=True)


def _modules() -> list[tuple[str, Callable]]:
    """(name, what makes a question) of the training modules whose questions can be made again, sorted."""
    from mathematics_dataset.modules import modules

    found = [
        (f"{area}__{name}", module)
        for area, inside in modules.train(lambda entropy: entropy).items()
        for name, module in inside.items()
    ]
    return sorted((name, module) for name, module in found if not name.endswith("_composed") and name not in UNSTEADY)


def _mend() -> None:
    """What the generator misses: a name of SymPy's package, `numpy.object` and `ndarray.itemset`."""
    import numpy as np
    import sympy.solvers.diophantine  # noqa: F401  (its package's attribute of this name is a function)
    from sympy.solvers.diophantine.diophantine import base_solution_linear

    sys.modules["sympy.solvers.diophantine"].base_solution_linear = base_solution_linear
    from mathematics_dataset.sample import linear_system, polynomials

    class Array(np.ndarray):
        def itemset(self, place, value) -> None:
            self[place] = value

    class Old:
        object = object

        def __getattr__(self, name: str):
            return getattr(np, name)

        def empty(self, *args, **kwargs):
            return np.empty(*args, **kwargs).view(Array)

        def zeros(self, *args, **kwargs):
            return np.zeros(*args, **kwargs).view(Array)

    polynomials.np = linear_system.np = Old()


if __name__ == "__main__":
    _write(int(sys.argv[1]), int(sys.argv[2]))
