"""papermill as the graph calls it: its own command line, four seconds shorter a notebook.

    python -m s2utils notebook notebooks/03_sft.ipynb out.ipynb -p profile cpu

Two things took them: a grammar that jsonschema compiles at every import (`patches`), and a kernel that holds torch,
which takes three seconds to say goodbye; here it is ended after its last cell: artefacts are on disk by then, and its
outputs have arrived.
"""

from __future__ import annotations

import sys

from s2utils.workflow import patches


def run(arguments: list[str]) -> None:
    """The command line of papermill with `arguments`; 1 with the cell's error on the error stream where that fails."""
    patches.without_grammar()
    import yaml
    from papermill import cli, engines
    from papermill.exceptions import PapermillException

    class Headless(engines.NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            # seconds; papermill's 60 are too few for a first import on a busy machine
            kwargs["start_timeout"] = max(300, kwargs.get("start_timeout") or 0)
            return super().execute_managed_notebook(nb_man, kernel_name, shutdown_kernel="immediate", **kwargs)

    engines.papermill_engines.register(None, Headless)  # where --engine names no other
    try:
        cli.papermill(arguments)
    except (PapermillException, yaml.YAMLError, OSError, ValueError) as error:
        # without the stack trace of papermill's own
        sys.exit(str(error).strip())
