"""Attention, caches and experts as small, readable PyTorch, which notebooks explain."""
