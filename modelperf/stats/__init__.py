"""Statistics on plain arrays: what changed, since when, and how sure one may be of it."""
