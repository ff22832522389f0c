.POSIX:
.PHONY: help check quick test slow comfy sweep soak

# Another Python: make PYTHON=python3.13 quick
PYTHON = python

# What breaks first when the model, the sampler or a picture goes wrong, in about ten seconds.
QUICK = tests/test_rooms.py tests/test_images.py tests/sampling tests/model/test_sequence.py \
	tests/model/test_attention.py tests/model/test_vae.py tests/world \
	tests/model/test_forward.py::test_velocity_matches_the_oracle

help:
	@echo "make check   style, formatting and types: ruff, mypy"
	@echo "make quick   the tests of the ten-second loop"
	@echo "make test    the tests, as the README runs them"
	@echo "make slow    the tests that make test leaves out"
	@echo "make comfy   the node pack in a real ComfyUI, which is fetched: .ci/comfy"
	@echo "make sweep   every stock node of the ComfyUI in COMFYUI_PATH, into docs/sweep.md"
	@echo "make soak    what takes long in ComfyUI: the sweep, 500 runs in a row, 1,000 random graphs"

check:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# One thread: the models of these tests are too small for two.
quick:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q $(QUICK)

test:
	$(PYTHON) -m pytest tests

slow:
	$(PYTHON) -m pytest tests -m slow

comfy:
	.ci/comfy

sweep:
	OMP_NUM_THREADS=1 $(PYTHON) tests/comfy/sweep/run.py --write

# With the Python of the ComfyUI in COMFYUI_PATH. One thread: the nano is too small for two.
soak: sweep
	OMP_NUM_THREADS=1 $(PYTHON) tests/comfy/soak.py --runs 500 --seed 1
	OMP_NUM_THREADS=1 $(PYTHON) tests/comfy/fuzz.py --graphs 1000 --seed 1
