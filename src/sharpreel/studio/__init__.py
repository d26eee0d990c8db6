"""The studio: train, tune, test and compare in the browser, on top of the command line.

    browser ──pages──> `sharpreel train|tune|evaluate|upscale --json` in a process of its own
       ^                                     │
       └──── charts <── progress <── log.jsonl, batches.jsonl, events.jsonl in the run's folder

What a page starts is a command that could have been typed, and what it shows is read from the files
that the command writes. So nothing is lost when a page is closed, two pages see the same, and there
is no second implementation of anything.

    jobs.py       commands as processes: start, stop, who is alive, how it ended (no Streamlit)
    progress.py   a run's files -> numbers, curves and shares of the work (no Streamlit)
    charts.py     curves -> Vega-Lite
    parts.py      what several pages show: choosing videos, a job's state, errors in one line
    train_page.py  tune_page.py  test_page.py  runs_page.py
    app.py        the script that Streamlit runs
"""
