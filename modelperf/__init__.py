"""Tracks the performance of fleets of models in production."""
