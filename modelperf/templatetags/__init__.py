"""Filters of the templates, shared by the pages and the admin."""
