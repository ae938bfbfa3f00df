"""Running trials away from the page: a queue in the store, one detached worker, a fresh process a trial."""
