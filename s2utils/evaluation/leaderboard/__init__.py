"""Open LLM Leaderboard on lm-evaluation-harness: protocols, evaluation, what a killed run resumes from."""
