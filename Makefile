# `make demo` and `make test` do all their set-up themselves; see deploy/setup.sh.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench clean
python := .venv/bin/python

help: ## what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: ## .venv and system packages
	@deploy/setup.sh

demo: setup ## everything on this machine, end to end
	@.venv/bin/isthmus demo

test: setup ## all tests (ARGS="-k mincut" for some)
	@$(python) -m pytest -n 2 --no-loadscope-reorder $(ARGS)

lint: setup ## ruff and mypy --strict
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy .

format: setup ## let ruff rewrite what it can
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

bench: setup ## benchmarks: exactness and speed of the planner's solvers, as ratios
	@.venv/bin/isthmus testbed bench planner

clean: ## remove what the above made
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis runs
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
