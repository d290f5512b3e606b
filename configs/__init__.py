"""One YAML file a run; packaged so that an installed `t4c` finds them."""
