"""What to run, running it, keeping it: specs, trials, jobs, store, command line."""
