"""Networks and their training: torch and its kin, and nothing that knows a file or a city."""
