"""What differs between releases of the harness, behind one face; everything else knows that face alone.

Each module asks what the installed harness offers, never for its number. From 0.4.11 to 0.5.0.dev1 these differ:

- `models`: where processes meet: at the model (`LM.barrier`), at the model's accelerator, or past both.
- `tasks`: how tasks are loaded by name, and who scores them: methods of the task, or its scorers.
- `names`: who names the filters that results are listed under: the requests, or the scorers.
- `templates`: where the Jinja environment of YAML files is.

`command` is what comes below the table of the harness's command, `loglikelihood_cache` what stays out of its cache.

Knows nothing of EAGER.
"""
