"""The business verbs: keyword-only, typed, atomic. Admin, API and commands share them."""
