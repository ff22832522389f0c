"""Model files: what formats there are, how they are opened, converted, written and fetched."""
