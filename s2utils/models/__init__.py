"""Load, ask, generate, embed; clients of servers."""
