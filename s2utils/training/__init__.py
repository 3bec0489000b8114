"""Supervised fine-tuning, merging, how far merges stand from the trained model, publishing."""
