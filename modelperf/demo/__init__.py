"""Real and simulated energy meters, loaded through the services as any client would."""
