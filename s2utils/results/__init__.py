"""Tables with a schema, figures, formatting, tests' tables, claims."""
