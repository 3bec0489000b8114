"""Supervised fine-tuning, merging and how far merges stand from the trained model, callbacks, processes, publishing."""
