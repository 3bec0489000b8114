# A thin front: everything below runs the same commands you can type yourself.
#   make reproduce [PROFILE=cpu] [SET='sft.max_steps=5'] [CORES=2] [MEM_MB=5600]
SHELL := /bin/bash
PROFILE ?= cpu
PROFILES ?= $(PROFILE)
SET ?=
PREFLIGHT ?= 1
PYTHON ?= python3
# on a cluster the limits are a single job's, so they must not be those of a laptop
CORES ?= $(if $(findstring cluster/,$(FLAGS)),1000,$(shell getconf _NPROCESSORS_ONLN))
MEM_MB ?= $(if $(findstring cluster/,$(FLAGS)),1000000,5600)
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
export S2_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/s2
# keep Jupyter, IPython and matplotlib from writing into the home folder
export JUPYTER_RUNTIME_DIR := $(S2_CACHE)/jupyter/runtime
export JUPYTER_DATA_DIR ?= $(S2_CACHE)/jupyter
export JUPYTER_CONFIG_DIR ?= $(S2_CACHE)/jupyter/config
export IPYTHONDIR := $(S2_CACHE)/ipython
export MPLCONFIGDIR := $(S2_CACHE)/matplotlib
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE

# a value as one word of the shell, whatever it holds
quoted = '$(subst ','\'',$(1))'
# FLAGS goes to Snakemake as it is: FLAGS="--profile cluster/slurm" or FLAGS=-n
# Snakemake takes a quote off the end of a value, so a blank follows SET
SNAKEMAKE = python -m s2utils run $(FLAGS) --cores $(CORES) --resources mem_mb=$(MEM_MB) gpu=1 --rerun-triggers mtime params input \
  --rerun-incomplete --nolock --scheduler greedy --config profile=$(call quoted,$(PROFILE)) \
  set=$(if $(SET),$(call quoted,$(SET) )) preflight=$(call quoted,$(PREFLIGHT))

.PHONY: help setup reproduce study test lint format report compare lab audit corpus bench preflight publish clean clean-artefacts ask progress gpu-check
help:            ## this list
	@grep -hE '^[a-z].*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

setup: .venv/ready  ## virtual environment from the lock, models and data into the cache
.venv/ready: requirements.lock pyproject.toml s2utils/workflow/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) s2utils/workflow/install.py

reproduce: setup  ## every notebook of PROFILE, from sources to report
	@$(SNAKEMAKE)
	@python -m s2utils report $(call quoted,$(PROFILE)) --show

study: setup      ## notebooks 01 to 08 and their report alone: no later one is run
	@$(SNAKEMAKE) part=study
	@python -m s2utils report $(call quoted,$(PROFILE)) --show

preflight: setup  ## what a run of PROFILE lacks, and what it will take: hours, memory, disk, dollars
	@python -m s2utils preflight $(call quoted,$(PROFILE)) --set $(call quoted,$(SET))

