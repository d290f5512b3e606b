"""Verbs: where `pipeline` and `crevnet` meet, run by hand (`t4c`) or by Prefect."""
