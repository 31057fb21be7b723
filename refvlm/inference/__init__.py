"""From a model to its exact quantities: this floor joins models to the enumeration."""
