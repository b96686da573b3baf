"""A page in which the dream runs in the browser."""
