"""Speed and statistics against their targets; each program prints target, measured and peer."""
