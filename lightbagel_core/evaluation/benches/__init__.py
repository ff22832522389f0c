"""One module a bench: what its prompt file asks for, the layout its official scorer reads, its formula."""
