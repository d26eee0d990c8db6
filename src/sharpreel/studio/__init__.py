"""The studio: train, tune, test and compare in the browser, on top of the command line.

    browser ──pages──> `sharpreel train|tune|evaluate|upscale --json` in its own process
       ^                                     │
       └──── charts <── progress <── log.jsonl, batches.jsonl, events.jsonl in the run's folder

A page starts a command that could have been typed, and shows what the command writes to files.
Therefore nothing is lost when a page is closed, and two pages show the same.

Without Streamlit:
    jobs.py         commands as processes: start, stop, how they ended
    follower.py     read JSON lines while they are written
    folder.py       where runs, searches and tests are, and their names
    curves.py       a run's lines -> nine curves
    progress.py     a run's lines -> progress bars
    charts.py       curves -> Vega-Lite
    mlflow_runs.py  runs and their curves from MLflow

With Streamlit:
    app.py          the script that Streamlit runs
    pages.py        the pages and the navigation between them
    train_page.py   train_form.py   tune_page.py   test_page.py   inference.py   runs_page.py
    widgets.py      what several pages show: choosing videos, a job's state, errors in one line
"""
