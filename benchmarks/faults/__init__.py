"""What breaks on purpose, longer and harder than the tests do."""
