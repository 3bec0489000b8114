"""The write-up: its templates, and what they read of the tables."""
