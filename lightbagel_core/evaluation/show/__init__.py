"""Figures shown: tables, pictures of them, contact sheets, the paper's beside them."""
