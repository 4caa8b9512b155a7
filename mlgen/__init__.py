"""mlgen: neural importance sampling, surrogates and jet radiation between matrix elements and events."""

__version__ = "0.1.0.dev0"
