"""The web pages: they read through querysets and write only through services."""
