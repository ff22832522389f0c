"""The command line: what can be asked, what is done, what a person is told."""
