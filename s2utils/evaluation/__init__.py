"""Metrics, scores of single samples, text metrics, the leaderboard, the judge."""
