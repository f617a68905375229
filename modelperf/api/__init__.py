"""The REST API: one file a noun over the services, and what all nouns share."""