$(patsubst notebooks/%.ipynb,%,$(wildcard notebooks/*.ipynb)): setup  # make 03_sft: one notebook and what it needs
	@$(SNAKEMAKE) -- $(if $(filter-out 0,$(PREFLIGHT)),$(call quoted,artefacts/$(PROFILE)/preflight/.done)) \
	  $(call quoted,artefacts/$(PROFILE)/)"$$(python -m s2utils step $@)"/.done

test: setup       ## all tests; make test FAST=1 leaves the slow ones out
	@python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(FAST),-m "not slow")

lint: setup       ## ruff, which room imports which, no outputs in notebooks, their maps, no module over 350 lines
	@ruff check . && ruff format --check . && nbstripout --verify --keep-id notebooks/*.ipynb && lint-imports --no-cache \
	  && python -m s2utils maps --check && { ! wc -l s2utils/*.py s2utils/*/*.py s2utils/*/*/*.py | awk '$$1 > 350 && $$2 != "total"' | grep .; }

format: setup     ## make lint happy
	@ruff check --fix . ; ruff format . ; nbstripout --keep-id notebooks/*.ipynb; python -m s2utils maps

report: setup     ## the pages again; PROFILES="a100-7b a100-13b" joins profiles of one study
	@python -m s2utils report $(foreach one,$(PROFILES),$(call quoted,$(one))) --set $(call quoted,$(SET))

compare: setup    ## what changed between two reports: A=cpu B=reports/other (profiles or folders)
	@python -m s2utils compare $(call quoted,$(A)) $(call quoted,$(B))

audit: setup      ## score what was made elsewhere: PREDICTIONS=folder [REFERENCES=file] JUDGEMENTS=file ANSWERS=folder QUESTIONS=file
	@python -m s2utils audit $(if $(PREDICTIONS),--predictions $(call quoted,$(PREDICTIONS))) $(if $(REFERENCES),--references $(call quoted,$(REFERENCES))) \
	  $(if $(JUDGEMENTS),--judgements $(call quoted,$(JUDGEMENTS))) $(if $(ANSWERS),--answers $(call quoted,$(ANSWERS))) \
	  $(if $(QUESTIONS),--questions $(call quoted,$(QUESTIONS))) --profile $(call quoted,$(PROFILE)) --set $(call quoted,$(SET))

corpus: setup     ## what is in a corpus, as a page: TEXTS=folder [TEXT=column] [DOMAIN=column] [SAMPLE=10000]
	@python -m s2utils corpus $(if $(TEXTS),$(call quoted,$(TEXTS))) $(if $(TEXT),--text $(call quoted,$(TEXT))) $(if $(DOMAIN),--domain $(call quoted,$(DOMAIN))) \
	  $(if $(SAMPLE),--sample $(call quoted,$(SAMPLE))) --profile $(call quoted,$(PROFILE)) --set $(call quoted,$(SET))

lab: setup        ## JupyterLab with the kernel registered
	@python -m ipykernel install --sys-prefix --name python3 --display-name "Python 3 (ipykernel)" >/dev/null
	@TQDM_DELAY=1 jupyter lab --notebook-dir=.  # no bar for what is done in a second

ask: setup        ## every model's answer to Q="why is the sky blue?", side by side; MODEL= picks one
	@python -m s2utils ask $(call quoted,$(PROFILE)) $(call quoted,$(Q)) --model $(call quoted,$(MODEL)) --set $(call quoted,$(SET))

progress: setup   ## what the running jobs of PROFILE said last: their bars, and when they will be done
	@python -m s2utils progress $(call quoted,$(PROFILE))

gpu-check:        ## on a GPU: what must be the same there, and the smoke study on it [WEIGHTS=folder]; needs no network
	@python$(if $(wildcard .venv/bin/python),,3) -m s2utils gpu-check $(if $(WEIGHTS),--weights $(call quoted,$(WEIGHTS)))

bench: setup      ## every script in benchmarks/; QUICK=1 takes the short form of each
	@for script in $(filter-out benchmarks/measure.py,$(wildcard benchmarks/*.py)); do \
	  echo "$$script"; python $$script $(if $(filter 1 yes,$(QUICK)),--quick) || exit 1; done

publish: setup    ## list what WHAT=artefacts/cpu/sft/sciq TO=me/name would push to the hub; YES=1 pushes it [NAMED=sciq]
	@python -m s2utils publish $(call quoted,$(WHAT)) $(call quoted,$(TO)) $(if $(NAMED),--named $(call quoted,$(NAMED))) $(if $(filter 1 yes,$(YES)),--yes)

clean-artefacts: setup  ## list what PROFILE takes on disk; YES=1 deletes what is not current, ALL=1 the rest too [STEP=merged]
	@python -m s2utils disk $(call quoted,$(PROFILE)) --set $(call quoted,$(SET)) --step $(call quoted,$(STEP)) $(if $(filter 1 yes,$(ALL)),--all) $(if $(filter 1 yes,$(YES)),--yes)

clean:            ## delete the artefacts and reports of PROFILE
	@name=$(call quoted,$(PROFILE)); case "$$name" in */*) false;; *) test -f "params/$${name%%@*}.yaml";; esac \
	  || { echo "there is no profile '$$name' in params/: nothing is deleted" >&2; exit 2; }
	rm -rf $(call quoted,artefacts/$(PROFILE)) $(call quoted,reports/$(PROFILE)) .snakemake
