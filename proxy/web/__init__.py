"""The HTTP side: pulls (`registry`), operators (`ops`). Owns no decisions."""
