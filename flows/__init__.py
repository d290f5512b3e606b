"""Verbs: where `pipeline` and `crevnet` meet, run by hand with `t4c` or by Prefect on a schedule."""
