"""Where files come from: one module for each kind of place, and the cache that they share."""
