"""Who runs when: admission, warm reuse, keep-alive, drain."""
