"""Sources, readers, filters, deduplication, splits, question writing, benchmark data."""
