"""How modelperf is put together and started."""
