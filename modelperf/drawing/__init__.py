"""Drawings and names of metrics that the admin and the pages share, made on the server."""
