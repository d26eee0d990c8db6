"""Hyperparameter search: train many settings of a recipe, and keep the best as a recipe file.

space.py    which settings are searched, and their ranges: JSON or TOML
search.py   trials, one after the other or in several processes
results.py  what a search reports and writes
study.py    the Optuna study, and its MLflow run
plots.py    plots of a study
"""
