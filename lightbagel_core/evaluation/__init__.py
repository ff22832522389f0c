"""How good a model is, in numbers; `lightbagel bench` is its command line, docs/bench.md its page.

To be read in this order: bench.py and items.py (what a bench asks for), scores.py and statistics.py (figures and their
intervals); benches/ (the paper's) and suites/ (the nano's own); drawing/ (pictures, by one process or many); judge/ (a
model that grades pictures); show/ (tables and pictures of figures); lmms/ (describing, for lmms-eval).
"""
