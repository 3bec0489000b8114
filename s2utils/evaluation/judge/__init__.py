"""Prompts of a judge beside the readers of its replies; judgements, pairs, reliability, MT(S)-bench."""
