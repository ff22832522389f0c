"""Other people's data sets, in one store: `lightbagel prepare`.

layouts/ reads what people have, a row at a time; every row is checked; the store (`data/store.py`) is what training
opens.
"""
