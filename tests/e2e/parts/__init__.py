"""The real parts that the end-to-end tests put together: homeservers, an SFU, workers, participants."""
