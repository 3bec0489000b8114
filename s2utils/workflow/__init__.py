"""Parameters, identity of artefacts, steps, running a notebook, redaction, packaged archives, provenance."""
