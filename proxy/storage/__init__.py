"""Durable truth: what survives a restart. Local disk here; S3 beside it."""
