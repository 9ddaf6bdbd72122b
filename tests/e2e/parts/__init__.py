"""Real parts of the end-to-end tests and the demo: homeservers, an SFU, workers, participants."""
