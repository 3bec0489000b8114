"""Measures of one text: readability, toxicity, language, repetition, safe display."""
